"""Jobs of Slurm that are over, told by a stand-in for squeue."""

import json
from dataclasses import replace

import pytest

from lmri.errors import StoreError
from lmri.store import slurm_jobs, writing_lock
from lmri.store.owners import Owner
from lmri.store.slurm_jobs import job_is_over


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Say what squeue answers."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def answers(body: str) -> None:
        (folder / "squeue").write_text(f"#!/bin/sh\n{body}\n")
        (folder / "squeue").chmod(0o755)

    return answers


@pytest.mark.parametrize(
    ("body", "over"),
    [
        ("echo RUNNING", False),
        ("echo PENDING", False),
        ("exit 0", True),  # it has ended, and is still known
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", False),
        ("exec /bin/sleep 30", False),
    ],
)
def test_a_job_is_over_only_when_slurm_says_so(squeue, monkeypatch, body, over):
    monkeypatch.setattr(slurm_jobs, "SECONDS", 0.5)
    squeue(body)
    assert job_is_over("17") is over


@pytest.mark.parametrize("job", ["", None, 17, "17 --all", "-1", "x"])
def test_what_is_no_job_is_never_asked_for(squeue, tmp_path, job):
    squeue(f"echo asked > {tmp_path}/asked")
    assert not job_is_over(job)
    assert not (tmp_path / "asked").exists()


def test_without_slurm_nothing_is_certain(squeue):
    assert not job_is_over("17")


def held_by(folder, **changes) -> Owner:
    owner = replace(Owner.this(), host="node7", pid=12)
    entry = {"owner": owner.label(), "since": "now", "slurm_job": "17", **changes}
    (folder / ".0.zarr.lock").write_text(json.dumps(entry))
    (folder / f".0.zarr.{owner.label()}.01234567.partial").mkdir()
    return owner


def test_what_a_killed_job_left_on_another_node_is_cleared_away(squeue, tmp_path):
    squeue("exit 0")
    held_by(tmp_path)
    with writing_lock(tmp_path / "0.zarr"):
        held = json.loads((tmp_path / ".0.zarr.lock").read_text())
        assert held["owner"] == Owner.this().label()
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_a_job_that_was_requeued_takes_over_from_its_first_start(squeue, tmp_path, monkeypatch):
    squeue("echo RUNNING")  # it is this very job that runs
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    held_by(tmp_path)
    with writing_lock(tmp_path / "0.zarr"):
        assert json.loads((tmp_path / ".0.zarr.lock").read_text())["slurm_job"] == "17"


@pytest.mark.parametrize("changes", [{"slurm_job": "18"}, {"slurm_job": ""}])
def test_a_job_that_runs_keeps_its_lock(squeue, tmp_path, changes):
    squeue("echo RUNNING")
    held_by(tmp_path, **changes)
    with pytest.raises(StoreError, match="on host 'node7'"), writing_lock(tmp_path / "0.zarr"):
        pass
