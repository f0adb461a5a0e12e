"""Arguments of the commands; one flag means the same in every command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Commands = dict[str, tuple[Callable[[argparse.Namespace], int | None], str, str]]
"""Commands by name: the function, one line of help, the flags (with ? those to be left out)."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "--preview": {"action": "store_true", "help": "print trials with the phase of each token"},
    "--config": {"metavar": "FILE|JSON", "help": "study file, or the slice of the job as JSON"},
    "--subject": {"metavar": "NAME", "help": "name of the subject in the study"},
    "--task": {"metavar": "NAME", "help": "name of the task in the study"},
    "--experiment": {"metavar": "NAME", "help": "name of the experiment in the study"},
    "--seed": {"type": int, "metavar": "N", "help": "seed of the base"},
    "--shard": {"type": int, "metavar": "I", "help": "number of the shard, from 0"},
    "--model": {"type": Path, "metavar": "DIR", "help": "folder of the prepared subject"},
    "--base": {
        "type": Path,
        "required": False,
        "metavar": "DIR",
        "help": "base of a trained subject",
    },
    "--stimuli": {"type": Path, "metavar": "PATH", "help": "stimuli: a table, or their folder"},
    "--recordings": {"type": Path, "metavar": "DIR", "help": "recordings of the subject"},
    "--profiles": {"type": Path, "metavar": "DIR", "help": "information of all subjects"},
    "--series": {"metavar": "NAME", "help": "name of the series of checkpoints in the study"},
    "--maps": {"type": Path, "metavar": "DIR", "help": "folder of the maps to write"},
    "--findings": {"type": Path, "metavar": "DIR", "help": "folder of the findings"},
    "--draws": {"type": Path, "metavar": "DIR", "help": "folder of the scored control draws"},
    "--plans": {"type": Path, "metavar": "DIR", "help": "folder of the subject's sparse plans"},
    "--subjects": {"type": Path, "metavar": "DIR", "help": "prepared folders of all subjects"},
    "--setting": {"metavar": "NAME", "help": "activation and penalty, as the study names them"},
    "--settings": {"type": Path, "metavar": "DIR", "help": "folder of all trained settings"},
    "--study": {"type": Path, "metavar": "DIR", "help": "folder of the study under results/"},
    "--out": {"type": Path, "metavar": "PATH", "help": "what to write"},
    "--manifest": {"type": Path, "metavar": "FILE", "help": "manifest to write beside it"},
    "--folder": {
        "type": Path,
        "metavar": "DIR",
        "help": "where the workflow runs (default: here)",
    },
    "--json": {"action": "store_true", "help": "print JSON"},
    "--revision": {"metavar": "NAME", "help": "revision of a model on the hub"},
    "--scorer": {
        "action": "append",
        "metavar": "NAME",
        "help": "name of a scorer; may be repeated",
    },
    "--sheet": {"type": Path, "metavar": "CSV", "help": "sheet to write, for labels by hand"},
    "--key": {"type": Path, "metavar": "CSV", "help": "key of the sheet: what its rows are"},
    "--labels": {"type": Path, "metavar": "CSV", "help": "sheet with labels"},
    "--per-arm": {"type": int, "metavar": "N", "help": "responses of each arm and condition"},
    "--with-prompts": {"action": "store_true", "help": "show prompts, which tell the condition"},
    "--threshold": {"type": float, "metavar": "X", "help": "a score of at least this is a 1"},
    "responses": {"type": Path, "metavar": "RESPONSES", "help": "saved responses"},
    "model_id": {"metavar": "MODEL", "help": "folder of a model, or its id on the hub"},
    "bundle": {"type": Path, "nargs": "?", "metavar": "BUNDLE", "help": "an exported study"},
    "--redact": {"metavar": "LEVEL", "help": "none, responses or all: texts become hashes"},
    "--withhold-units": {"action": "store_true", "help": "leave out maps, findings and units"},
    "verdict": {"metavar": "VERDICT", "help": "<subject>/<contrast>, as the study names them"},
    "first": {"nargs": "?", "metavar": "SUBJECT", "help": "a subject; none for all of one base"},
    "second": {"nargs": "?", "metavar": "SUBJECT", "help": "the subject to compare it with"},
    "--any-lineage": {"action": "store_true", "help": "compare subjects of no known common base"},
    "paths": {
        "type": Path,
        "nargs": "+",
        "metavar": "PATH",
        "help": "stores, manifests, or folders",
    },
    "study_file": {"type": Path, "metavar": "STUDY", "help": "study file"},
}
"""Arguments by flag; one flag means the same in every command."""
