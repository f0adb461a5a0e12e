"""A copy of the workflow in a folder of its own, and a way to run Snakemake there."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml


@dataclass
class Workflow:
    """A copy of the repository that may be changed and run."""

    root: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Snakemake on two cores; the copy's code and `lmri` come first."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.root / "src"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def plan(self, *arguments: str) -> dict[str, int]:
        """Jobs by rule that a run would start; none when there is nothing to be done."""
        done = self.run("--dry-run", *arguments)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        if "Nothing to be done" in output:
            return {}
        table = output.split("Job stats:", 1)[1].split("\n\n", 1)[0]
        jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
        return {rule: count for rule, count in jobs.items() if rule not in {"all", "total"}}

    def write(self, name: str, study: dict) -> str:
        """Write a study file and return its path, as an argument of Snakemake."""
        (self.root / name).write_text(yaml.safe_dump(study), encoding="utf-8")
        return name


def copy_workflow(repository: Path, root: Path) -> Workflow:
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("config", "profiles", "src", "workflow"):
        shutil.copytree(repository / folder, root / folder, ignore=ignored)
    shutil.copy(repository / "Snakefile", root)
    return Workflow(root)


@pytest.fixture(scope="session")
def copied(repository) -> Callable[[Path], Workflow]:
    """Make a copy in a folder."""
    return partial(copy_workflow, repository)


@pytest.fixture(scope="session")
def workflow(repository, tmp_path_factory) -> Workflow:
    """A copy for dry runs."""
    return copy_workflow(repository, tmp_path_factory.mktemp("dry"))


@pytest.fixture(scope="session")
def small(repository) -> dict:
    """The small study with as few draws as make a run quick."""
    study = yaml.safe_load((repository / "config/studies/small.yaml").read_text(encoding="utf-8"))
    study["localise"] |= {"permutations": 19, "null_splits": 2}
    study["evidence"] |= {"exploratory_shams": 1, "matched_draws": 1, "doses": [1, 2]}
    study["validate"] = {"bootstrap": 100, "control_bystander_trials": 5}
    study["sparse"] |= {"trials": 5}
    study["report"] = {"transcripts": 1}
    networks = {"initialisations": 2, "epochs": 2, "measured": 4, "samples": 64, "bootstrap": 100}
    study["bottleneck"] = {"activations": ["relu"], "l2": [0], **networks}
    return study


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time go on; the lock of one that is killed is gone."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def finished(repository, small, tmp_path_factory) -> Workflow:
    """A copy in which the small study was run once; tests leave it as they found it.

    One process of the tests runs it, on both cores, and each has a copy of its own.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    first, done = shared / "small-study", shared / "small-study.done"
    with alone(shared / "small-study.lock"):
        if not done.exists():
            run_small(repository, small, first)
            done.touch()
    own = tmp_path_factory.mktemp("run") / "own"
    # With the times of all files: Snakemake goes by them.
    shutil.copytree(first, own, symlinks=True)
    return Workflow(own)


def run_small(repository: Path, small: dict, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    made = copy_workflow(repository, root)
    run = made.run("--configfile", made.write("small.yaml", small))
    assert run.returncode == 0, run.stdout + run.stderr
