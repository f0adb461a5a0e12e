"""A change reruns the stage it touches and what is downstream of it, nothing else."""

import copy
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

READS = {
    "record": {"stimuli"},
    "localise": {"record"},
    "group": {"localise"},
    "calibrate": {"record"},
    "record_sparse": {"calibrate"},
    "survive": {"localise", "record_sparse"},
    "sparse_run": {"calibrate"},
    "validate": {"localise", "calibrate"},
    "examples": {"localise"},
    "report": {"group", "survive", "sparse_run", "validate", "examples"},
}
"""Stages, and whose files they read."""


def downstream(stage: str) -> set[str]:
    following = {stage}
    for later, read in READS.items():
        if read & following:
            following.add(later)
    return following


def test_run_writes_the_report_and_the_verdicts(finished):
    study = finished.root / "results/small"
    assert (study / "report/index.html").stat().st_size > 1000
    assert (study / "verdicts.parquet").is_file()
    assert list((study / "logs").rglob("*.log"))
    assert list((study / "benchmarks").rglob("*.tsv"))


def test_second_run_has_nothing_to_do(finished):
    done = finished.run("--configfile", "small.yaml")
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("section", "key", "value", "stage"),
    [
        ("report", "transcripts", 2, "report"),
        ("validate", "bootstrap", 101, "validate"),
        ("evidence", "margin", 0.11, "localise"),
        ("localise", "permutations", 20, "localise"),
        ("record", "rows", 64, "record"),
        ("examples", "window", 5, "examples"),
        ("sparse", "loss", 0.02, "calibrate"),
    ],
)
def test_changed_value(finished, small, section, key, value, stage):
    study = copy.deepcopy(small)
    study[section][key] = value
    plan = finished.plan("--configfile", finished.write("changed.yaml", study))
    assert set(plan) == downstream(stage)


def test_another_data_type_prepares_no_subject_again(finished, small):
    study = copy.deepcopy(small)
    next(iter(study["subjects"].values()))["dtype"] = "bfloat16"
    plan = finished.plan("--configfile", finished.write("changed.yaml", study))
    assert set(plan) == downstream("record")


@pytest.mark.parametrize(
    ("package", "function", "stage"),
    [
        ("report", "write_report", "report"),
        ("validate", "validate_subject", "validate"),
        ("localise", "localise_subject", "localise"),
        ("score", "score_responses", "record"),
        ("stimuli", "write_stimuli", "stimuli"),
    ],
)
def test_changed_code(finished, package, function, stage):
    module = defining_module(finished.root / "src/lmri" / package, function)
    source = module.read_bytes()
    module.write_bytes(source + b"# changed\n")
    try:
        plan = finished.plan("--configfile", "small.yaml")
    finally:
        module.write_bytes(source)
    assert set(plan) == downstream(stage)


def defining_module(package: Path, function: str) -> Path:
    modules = sorted(package.rglob("*.py"))
    return next(path for path in modules if f"def {function}(" in path.read_text(encoding="utf-8"))


def test_command_line_alone_reruns_nothing(finished):
    module = finished.root / "src/lmri/cli/entry.py"
    source = module.read_bytes()
    module.write_bytes(source + b"# changed\n")
    try:
        assert finished.plan("--configfile", "small.yaml") == {}
    finally:
        module.write_bytes(source)
