import errno
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from lmri import cli
from lmri.errors import StoreError
from lmri.store import read_manifest, write_manifest, writing_lock

# What each command must hand to its stage: the contract between the two.
CALLS = {
    "train-base": ("subjects", "train_base", {"base_seed", "world_seed", "world_size", "recipe"}),
    "train": (
        "subjects",
        "prepare_subject",
        {"out", "manifest", "options", "base", "world", "training", "provenance"},
    ),
    "stimuli": (
        "stimuli",
        "write_stimuli",
        {"out", "task", "options", "splits", "world", "seed", "provenance"},
    ),
    "record": (
        "record",
        "record_task",
        {"out", "manifest", "subject", "model", "task", "stimuli", "shard", "options", "seed"}
        | {"load", "provenance"},
    ),
    "localise": (
        "localise",
        "localise_subject",
        {"subject", "model", "stimuli", "recordings", "maps", "findings", "tasks", "contrasts"}
        | {"options", "load", "evidence", "claims", "stated", "seed", "provenance"},
    ),
    "calibrate": (
        "sparse",
        "calibrate_subject",
        {"subject", "model", "recordings", "out", "options", "load", "seed", "provenance"},
    ),
    "record-sparse": (
        "sparse",
        "record_sparse",
        {"out", "manifest", "subject", "model", "task", "stimuli", "plan", "options", "seed"}
        | {"load", "provenance"},
    ),
    "survive": (
        "localise",
        "compare_maps",
        {"subject", "model", "stimuli", "maps", "recordings", "out", "contrasts", "carriers"}
        | {"options", "load", "evidence", "seed", "provenance"},
    ),
    "sparse-run": (
        "sparse",
        "measure_subject",
        {"subject", "model", "stimuli", "tasks", "plans", "out", "options", "load", "seed"}
        | {"provenance"},
    ),
    "information": (
        "information",
        "information_subject",
        {"subject", "model", "recordings", "out", "tasks", "options", "load", "seed"}
        | {"provenance"},
    ),
    "decode": (
        "decode",
        "decode_subject",
        {"subject", "recordings", "findings", "out", "tasks", "contrasts", "phases", "options"}
        | {"seed", "provenance"},
    ),
    "examples": (
        "examples",
        "find_examples",
        {"subject", "model", "recordings", "findings", "maps", "out", "tasks", "contrasts"}
        | {"names", "phase", "options", "seed", "provenance"},
    ),
    "dynamics": (
        "information",
        "follow_series",
        {"series", "profiles", "study", "out", "steps", "tasks", "sensitive", "others", "seed"}
        | {"provenance"},
    ),
    "connect": (
        "connect",
        "connect_subject",
        {"subject", "recordings", "out", "tasks", "contrasts", "options", "seed", "provenance"},
    ),
    "align": (
        "align",
        "align_subjects",
        {"recordings", "out", "subjects", "tasks", "options", "seed", "provenance"},
    ),
    "draws": (
        "validate",
        "score_draws",
        {"subject", "model", "stimuli", "findings", "out", "shard", "options", "load", "seed"}
        | {"provenance"},
    ),
    "validate": (
        "validate",
        "validate_subject",
        {"subject", "model", "stimuli", "findings", "plan", "out", "options", "load", "seed"}
        | {"subjects", "draws", "provenance"},
    ),
    "bottleneck-summary": (
        "information.bottleneck",
        "summarise_bottleneck",
        {"settings", "out", "options", "seed", "provenance"},
    ),
    "report": ("report", "write_report", {"study", "out", "config", "provenance"}),
}

OF_A_SUBJECT = [
    *("record", "localise", "information", "decode", "validate", "examples"),
    *("calibrate", "record-sparse", "survive", "sparse-run"),
]

VALUES = {"--subject": "localised", "--task": "events", "--seed": "3", "--shard": "0"}
VALUES |= {"--series": "growth"}


@pytest.fixture
def arguments(repository, tmp_path):
    """Make the arguments of a command on the default study, with paths below a fresh folder."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    write_manifest(tmp_path / "model", tmp_path / "model.manifest.json")

    def make(command: str) -> list[str]:
        made = [command]
        for name in cli.COMMANDS[command][2].split():
            flag = name.removesuffix("?")
            if flag in {"--preview", "bundle"}:
                continue
            default = str(tmp_path / flag.removeprefix("--"))
            made += [flag, VALUES.get(flag, default)]
        study = "studies/information-training.yaml" if command == "dynamics" else "config.yaml"
        made[made.index("--config") + 1] = str(repository / "config" / study)
        return made

    return make


@pytest.mark.parametrize("command", CALLS)
def test_command_calls_its_stage(monkeypatch, arguments, tmp_path, command):
    package, function, expected = CALLS[command]
    seen = {}
    fake = types.ModuleType(f"lmri.{package}")
    setattr(fake, function, lambda *positional, **named: seen.update(named))
    fake.Recipe = types.SimpleNamespace(from_dict=dict)
    monkeypatch.setitem(sys.modules, f"lmri.{package}", fake)
    assert cli.main(arguments(command)) == 0
    assert set(seen) == expected
    if command in OF_A_SUBJECT:
        manifest = read_manifest(tmp_path / "model.manifest.json")
        assert seen["provenance"]["subject"] == manifest["sha256"]


def test_networks_of_a_setting_are_trained_from_a_slice(tmp_path):
    own = {"activations": ["tanh"], "l2": [0], "initialisations": 2, "epochs": 2, "samples": 64}
    values = {"seed": 0, "setting": "tanh", "bottleneck": own}
    command = ["bottleneck", "--config", json.dumps(values), "--setting", "tanh", "--out"]
    assert cli.main([*command, str(tmp_path / "tanh")]) == 0
    written = sorted(path.name for path in (tmp_path / "tanh").iterdir())
    assert written == ["information.parquet", "training.parquet"]


@pytest.mark.parametrize("command", OF_A_SUBJECT)
def test_a_subject_altered_since_it_was_prepared_is_refused(arguments, tmp_path, capsys, command):
    made = arguments(command)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"Weights")
    assert cli.main(made) == 2
    assert "'model.safetensors' was altered" in capsys.readouterr().err


@pytest.mark.parametrize("command", CALLS)
def test_stage_takes_what_the_command_hands_over(command):
    import importlib
    import inspect

    package, function, expected = CALLS[command]
    stage = getattr(importlib.import_module(f"lmri.{package}"), function)
    parameters = inspect.signature(stage).parameters
    needed = {name for name, p in parameters.items() if p.default is p.empty} - {"out"}
    assert needed <= expected | {"out"}
    assert expected <= set(parameters)


def test_help_loads_no_stage():
    code = (
        "import sys\n"
        "from lmri import cli\n"
        "try:\n    cli.main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in "
        "{'torch', 'numpy', 'pandas', 'transformers', 'zarr', 'jsonschema'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "localise" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_says_what_a_study_would_run(repository, capsys):
    assert cli.main(["check", str(repository / "config/config.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "subjects   2: localised, distributed" in lines
    assert (
        "jobs       34: 2 subject, 5 stimuli, 10 record, 2 localise, 1 group, 2 calibrate, "
        "2 record_sparse, 2 survive, 2 sparse_run, 2 examples, 2 validate, 1 compare, "
        "1 report" in lines
    )
    assert "sham maps  99 at each primary endpoint" in lines
    assert "report     results/default/report/index.html" in lines
    assert any(line.startswith("planner    refusal: to stay within 0.1") for line in lines)
    assert any("copying: 182 evaluation trials, enough if at most 17%" in line for line in lines)
    assert "3 secondary claims x 2 findings: 99 sham maps give a corrected p of" in lines[-1]
    assert lines[-1].endswith("at least 0.06 if only one of them is true; 119 can give 0.05")


def test_user_error_is_one_line_and_exit_code_2(tmp_path, capsys):
    study = tmp_path / "my.yaml"
    study.write_text("study: x\nsubject: {}\n")
    assert cli.main(["check", str(study)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"lmri: error: {study}: unknown key 'subject'")
    assert captured.err.count("\n") == 1


def failing(error: BaseException):
    def run(options):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b.zarr"), "place: no space left"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "place: no space left"),
        (PermissionError(errno.EACCES, "Permission denied", "a.parquet"), "a.parquet: Permission"),
        (StoreError("a.zarr: damaged\n  twice"), "a.zarr: damaged twice"),
    ],
)
def test_errors_of_the_machine_are_one_line(monkeypatch, capsys, error, message):
    monkeypatch.setitem(cli.COMMANDS, "report", (failing(error), "", "--out"))
    assert cli.main(["report", "--out", "place"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"lmri: error: {message}")
    assert err.count("\n") == 1


def test_disk_full_below_another_error_is_found():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as cause:
            raise ValueError("could not write") from cause
    except ValueError as error:
        message = cli.user_message(error, types.SimpleNamespace(out=Path("here")))
    assert message.startswith("here: no space left")


def test_defects_and_verbose_keep_their_traceback(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "report", (failing(KeyError("x")), "", "--out"))
    with pytest.raises(KeyError):
        cli.main(["report", "--out", "place"])
    monkeypatch.setitem(cli.COMMANDS, "report", (failing(StoreError("x")), "", "--out"))
    with pytest.raises(StoreError):
        cli.main(["report", "--out", "place", "-v"])


def test_verify_finds_a_changed_byte(tmp_path, capsys):
    from lmri.store import write_manifest

    store = tmp_path / "0.zarr"
    store.mkdir()
    (store / "chunk").write_bytes(b"abc")
    write_manifest(store, tmp_path / "0.zarr.manifest.json")
    assert cli.main(["verify", str(store)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["1 stores checked: 1 as written, 0 damaged"]
    (store / "chunk").write_bytes(b"xyz")
    (store / "added").write_bytes(b"")
    assert cli.main(["verify", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{store}: DAMAGED: 'chunk' was altered (SHA-256 differs); 'added' is not in the manifest",
        "1 stores checked: 0 as written, 1 damaged",
        "2 problems: remove each damaged store together with its manifest, "
        "then run again what wrote it",
    ]


def test_verify_of_a_path_without_a_store_is_an_error_of_the_user(tmp_path, capsys):
    assert cli.main(["verify", str(tmp_path)]) == 2
    assert "no manifest below it" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "used"), [(None, "1"), ("4", "4")])
def test_threads_are_those_of_the_environment_and_else_one(monkeypatch, capsys, given, used):
    monkeypatch.delenv("OMP_NUM_THREADS")
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    seen = []
    run = lambda options: seen.append(os.environ["OMP_NUM_THREADS"])  # noqa: E731
    monkeypatch.setitem(cli.COMMANDS, "report", (run, "", ""))
    assert cli.main(["report"]) == 0
    assert seen == [used]


@pytest.mark.parametrize(
    ("command", "given", "used"),
    [("report", None, "1"), ("report", "0", "0"), ("train", None, None)],
)
def test_only_what_fetches_may_ask_a_hub(monkeypatch, command, given, used):
    monkeypatch.setenv("HF_HUB_OFFLINE", given or "")
    if given is None:
        monkeypatch.delenv("HF_HUB_OFFLINE")
    seen = []
    run = lambda options: seen.append(os.environ.get("HF_HUB_OFFLINE"))  # noqa: E731
    monkeypatch.setitem(cli.COMMANDS, command, (run, "", ""))
    assert cli.main([command]) == 0
    assert seen == [used]


def test_being_told_to_stop_leaves_no_lock(tmp_path, monkeypatch, capsys):
    """SIGTERM is what a scheduler sends before it takes a place away."""

    def stop(*arguments, **options):
        with writing_lock(tmp_path / "0.zarr"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    monkeypatch.setattr("lmri.anatomy.read_configuration", stop)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["anatomy", "somewhere"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_reader_that_has_seen_enough_is_no_error(repository):
    command = f"{sys.executable} -m lmri.cli check config/config.yaml | head -1"
    ended = subprocess.run(command, shell=True, cwd=repository, capture_output=True, text=True)
    assert ended.stdout.startswith("study")
    assert ended.stderr == ""
