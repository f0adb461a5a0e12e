"""How long a study takes through Snakemake, and what Snakemake itself takes of it.

``study`` runs a study twice in a temporary copy of the workflow, on the cores given. The
alternative is a script that calls the same commands one after another: its time is the sum of what
the jobs of the same run took, without the scheduler. ``plan`` plans a study of 200 subjects.
``local`` and ``slurm`` run chains of jobs that do nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.planning import large_study
from benchmarks.rows import Row, at_most, cheaper, parser, printed, report

ROOT = Path(__file__).parents[1]
LIMIT = 300.0
"""Seconds the default study may take on two idle cores."""

NOTHING = 15.0
"""Seconds it may take to find out that there is nothing to do."""

PLANNING = 30.0
"""Seconds that the plan of a study of 200 subjects may take on an idle core."""

MOST_JOBS = 2000
"""Jobs that it may be."""

CHAIN = """\
rule all:
    input:
        "done/{last}",


rule step:
    input:
        lambda wildcards: [f"done/{{int(wildcards.i) - 1}}"] if int(wildcards.i) else [],
    output:
        "done/{{i}}",
    shell:
        "true > {{output}}"
"""
"""Jobs that do nothing, each after the one before."""

ON_SLURM = [
    *(
        "--executor",
        "slurm",
        "--slurm-no-account",
        "--slurm-init-seconds-before-status-checks",
        "2",
    ),
    *("--default-resources", "mem_mb=500", "runtime=10"),
]


def measure(configfile: str, cores: int) -> list[Row]:
    """Run a study twice and compare it with its jobs in a row.

    Parameters
    ----------
    configfile : str
        Study file, relative to the repository.
    cores : int
        Cores for Snakemake.

    Returns
    -------
    list of Row
        The measurements.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy(Path(folder) / "lmri")
        first, second = (_run(copy, configfile, cores) for _ in range(2))
        files = list((copy / "results").glob("*/benchmarks/**/*.tsv"))
        jobs = sum(pd.read_csv(file, sep="\t")["s"].sum() for file in files)
    name = f"{configfile}, {len(files)} jobs, {cores} cores"
    figure = f"{name}: against its jobs in a row"
    return [
        at_most(f"{name}: first run", first, LIMIT, "s"),
        at_most(f"{name}: nothing to do", second, NOTHING, "s"),
        # On one core nothing can be cheaper than the jobs alone.
        cheaper(figure, first, jobs, 1.0, "s") if cores > 1 else printed(figure, first, "s", jobs),
    ]


def plan(subjects: int = 200, contrasts: int = 10) -> list[Row]:
    """Plan a large study, and count its jobs.

    Parameters
    ----------
    subjects, contrasts : int
        How many.

    Returns
    -------
    list of Row
        Seconds on the clock and of a core, and jobs.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy(Path(folder) / "lmri")
        study = copy / "large.yaml"
        study.write_text(yaml.safe_dump(large_study(subjects, contrasts)), encoding="utf-8")
        before, start = os.times(), time.perf_counter()
        done = _snakemake(copy, "--cores", "1", "--dry-run", "--configfile", study.name)
        taken, after = time.perf_counter() - start, os.times()
    used = sum(after[2:4]) - sum(before[2:4])
    jobs = int(re.search(r"^total +(\d+)$", done, re.M)[1]) - 1  # `all` is none
    name = f"plan of {subjects} subjects with {contrasts} contrasts"
    return [
        at_most(f"{name}: time of a core", used, PLANNING, "s"),
        printed(f"{name}: time on the clock", taken, "s"),
        at_most(f"{name}: jobs", jobs, MOST_JOBS, "1"),
    ]


def overhead(where: str, jobs: int) -> list[Row]:
    """Time what a job costs beside its own work.

    Parameters
    ----------
    where : {"local", "slurm"}
        Who runs it.
    jobs : int
        Length of the longer chain; the shorter is one job.

    Returns
    -------
    list of Row
        Seconds of a job in a chain; ``not_measured`` where there is no Slurm.
    """
    figure = f"{where}: a job that does nothing, in a chain of {jobs}"
    if where == "slurm" and shutil.which("sbatch") is None:
        return [Row(figure, None, None, None, "none: printed", "s", "not_measured")]
    options = ON_SLURM if where == "slurm" else []
    taken = {}
    for length in (1, jobs):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # nodes share this one
            root = Path(folder)
            (root / "Snakefile").write_text(CHAIN.format(last=length - 1), encoding="utf-8")
            start = time.perf_counter()
            _snakemake(root, "--cores", "1", "--jobs", "1", *options)
            taken[length] = time.perf_counter() - start
    return [printed(figure, (taken[jobs] - taken[1]) / (jobs - 1), "s")]


def _copy(root: Path) -> Path:
    for name in ("config", "profiles", "src", "workflow"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", root)
    return root


def _snakemake(root: Path, *options: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(root / "src"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "snakemake", *options]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout + done.stderr


def _run(copy: Path, configfile: str, cores: int) -> float:
    start = time.perf_counter()
    _snakemake(copy, "--cores", str(cores), "--quiet", "all", "--configfile", configfile)
    return time.perf_counter() - start


def main() -> int:
    """Measure and report."""
    made = parser("workflow", "Time of a study through Snakemake.")
    made.add_argument("--configfile", default="config/config.yaml", help="study file")
    made.add_argument("--cores", type=int, default=2, help="cores for Snakemake")
    made.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="NAME")
    arguments = made.parse_args()
    return report(list(_measured(arguments.only, arguments)), arguments)


PARTS = ("study", "plan", "local", "slurm")


def _measured(parts: Sequence[str], arguments: argparse.Namespace) -> Iterator[Row]:
    if "study" in parts:
        yield from measure(arguments.configfile, arguments.cores)
    if "plan" in parts:
        yield from plan()
    if "local" in parts:
        yield from overhead("local", 30)
    if "slurm" in parts:
        yield from overhead("slurm", 4)


if __name__ == "__main__":
    sys.exit(main())
