"""Whether a job of Slurm is over: the one way to know that a process of another host has ended."""

from __future__ import annotations

import os
import re
import subprocess

VARIABLE = "SLURM_JOB_ID"
SECONDS = 20
UNKNOWN = "Invalid job id"


def own_job() -> str:
    """Return the id of the job that this process is part of; empty outside of Slurm."""
    return os.environ.get(VARIABLE, "")


def job_is_over(job: object) -> bool:
    """Tell whether a job has certainly ended.

    A process that belongs to the same job and yet to another host is from an earlier start of it:
    the job was preempted, or its node failed, and Slurm started it again.

    Parameters
    ----------
    job : object
        Its id, as read from a file.

    Returns
    -------
    bool
        False also when Slurm cannot be asked.
    """
    if not isinstance(job, str) or not re.fullmatch(r"\d+", job):
        return False
    if job == own_job():
        return True
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    if done.returncode != 0:
        return UNKNOWN in done.stderr
    return not done.stdout.strip()
