"""Commands that tell of the machine and of the cost of a study, before anything runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lmri.cli.declaring import Commands

UNHEALTHY = 1
"""Exit code of ``doctor`` when a study cannot run here."""


def _doctor(options: argparse.Namespace) -> int:
    from lmri.preflight.doctor import diagnose

    found = diagnose(options.folder or Path())
    if options.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print("\n".join(found.lines()))
    return 0 if found.healthy else UNHEALTHY


def _estimate(options: argparse.Namespace) -> None:
    from lmri.config import load_study
    from lmri.preflight.estimate import estimate_study

    found = estimate_study(load_study(options.study_file))
    if options.json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print("\n".join(found.lines()))


COMMANDS: Commands = {
    "doctor": (
        _doctor,
        "look at this machine, and say which profile of the workflow fits it",
        "--folder? --json?",
    ),
    "estimate": (
        _estimate,
        "say what a study takes before it runs: jobs, disk, memory, hours",
        "study_file --json?",
    ),
}
