"""Recording: labelled activity of a subject on a task."""

from lmri.record.hooks import HEAD_SUMMARIES, PLACES, Capture, attention_summaries, capturing
from lmri.record.job import record_task
from lmri.record.phases import PHASES, SPANS, STATISTICS, phase_masks, pool, prompt_spans

__all__ = [
    "HEAD_SUMMARIES",
    "PHASES",
    "PLACES",
    "SPANS",
    "STATISTICS",
    "Capture",
    "attention_summaries",
    "capturing",
    "phase_masks",
    "pool",
    "prompt_spans",
    "record_task",
]
