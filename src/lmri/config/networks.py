"""Sections of a study for how units work together, and for what subjects share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lmri.config.options import Options


@dataclass(frozen=True)
class ConnectOptions(Options):
    """How units of a subject work together; without ``kinds`` nothing is told of it.

    ``tasks`` are those of all contrasts, and ``phases`` those of the maps, where they are left out.
    Of more units than ``nodes`` the most variable ones are compared. ``draws`` are those of every
    null but the rewired graphs, of which there are ``rewirings``; ``density`` is the share of edges
    that a graph keeps, and ``runs`` are those that communities must agree on.
    """

    kinds: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    nodes: int = 256
    density: float = 0.1
    draws: int = 199
    rewirings: int = 99
    runs: int = 20


@dataclass(frozen=True)
class AlignOptions(Options):
    """What subjects share whose units do not correspond; without ``quantities`` nothing is told.

    ``tasks`` and ``phases`` as for :class:`ConnectOptions`. Spaces of ``dimensions`` are fitted on
    trials of the split ``fit`` and scored on those of ``score``. ``draws`` are those of every null
    and interval. Decoders of a new subject are told ``counts`` trials of each condition, drawn
    ``repeats`` times.
    """

    quantities: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    fit: str = "selection"
    score: str = "calibration"
    dimensions: int = 10
    draws: int = 199
    counts: tuple[int, ...] = (1, 2, 4, 8)
    repeats: int = 10

    def problems(self) -> Iterator[str]:
        """Yield what no schema can say: one split for both."""
        if self.fit == self.score:
            yield (
                "'align.score' must be another split than 'align.fit': what was fitted on a trial "
                f"is not scored on it. Got '{self.score}' for both."
            )
