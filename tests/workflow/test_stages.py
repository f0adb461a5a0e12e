"""The stages on what a real run wrote: the same bits again, and refusal of what was tampered with.

Every refusal is one line that names the file, exit code 2, and nothing half-written.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from lmri import cli
from lmri.store import finding_hash, read_finding, read_table

pytestmark = pytest.mark.slow

FINDING = "refusal.prompt_last/expert.resonance.json"


@pytest.fixture
def study(finished, tmp_path) -> Path:
    """A copy of a finished study that a test may damage."""
    return shutil.copytree(finished.root / "results/small", tmp_path / "small")


@pytest.fixture
def run(finished, study, tmp_path):
    """Run one stage of the study by its command; outputs go to a folder of their own."""
    recorded = "recordings/localised/events/0.zarr"
    model = ["--model", study / "subjects/localised"]
    subject = ["--subject", "localised", *model, "--stimuli"]
    flags = {
        "record": [*subject, study / "stimuli/events.parquet", "--task", "events", "--shard", 0]
        + ["--out", tmp_path / "out.zarr", "--manifest", tmp_path / "out.zarr.manifest.json"],
        "localise": [*subject, study / "stimuli", "--recordings", study / "recordings/localised"]
        + ["--maps", tmp_path / "maps", "--findings", tmp_path / "findings"],
        "validate": [
            *subject,
            study / "stimuli",
            "--findings",
            study / "findings/localise/localised",
        ]
        + ["--plans", study / "plans/localised", "--out", tmp_path / "validation"],
    }
    assert (study / recorded).is_dir()

    def call(stage: str) -> int:
        arguments = [stage, "--config", finished.root / "small.yaml", *flags[stage]]
        return cli.main([str(argument) for argument in arguments])

    return call


@pytest.fixture
def refused(run, capsys, study, tmp_path):
    """Run a stage that must refuse, and say what it printed."""

    def call(stage: str) -> str:
        before = {path.name for path in tmp_path.iterdir()}
        capsys.readouterr()
        assert run(stage) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert len(told.err.splitlines()) == 1
        assert told.err.startswith("lmri: error: ")
        assert {path.name for path in tmp_path.iterdir()} == before
        return told.err

    return call


def test_the_packaged_localised_state_is_confirmed(study):
    verdicts = read_table(study / "verdicts.parquet").set_index("contrast")
    refusal, control = verdicts.loc["refusal"], verdicts.loc["null_places"]
    assert refusal["verdict"] == "confirmed"
    assert refusal["low"] > 0.1
    assert refusal["bystanders_held"] == refusal["bystanders"] == 4
    assert refusal["p_corrected"] <= 0.05
    assert control["verdict"] == "not testable"
    assert control["units"] == "[]"


def test_a_stage_gives_the_same_bits_again(run, study, tmp_path):
    assert run("localise") == 0
    old = read_finding(study / "findings/localise/localised" / FINDING)
    new = read_finding(tmp_path / "findings" / FINDING)
    assert old["hash"] == new["hash"]
    assert run("validate") == 0
    for name in ("arms", "transcripts", "verdicts"):
        pd.testing.assert_frame_equal(
            read_table(study / f"validation/localised/{name}.parquet"),
            read_table(tmp_path / f"validation/{name}.parquet"),
            check_exact=True,
        )


def test_a_finding_changed_after_its_hash_is_refused(refused, study):
    path = study / "findings/localise/localised" / FINDING
    finding = json.loads(path.read_text())
    finding["primary_endpoint"]["margin"] = 0.5
    path.write_text(json.dumps(finding))
    assert FINDING in refused("validate")


def test_a_finding_of_another_subject_is_refused(refused, study):
    path = study / "findings/localise/localised" / FINDING
    finding = json.loads(path.read_text())
    finding["subject"] = "distributed"
    finding["hash"] = finding_hash(finding)
    path.write_text(json.dumps(finding))
    assert "must be 'localised'. Got 'distributed'" in refused("validate")


def test_no_finding_is_refused(refused, study):
    shutil.rmtree(study / "findings/localise/localised")
    assert "no finding" in refused("validate")


@pytest.mark.parametrize("stage", ["record", "localise", "validate"])
@pytest.mark.parametrize("size", [0, 1000, -1])
def test_truncated_weights_are_refused(refused, study, stage, size):
    weights = study / "subjects/localised/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    assert "'model.safetensors'" in refused(stage)


def test_altered_weights_are_refused(refused, study):
    weights = study / "subjects/localised/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    assert "'model.safetensors' was altered" in refused("record")


@pytest.mark.parametrize("damage", ["truncate", "delete", "flip"])
def test_a_damaged_recording_is_refused(refused, study, damage):
    router = study / "recordings/localised/events/0.zarr/tokens/router"
    chunk = min(router.glob("expert_id/c.*"))
    content = bytearray(chunk.read_bytes())
    if damage == "delete":
        chunk.unlink()
    elif damage == "truncate":
        chunk.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        chunk.write_bytes(content)
    assert "0.zarr" in refused("localise")


def test_stimuli_without_a_column_are_refused(refused, study):
    path = study / "stimuli/events.parquet"
    pd.read_parquet(path).drop(columns="split").to_parquet(path)
    for stage in ("record", "localise", "validate"):
        assert "'split'" in refused(stage)


def test_a_file_that_is_no_table_is_refused(refused, study):
    (study / "stimuli/events.parquet").write_bytes(b"PAR1 no more")
    assert "events.parquet" in refused("record")
