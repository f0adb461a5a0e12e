"""What the contrasts of one subject share, and how a map of one is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lmri.anatomy import Subject
from lmri.checks import check_choice
from lmri.config import ContrastOptions, EvidenceOptions, LocaliseOptions
from lmri.errors import EvidenceError
from lmri.localise.activity import Activity, CountedRates, TrialActivity
from lmri.localise.confounds import row_confounds
from lmri.localise.design import contrast_design
from lmri.localise.maps import UnitMap, restrict, unit_map
from lmri.localise.measures import Measure, open_values
from lmri.localise.resonance import count_cells
from lmri.localise.statistics import STATISTICS
from lmri.localise.values import select_rows
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


def activity_of(study: Study, contrast: ContrastOptions, phase: str, measure: Measure) -> Activity:
    """Open what a map is computed from.

    Parameters
    ----------
    study : Study
        The study.
    contrast : ContrastOptions
        Its task is read.
    phase : str
        The phase.
    measure : Measure
        Kind, quantity and statistic.

    Returns
    -------
    Activity
        Selection trials only.
    """
    recordings, split = study.recordings[contrast.task], "selection"
    anatomy = study.subject.anatomy
    if measure.counted:
        carriers = study.carriers[contrast.task]
        cells = count_cells(recordings, carriers, phase, split, anatomy.experts)
        return CountedRates(cells, measure.two_sided)
    rows = select_rows(recordings, split, study.carriers[contrast.task])
    values = open_values(measure, rows, phase, study.options.pooling, anatomy)
    statistic = STATISTICS[measure.statistic]
    confounds = None
    if statistic.takes_confounds and study.options.confounds:
        confounds = row_confounds(rows, phase, study.options.confounds)
    return TrialActivity(values, statistic, confounds)


def map_of(
    study: Study,
    contrast: ContrastOptions,
    activity: Activity,
    measure: Measure,
    trials: pd.DataFrame,
) -> UnitMap:
    """Compute the map of a contrast.

    Parameters
    ----------
    study : Study
        The study.
    contrast : ContrastOptions
        The contrast.
    activity : Activity
        From :func:`activity_of`.
    measure : Measure
        Kind, quantity and statistic.
    trials : DataFrame
        From :func:`selection_trials`.

    Returns
    -------
    UnitMap
        The map, tested.
    """
    if contrast.random_split is not None:
        activity = restrict(activity, contrast.random_split.condition)
    return unit_map(
        measure,
        activity,
        contrast_design(contrast, trials, study.carriers[contrast.task]),
        alpha=study.evidence.alpha,
        permutations=study.options.permutations,
        seed=study.seed,
        owner=f"contrast '{contrast.name}'",
    )


def selection_trials(study: Study, contrast: ContrastOptions) -> pd.DataFrame:
    """Trials that a contrast selects units on: those of its task in the split ``selection``."""
    check_choice(contrast.task, study.stimuli, "task", f"contrast '{contrast.name}'", EvidenceError)
    table = study.stimuli[contrast.task]
    return table[table["split"] == "selection"].reset_index(drop=True)


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
