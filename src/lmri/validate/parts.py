"""Parts of a validation: the evaluation trials of the target, the bystanders, the transfer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lmri.errors import EvidenceError
from lmri.store import read_table
from lmri.validate.arms import Part

ALL = "all"


def evaluation_parts(finding: dict, stimuli: Path) -> list[Part]:
    """Evaluation trials that a primary endpoint names.

    Parameters
    ----------
    finding : dict
        With a ``primary_endpoint``.
    stimuli : Path
        Folder with ``<task>.parquet``.

    Returns
    -------
    list of Part
        The target first, then the bystanders, then the transfer.

    Raises
    ------
    EvidenceError
        If a part has no evaluation trial.
    """
    endpoint = finding["primary_endpoint"]
    parts = [target_part(finding, stimuli)]
    for bystander in endpoint["bystanders"]:
        parts.append(_part("bystander", bystander, stimuli))
    if endpoint["transfer"] is not None:
        parts.append(_part("transfer", endpoint["transfer"], stimuli))
    return parts


def target_part(finding: dict, stimuli: Path, split: str = "evaluation") -> Part:
    """Trials of a finding's target conditions in a split.

    Parameters
    ----------
    finding : dict
        A testable finding.
    stimuli : Path
        Folder with ``<task>.parquet``.
    split : str
        The split.

    Returns
    -------
    Part
        The trials.
    """
    target = finding["secondary"]["target"]
    table = _trials(finding["task"], stimuli, split)
    trials = table[table["condition"].isin(target)].reset_index(drop=True)
    name = target[0] if len(target) == 1 else "+".join(target)
    return _checked(Part("target", finding["task"], name, trials))


def named_part(task: str, conditions: Sequence[str], stimuli: Path, split: str) -> Part:
    """Trials that a claim names.

    Parameters
    ----------
    task : str
        The task.
    conditions : sequence of str
        Its conditions; none are all of them together.
    stimuli : Path
        Folder with ``<task>.parquet``.
    split : str
        The split.

    Returns
    -------
    Part
        The trials.

    Raises
    ------
    EvidenceError
        If there is none.
    """
    trials = _trials(task, stimuli, split)
    if conditions:
        trials = trials[trials["condition"].isin(list(conditions))].reset_index(drop=True)
    return _checked(Part("claim", task, "+".join(conditions) or ALL, trials))


def part_name(part: Part) -> str:
    """Name of a part for tables: its task, and its condition unless all are pooled."""
    return f"{part.task}, {part.condition}".removesuffix(f", {ALL}")


def condition_trials(task: str, condition: str, stimuli: Path, split: str) -> pd.DataFrame:
    """Trials of one condition in a split.

    Parameters
    ----------
    task, condition : str
        Which trials.
    stimuli : Path
        Folder with ``<task>.parquet``.
    split : str
        The split.

    Returns
    -------
    DataFrame
        The trials, numbered from 0.
    """
    table = _trials(task, stimuli, split)
    return table[table["condition"] == condition].reset_index(drop=True)


def _part(role: str, named: dict, stimuli: Path) -> Part:
    trials = _trials(named["task"], stimuli, "evaluation")
    if named["condition"] is not None:
        trials = trials[trials["condition"] == named["condition"]].reset_index(drop=True)
    return _checked(Part(role, named["task"], named["condition"] or ALL, trials))


def _trials(task: str, stimuli: Path, split: str) -> pd.DataFrame:
    table = read_table(stimuli / f"{task}.parquet", ("trial", "split", "condition", "prompt"))
    return table[table["split"] == split].reset_index(drop=True)


def _checked(part: Part) -> Part:
    if part.trials.empty:
        raise EvidenceError(
            f"The {part.role} {part.task!r}, {part.condition!r} must have evaluation trials."
        )
    return part
