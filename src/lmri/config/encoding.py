"""Section of a study for what drives units."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lmri.checks import quoted
from lmri.config.options import Options


@dataclass(frozen=True)
class EncodeOptions(Options):
    """Which features of stimuli predict the activity of units; no tasks leaves it out.

    ``kinds`` of units are encoded in ``phases``, those of the maps where they are left out, as
    ``levels`` says: by trial, by token, or both. ``bands`` of interest are columns of the table of
    trials, ``numbers`` and ``embedding``; left out, they follow from the table. Of tokens,
    ``embedding`` is that of the token, and ``previous`` those at ``delays`` before it.
    ``dimensions`` are those of a projected embedding. Every carrier has ``folds``, and
    ``candidates`` weightings of bands are tried. ``draws`` exchange a band among carriers; 0 tests
    nothing. Subspaces of bands are ablated in ``subspace_trials`` trials beside ``subspace_draws``
    random ones; 0 ablates none.
    """

    tasks: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("expert", "head", "residual")
    phases: tuple[str, ...] = ()
    levels: tuple[str, ...] = ("trials",)
    bands: tuple[str, ...] = ()
    dimensions: int = 16
    delays: tuple[int, ...] = (1, 2, 3)
    folds: int = 4
    candidates: int = 16
    draws: int = 99
    subspace_draws: int = 19
    subspace_trials: int = 64

    def problems(self, tasks: Collection[str]) -> Iterator[str]:
        """Find what no schema can say: tasks that the study does not have.

        Parameters
        ----------
        tasks : collection of str
            Tasks of the study.

        Yields
        ------
        str
            One line for each, naming the key.
        """
        for index, task in enumerate(self.tasks):
            if task not in tasks:
                yield f"'encode.tasks.{index}' must be one of {quoted(tasks)}. Got '{task}'."
