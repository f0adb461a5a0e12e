"""What this machine has of what a study needs, and which profile of the workflow fits it.

Nothing heavy is imported at the top: a machine on which torch cannot be imported is one that this
module must be able to describe.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PYTHONS = ((3, 11), (3, 13))
"""Oldest and newest Python that the package is tested with."""

COMPILERS = ("g++", "c++", "clang++")
"""As in ``lmri.native``, which cannot be imported without torch."""

NETWORK = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "glusterfs", "panfs"}
"""File systems that several hosts share; those of FUSE are told by their part after ``fuse.``."""

LEAST_SPACE = 5e9
"""Bytes that the default study and its environment need, generously."""

SLOW = 0.05
"""Seconds to write, rename and see a small file, above which a file system counts as slow."""

FILES = 20
SECONDS = 20
"""A controller that takes longer to answer is taken to be down."""

PROFILES = ("default", "slurm", "slurm-no-accounting")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What.
    status : str
        ``ok``; ``note``: a study runs all the same; ``fail``: has to be mended first.
    found : str
        What is there.
    advice : str
        What to do; empty when nothing need be done.
    """

    name: str
    status: str
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What was found, and the profile that fits.

    Attributes
    ----------
    checks : tuple of Check
        In the order in which they are printed.
    profile : str
        One of :data:`PROFILES`.
    reason : str
        Why this one.
    """

    checks: tuple[Check, ...]
    profile: str
    reason: str

    @property
    def healthy(self) -> bool:
        """Whether nothing has to be mended first."""
        return all(check.status != "fail" for check in self.checks)

    def lines(self) -> list[str]:
        """Return the diagnosis as text, one line for each check and the profile."""
        width = max(len(check.name) for check in self.checks)
        lines = []
        for check in self.checks:
            advice = f" -> {check.advice}" if check.advice else ""
            lines.append(f"{check.status:4}  {check.name:{width}}  {check.found}{advice}")
        option = "" if self.profile == "default" else " --workflow-profile profiles/" + self.profile
        return [*lines, f"profile: {self.profile} ({self.reason}): snakemake{option}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain JSON values."""
        return {"healthy": self.healthy, **asdict(self)}


def diagnose(folder: Path) -> Diagnosis:
    """Look at the machine, its scheduler, and the file system of a folder.

    Parameters
    ----------
    folder : Path
        Where the workflow is run, so where results go; a small file is written and removed.

    Returns
    -------
    Diagnosis
        What was found.
    """
    profile, reason, scheduler = _scheduler()
    checks = [_python(), _snakemake(), _torch(), _compiler(), *scheduler, *_file_system(folder)]
    return Diagnosis(tuple(checks), profile, reason)


def _python() -> Check:
    found = sys.version_info[:2]
    name = f"{found[0]}.{found[1]} ({sys.executable})"
    if PYTHONS[0] <= found <= PYTHONS[1]:
        return Check("Python", "ok", name)
    first, last = (".".join(map(str, version)) for version in PYTHONS)
    return Check("Python", "fail", name, f"use Python {first} to {last}")


def _snakemake() -> Check:
    from importlib import metadata

    try:
        return Check("Snakemake", "ok", metadata.version("snakemake"))
    except metadata.PackageNotFoundError:
        return Check("Snakemake", "fail", "not installed", "make demo sets up .venv with it")


def _torch() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Check("torch, GPU", "fail", f"cannot be imported ({first})", "install torch again")
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        named = ", ".join(f"{d.name} ({d.total_memory / 2**30:.0f} GiB)" for d in devices)
        return Check("torch, GPU", "ok", f"torch {torch.__version__}, {named}")
    found = f"torch {torch.__version__}, no GPU here"
    if shutil.which("nvidia-smi") and _answer("nvidia-smi", "-L")[0] == 0:
        advice = "there is a GPU that this build of torch cannot use: install one with CUDA"
        return Check("torch, GPU", "note", found, advice)
    return Check("torch, GPU", "note", found, "subjects run on the CPU")


def _compiler() -> Check:
    named = shlex.split(os.environ.get("CXX", ""))[:1]
    found = next(filter(None, map(shutil.which, named or COMPILERS)), None)
    if found:
        return Check("compiler", "ok", found)
    looked = ", ".join(named or COMPILERS)
    advice = (
        "install g++: without it recording takes longer, and sparse products run on the backend "
        "reference"
    )
    return Check("compiler", "note", f"none (looked for {looked})", advice)


def _scheduler() -> tuple[str, str, list[Check]]:
    """Return the profile, why, and what was found of Slurm."""
    if shutil.which("sbatch") is None:
        reason = "no sbatch: jobs run on this machine"
        return "default", reason, [Check("Slurm", "note", "not here", "jobs run on this machine")]
    code, said = _answer("sinfo", "--noheader", "--format=%P %a %D %G")
    if code != 0 or not said:
        advice = "is the controller up (scontrol ping)? Without it use the profile default"
        found = f"sbatch is here, but sinfo says nothing ({said or f'exit code {code}'})"
        return "default", "Slurm does not answer", [Check("Slurm", "fail", found, advice)]
    partitions = [line.split() for line in said.splitlines()]
    names = list(dict.fromkeys(fields[0].rstrip("*") for fields in partitions))
    checks = [Check("Slurm", "ok", f"partitions {', '.join(names)}")]
    with_gpu = [fields[0].rstrip("*") for fields in partitions if "gpu" in fields[-1]]
    with_gpu = list(dict.fromkeys(with_gpu))
    found = f"in partitions {', '.join(with_gpu)}" if with_gpu else "in no partition"
    checks.append(Check("Slurm, GPU", "ok" if with_gpu else "note", found))
    code, said = _answer("sacct", "--allocations", "--noheader")
    if code == 0:
        checks.append(Check("Slurm, accounting", "ok", "sacct answers"))
        return "slurm", "sacct tells what became of a job", [*checks, *_plugin()]
    found = f"sacct fails ({said or 'not there'})"
    checks.append(Check("Slurm, accounting", "note", found, "squeue is asked instead"))
    return "slurm-no-accounting", "sacct does not answer", [*checks, *_plugin()]


def _plugin() -> list[Check]:
    from importlib import metadata

    name = "snakemake-executor-plugin-slurm"
    try:
        return [Check("Slurm, plugin", "ok", f"{name} {metadata.version(name)}")]
    except metadata.PackageNotFoundError:
        return [Check("Slurm, plugin", "fail", "not installed", f"pip install {name}")]


def _answer(*command: str) -> tuple[int, str]:
    """Run a command and return its exit code and the first it says; 127 if it is not there."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS, errors="replace"
        )
    except FileNotFoundError:
        return 127, ""
    except (OSError, subprocess.TimeoutExpired) as error:
        return 126, type(error).__name__
    if done.returncode == 0:
        return 0, done.stdout.strip()
    return done.returncode, (done.stderr.strip().splitlines() or [""])[0]


def _file_system(folder: Path) -> list[Check]:
    place = str(folder.absolute())
    try:
        latency = _latency(folder)
    except OSError as error:
        advice = "run the workflow from a folder that you can write to"
        return [Check("results", "fail", f"{place}: {error.strerror}", advice)]
    kind = file_system(folder)
    shared = kind in NETWORK
    found = f"{kind}, {'shared' if shared else 'local'}; a small file takes {latency * 1e3:.1f} ms"
    slow = latency > SLOW
    advice = "raise latency-wait in the profile" if slow else ""
    checks = [Check("file system", "note" if slow else "ok", found, advice)]
    if not shared and shutil.which("sbatch"):
        text = "compute nodes may not see this folder: run the workflow on the shared file system"
        checks.append(Check("shared by nodes", "note", f"{kind} is no network file system", text))
    free = shutil.disk_usage(folder).free
    enough = free >= LEAST_SPACE
    advice = "" if enough else f"free {LEAST_SPACE / 1e9:.0f} GB; `lmri estimate` tells more"
    text = f"{free / 1e9:.0f} GB in {place}"
    return [*checks, Check("free space", "ok" if enough else "fail", text, advice)]


def _latency(folder: Path, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds to write, rename, see and remove a small file: the median of a few."""
    taken = []
    for _ in range(FILES):
        name = folder / f".lmri-doctor-{uuid.uuid4().hex}"
        begun = clock()
        try:
            name.write_bytes(b"x")
            name = name.replace(name.with_suffix(".seen"))
            os.listdir(folder)
        finally:
            name.unlink(missing_ok=True)
        taken.append(clock() - begun)
    return sorted(taken)[FILES // 2]


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Tell the kind of file system that a folder is on.

    Parameters
    ----------
    folder : Path
        The folder.
    mounts : Path
        Table of what is mounted.

    Returns
    -------
    str
        As the kernel calls it, without ``fuse.``; ``unknown`` where there is no such table.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    place, best, kind = os.path.realpath(folder), "", "unknown"
    for _, point, found, *_ in (line.split(" ") for line in lines):
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point)
        inside = point == "/" or place == point or place.startswith(f"{point}/")
        # The last of several mounts at one point is the one that is seen.
        if inside and len(point) >= len(best):
            best, kind = point, found.removeprefix("fuse.")
    return kind
