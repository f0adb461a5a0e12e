"""How long a study takes through Snakemake: first run, second run, against its jobs in a row.

The study runs in a temporary copy of the workflow, on the cores given. The alternative is a script
that calls the same commands one after another: its time is the sum of what the jobs of the same run
took, without the scheduler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks.rows import Row, at_most, cheaper, parser, report

ROOT = Path(__file__).parents[1]
LIMIT = 300.0
"""Seconds the default study may take on two idle cores."""

NOTHING = 15.0
"""Seconds it may take to find out that there is nothing to do."""


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
        copy = Path(folder) / "lmri"
        for name in ("config", "profiles", "src", "workflow"):
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        shutil.copy(ROOT / "Snakefile", copy)
        first, second = (_run(copy, configfile, cores) for _ in range(2))
        files = list((copy / "results").glob("*/benchmarks/**/*.tsv"))
        jobs = sum(pd.read_csv(file, sep="\t")["s"].sum() for file in files)
    name = f"{configfile}, {len(files)} jobs, {cores} cores"
    return [
        at_most(f"{name}: first run", first, LIMIT, "s"),
        at_most(f"{name}: nothing to do", second, NOTHING, "s"),
        cheaper(f"{name}: against its jobs in a row", first, jobs, 1.0, "s"),
    ]


def _run(copy: Path, configfile: str, cores: int) -> float:
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy / "src"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--quiet", "all"]
    start = time.perf_counter()
    subprocess.run([*command, "--configfile", configfile], cwd=copy, env=environment, check=True)
    return time.perf_counter() - start


def main() -> int:
    """Measure and report."""
    made = parser("workflow", "Time of a study through Snakemake.")
    made.add_argument("--configfile", default="config/config.yaml", help="study file")
    made.add_argument("--cores", type=int, default=2, help="cores for Snakemake")
    arguments = made.parse_args()
    return report(measure(arguments.configfile, arguments.cores), arguments)


if __name__ == "__main__":
    sys.exit(main())
