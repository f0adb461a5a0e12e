"""A study through a real Slurm: started by .ci/slurm, which installs what is missing.

First with accounting, where a running job is killed: the run fails, and a second one finishes it
without running again what was finished. Then without accounting, where a running job is requeued as
after a preemption. Both must leave the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster, run, said
from daemons import end_by_id, left_behind, of_job

ROOT = Path(__file__).parents[2]
STUDY = "tests/slurm/study.yaml"
RESULTS = Path("results/slurm")
SECONDS = 1200
"""A run that takes longer hangs."""

# What the profiles leave to the site, and shorter waits: nothing here is on a network.
SITE = [
    *("--slurm-partition-config", "tests/slurm/partitions.yaml"),
    *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"),
    *("--set-threads", "record=1", "validate=1"),
    *("--set-resources", "record:gpu=1", "record:runtime=20", "validate:runtime=20"),
]
TOLD_APART = {"logs", "benchmarks"}
"""Folders of a study that tell of the run."""

TIMES = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+]00:00|Run times:.*?</table>", re.DOTALL)
"""What no two runs share: when a finding was written, and in the report how long jobs took."""


@dataclass(frozen=True)
class Run:
    """Snakemake at work, and where it tells of it."""

    process: subprocess.Popen
    log: Path


def main() -> int:
    """Check the workflow, or run a command in the cluster."""
    signal.signal(signal.SIGTERM, _interrupt)  # whatever ends this ends what it started
    with tempfile.TemporaryDirectory(prefix="lmri-slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        cluster = Cluster(folder)
        try:
            if sys.argv[1:]:
                cluster.start(accounting=True)
                return subprocess.run(sys.argv[1:], cwd=ROOT, check=False).returncode
            _check(cluster, folder)
        finally:
            cluster.stop()
        left = left_behind(folder)
        _expect(not left, f"daemons are left: {left}")
    _say("every daemon that was started has ended, by its id")
    return 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _check(cluster: Cluster, folder: Path) -> None:
    cluster.start(accounting=True)
    _expect_profile("slurm")
    first = _copy(folder / "with")
    _kill_and_finish(first)
    cluster.stop()

    cluster.start(accounting=False)
    _expect_profile("slurm-no-accounting")
    second = _copy(folder / "without")
    _requeue(second)
    _expect_gpu()
    _expect_equal(_hashes(first), _hashes(second))


def _kill_and_finish(root: Path) -> None:
    running = _start(root, "slurm", "--retries", "0")
    killed = _running_job("localise", running)
    # As a node that runs out of memory does it. Of a job that was cancelled by hand the plugin is
    # told "CANCELLED by 0", which it does not know: it waits for ever (docs/cluster.md).
    end_by_id(of_job(killed))
    _finish(running, 1)
    # A table of resources is written of a job that failed, too.
    finished = {n: when for n, when in _benchmarks(root).items() if not n.startswith("localise")}
    _expect(any("record" in name for name in finished), "nothing had finished before the kill")
    for left in ("maps", "findings/localise"):
        _expect(not (root / RESULTS / left / "localised").exists(), f"{left} look finished")
    _say(f"with accounting: job {killed} was killed, and the run failed")
    _finish(_start(root, "slurm"), 0)
    again = {name for name, when in finished.items() if _benchmarks(root)[name] != when}
    _expect(not again, f"finished jobs ran again: {sorted(again)}")
    _say(f"the second run finished; {len(finished)} finished jobs did not run again")


def _requeue(root: Path) -> None:
    running = _start(root, "slurm-no-accounting")
    requeued = _running_job("localise", running)
    run("scontrol", "requeue", requeued)
    _finish(running, 0)
    _expect("Restarts=1" in run("scontrol", "show", "job", requeued), "the job did not restart")
    _say(f"without accounting: finished; job {requeued} was requeued while it ran")


def _copy(root: Path) -> Path:
    """Copy the workflow to a folder of its own, which the jobs run in."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("config", "profiles", "src", "workflow", "tests/slurm"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", root)
    return root


def _start(root: Path, profile: str, *options: str) -> Run:
    command = [sys.executable, "-m", "snakemake", "--configfile", STUDY]
    command += ["--workflow-profile", f"profiles/{profile}", *SITE, *options]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    with (root / "run.log").open("ab") as log:
        running = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)
    return Run(running, root / "run.log")


def _finish(running: Run, code: int) -> None:
    try:
        ended = running.process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        running.process.terminate()
        running.process.wait()
        ended = f"nothing within {SECONDS} s"
    if ended != code:
        print(running.log.read_text(encoding="utf-8")[-4000:])
    _expect(ended == code, f"snakemake ended with {ended} instead of {code}")


def _running_job(rule: str, running: Run) -> str:
    """Wait until a job of a rule runs, and return its id."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and running.process.poll() is None:
        for line in said("squeue", "-h", "-t", "RUNNING", "-o", "%A %k").splitlines():
            job, _, comment = line.partition(" ")
            # It has come to its own command, beyond the Snakemake inside the job.
            at_work = any(f"lmri {rule} --config" in command for _, command in of_job(job))
            if comment.startswith(f"rule_{rule}") and at_work:
                return job
        time.sleep(0.2)
    raise SystemExit(f"test-slurm: no job of {rule} was seen to run")


def _expect_profile(profile: str) -> None:
    told = json.loads(run(sys.executable, "-m", "lmri.cli", "doctor", "--json"))
    _expect(told["profile"] == profile, f"lmri doctor says {told['profile']}, not {profile}")
    found = {check["name"]: check["found"] for check in told["checks"]}
    _expect("gpu" in found["Slurm, GPU"], "lmri doctor finds no GPU in the cluster")
    _say(f"lmri doctor says: {profile}")


def _expect_gpu() -> None:
    """Recordings ran where the GPU is, and nothing else asked for it."""
    jobs = run("scontrol", "--oneliner", "show", "job").splitlines()
    by_gpu = {"gres:gpu" in job for job in jobs if "Comment=rule_record_" in job}
    _expect(by_gpu == {True}, "recordings did not ask for a GPU")
    others = [job for job in jobs if "Comment=rule_record_" not in job]
    _expect(not any("gres:gpu" in job for job in others), "another job asked for a GPU")
    places = {
        re.search(r" NodeList=(\S+)", job)[1] for job in jobs if "Comment=rule_record_" in job
    }
    _expect(places == {"n2"}, f"recordings ran on {places}")
    _say(f"{len(jobs)} jobs of Slurm; recordings ran on the node with the GPU")


def _benchmarks(root: Path) -> dict[str, int]:
    """When each finished job wrote its resource table."""
    folder = root / RESULTS / "benchmarks"
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*.tsv")}


def _hashes(root: Path) -> dict[str, str]:
    """Hash every artefact of the study, but for when, and for how long, jobs ran."""
    study = root / RESULTS
    files = [path for path in study.rglob("*") if path.is_file()]
    names = {path: path.relative_to(study) for path in files}
    return {
        str(name): hashlib.sha256(TIMES.sub(b"", path.read_bytes())).hexdigest()
        for path, name in names.items()
        if name.parts[0] not in TOLD_APART and path.name != ".snakemake_timestamp"
    }


def _expect_equal(first: dict[str, str], second: dict[str, str]) -> None:
    differ = sorted(name for name in {*first, *second} if first.get(name) != second.get(name))
    _expect(not differ, f"{len(differ)} artefacts differ: {', '.join(differ[:10])}")
    _expect("verdicts.parquet" in first, "there are no verdicts")
    _say(f"{len(first)} artefacts have the same bytes in both")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"test-slurm: {otherwise}")


def _say(text: str) -> None:
    print(f"test-slurm: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
