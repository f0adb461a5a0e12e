"""Recording: labelled activity of a subject on a task."""

from lmri.record.hooks import HEAD_SUMMARIES, PLACES, Capture, attention_summaries, capturing
from lmri.record.job import record_task
from lmri.record.phases import (
    PHASES,
    STATISTICS,
    phase_masks,
    phase_names,
    pool,
    span_names,
    trial_spans,
)

__all__ = [
    "HEAD_SUMMARIES",
    "PHASES",
    "PLACES",
    "STATISTICS",
    "Capture",
    "attention_summaries",
    "capturing",
    "phase_masks",
    "phase_names",
    "pool",
    "record_task",
    "span_names",
    "trial_spans",
]
