"""Recording: labelled activity of a subject on a task."""

from lmri.record.capture import Batch, Capture
from lmri.record.generation import lesion
from lmri.record.hooks import capturing, check_observable
from lmri.record.job import record_task
from lmri.record.phases import PHASES, phase_masks, phase_names, span_names, trial_spans
from lmri.record.pooling import STATISTICS, pool, pool_experts

__all__ = [
    "Batch",
    "Capture",
    "PHASES",
    "STATISTICS",
    "capturing",
    "check_observable",
    "lesion",
    "phase_masks",
    "phase_names",
    "pool",
    "pool_experts",
    "record_task",
    "span_names",
    "trial_spans",
]
