"""Section of a study for what single units respond to, token by token."""

from __future__ import annotations

from dataclasses import dataclass

from lmri.config.options import Options


@dataclass(frozen=True)
class ExampleOptions(Options):
    """Examples of what units respond to; no ``units`` leaves them out.

    Of every finding and of every primary map the strongest ``units`` are read at every token. The
    ``trials`` in which a unit is farthest above zero are kept, and as many below, with ``window``
    tokens before and after the place; those of either side are sorted into at most ``facets``
    clusters. Every token is kept of ``traces`` trials of each condition of a contrast, drawn by
    the seed.
    """

    units: int = 0
    trials: int = 24
    window: int = 10
    facets: int = 3
    traces: int = 1
