"""What I(X;T) is compared with: states of the same units, independent of each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lmri.information.estimate import Estimate
from lmri.information.nulls import independent_units

STRUCTURE_DRAWS = 39
"""Draws of states with independent units, the fewest with which p can be .05 in two directions."""


class References:
    """I(X;T) of states with independent units, made once however many attributes are asked about.

    Parameters
    ----------
    t : ndarray of shape (n, d), float64
        Activity of a layer.
    seed : int
        Of the draws.
    """

    def __init__(self, t: np.ndarray, seed: int) -> None:
        self._t, self._seed = t, seed
        self._made: dict[str, list[list[float]]] = {}

    def of(self, name: str, estimates: Callable[[np.ndarray], list[Estimate]]) -> list[list[float]]:
        """Values of every I(X;T) that an estimator gives, in every draw.

        Parameters
        ----------
        name : str
            Of the estimator.
        estimates : callable
            Takes states, and gives the estimates of I(X;T) in their order.

        Returns
        -------
        list of list of float
            For each estimate its values in nats.
        """
        if name not in self._made:
            drawn = independent_units(self._t, STRUCTURE_DRAWS, self._seed)
            values = [[found.value for found in estimates(own)] for own in drawn]
            self._made[name] = [list(own) for own in zip(*values, strict=True)]
        return self._made[name]
