"""Stimuli: tables of trials with conditions, carriers and splits."""

from lmri.stimuli.embedded import CARRIERS
from lmri.stimuli.job import COLUMNS, make_stimuli, write_stimuli
from lmri.stimuli.preview import legend, preview_task
from lmri.stimuli.splits import assign_splits, split_carriers

__all__ = [
    "CARRIERS",
    "COLUMNS",
    "assign_splits",
    "legend",
    "make_stimuli",
    "preview_task",
    "split_carriers",
    "write_stimuli",
]
