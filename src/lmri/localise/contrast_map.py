"""The map of a contrast: what it is computed from, and its computation."""

from __future__ import annotations

import pandas as pd

from lmri.config import ContrastOptions
from lmri.localise.activity import Activity, CountedRates, TrialActivity
from lmri.localise.confounds import row_confounds
from lmri.localise.design import contrast_design
from lmri.localise.maps import UnitMap, restrict, unit_map
from lmri.localise.measures import Measure, open_values
from lmri.localise.resonance import count_cells
from lmri.localise.statistics import STATISTICS
from lmri.localise.study import Study
from lmri.localise.values import select_rows


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
