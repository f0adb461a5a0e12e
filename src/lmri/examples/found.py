"""What was read of a subject."""

from __future__ import annotations

from dataclasses import dataclass

from lmri.examples.asked import Activity
from lmri.examples.strongest import Strongest
from lmri.examples.traces import Trace


@dataclass(frozen=True)
class Found:
    """Units, their examples, and traced trials.

    Attributes
    ----------
    activities : list of Activity
        Units that could be read, each once.
    strongest : Strongest
        Their examples, by place in ``activities``.
    traces : list of Trace
        Trials that were drawn.
    """

    activities: list[Activity]
    strongest: Strongest
    traces: list[Trace]
