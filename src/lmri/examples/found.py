"""What was read of a subject."""

from __future__ import annotations

from dataclasses import dataclass

from lmri.examples.asked import Activity
from lmri.examples.facets import facets_of
from lmri.examples.strongest import Example, Strongest
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

    def faceted(self, most: int, seed: int) -> list[list[tuple[int, Example]]]:
        """Sort the examples of every unit into facets.

        Parameters
        ----------
        most : int
            Facets on either side of zero, at most.
        seed : int
            See :func:`lmri.examples.facets.facets_of`.

        Returns
        -------
        list of list of (int, Example)
            By unit: examples with their facets, numbered from 1. What is above zero comes first
            and shares no facet with what is below.
        """
        found = []
        for unit in range(len(self.activities)):
            own: list[tuple[int, Example]] = []
            for side in self.strongest.examples(unit):
                before = max((facet for facet, _ in own), default=0)
                labels = facets_of([example.context for example in side], most, seed)
                own += zip((labels + before + 1).tolist(), side, strict=True)
            found.append(own)
        return found
