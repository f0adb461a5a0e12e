"""What the contrasts of one subject share, and the way of their findings to a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.anatomy import Subject
from lmri.checks import check_choice
from lmri.config import ClaimOptions, ContrastOptions, EvidenceOptions, LocaliseOptions
from lmri.errors import EvidenceError
from lmri.localise.findings import Selection
from lmri.localise.hypothesis import Ground, primary_finding
from lmri.score import Scorer, add_scores, recorded_answers
from lmri.store import Recording, open_recording


@dataclass(frozen=True)
class Study:
    """What the contrasts of one subject share.

    Attributes
    ----------
    subject : Subject
        The loaded subject.
    stimuli : dict of str to DataFrame
        Stimuli of every task.
    recordings : dict of str to list of Recording
        Shards of every recorded task.
    carriers : dict of str to tuple of str
        Carriers of every task.
    options : LocaliseOptions
        Maps, phases and relabellings.
    evidence : EvidenceOptions
        The rule of the verdict.
    claims : int
        Primary claims of the study.
    seed : int
        Seed of the study.
    provenance : dict
        Kept in every file.
    stated : sequence of ClaimOptions
        Claims of every hypothesis beside the primary one.
    scorers : mapping of str to Scorer
        Scorers that decide beside the scores of every response.
    """

    subject: Subject
    stimuli: dict[str, pd.DataFrame]
    recordings: dict[str, list[Recording]]
    carriers: dict[str, tuple[str, ...]]
    options: LocaliseOptions
    evidence: EvidenceOptions
    claims: int
    seed: int
    provenance: dict
    stated: Sequence[ClaimOptions] = ()
    scorers: Mapping[str, Scorer] = field(default_factory=dict)


def selection_trials(study: Study, contrast: ContrastOptions) -> pd.DataFrame:
    """Trials of the task of a contrast that maps are made on.

    Parameters
    ----------
    study : Study
        The study.
    contrast : ContrastOptions
        The contrast.

    Returns
    -------
    DataFrame
        The trials, numbered from 0.

    Raises
    ------
    EvidenceError
        If the task is unknown.
    """
    check_choice(contrast.task, study.stimuli, "task", f"contrast '{contrast.name}'", EvidenceError)
    table = study.stimuli[contrast.task]
    return table[table["split"] == "selection"].reset_index(drop=True)


def recorded_trials(study: Study, contrast: ContrastOptions) -> pd.DataFrame:
    """Recorded trials of the task of a contrast, with scores."""
    table = pd.concat(
        [recording.trials for recording in study.recordings[contrast.task]], ignore_index=True
    )
    if study.scorers:
        add_scores(table, recorded_answers(study.subject.tokenizer, table), study.scorers)
    return table


def tested_finding(
    study: Study,
    contrast: ContrastOptions,
    finding: dict,
    result: Selection,
    trials: pd.DataFrame,
    attribution: np.ndarray | None,
) -> dict:
    """Put a finding of a hypothesis on the way to its test.

    Parameters
    ----------
    study : Study
        The study.
    contrast : ContrastOptions
        The contrast.
    finding : dict
        From :func:`lmri.localise.findings.base_finding`, with units.
    result : Selection
        The map.
    trials : DataFrame
        Selection trials of the task.
    attribution : ndarray of the shape of the units or None
        Direct attribution of every unit, for a rival selection.

    Returns
    -------
    dict
        See :func:`lmri.localise.hypothesis.primary_finding`.
    """
    ground = Ground(
        study.subject,
        contrast,
        study.evidence,
        selection=trials,
        recorded=recorded_trials(study, contrast),
        stimuli=study.stimuli,
        claims=study.claims,
        max_new_tokens=int(study.recordings[contrast.task][0].attributes["max_new_tokens"]),
        seed=study.seed,
        asked=study.stated,
        scorers=study.scorers,
    )
    return primary_finding(finding, result, ground, attribution)


def task_carriers(table: pd.DataFrame) -> tuple[str, ...]:
    """Carriers of a task, as the columns of its table name them."""
    prefix = "carrier_"
    return tuple(c.removeprefix(prefix) for c in table.columns if c.startswith(prefix))


def open_shards(folder: Path) -> list[Recording]:
    """Open all shards of a task after checking every byte.

    Parameters
    ----------
    folder : Path
        With ``<shard>.zarr`` and their manifests.

    Returns
    -------
    list of Recording
        In the order of the shards.

    Raises
    ------
    EvidenceError
        If there is none.
    StoreError
        If one is damaged.
    """
    stores = sorted(folder.glob("*.zarr"), key=lambda path: int(path.stem))
    if not stores:
        raise EvidenceError(f"{folder}: no recording. Record the task before localising on it.")
    return [open_recording(s, s.with_name(f"{s.name}.manifest.json")) for s in stores]
