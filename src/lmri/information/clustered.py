"""Means over tokens, with standard errors over the texts they come in."""

from __future__ import annotations

import numpy as np


class ClusteredMeans:
    """Ratio of sums over clusters, ``Σ_c s_c / Σ_c m_c``, from running sums.

    Tokens of a text are no independent samples, texts are. The error is that of a ratio estimator:
    the variance of ``s_c - mean m_c`` over clusters (Cochran 1977, Sampling Techniques, 6.3).

    Parameters
    ----------
    shape : tuple of int
        Shape of the sums.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.clusters = 0
        self.counts = np.zeros(shape)
        self._with = np.zeros(shape)  # clusters that have an element at all
        self._sums, self._squares, self._products, self._count_squares = np.zeros((4, *shape))

    def add(self, sums: np.ndarray, counts: np.ndarray) -> None:
        """Add a cluster.

        Parameters
        ----------
        sums : ndarray of the shape of the means
            Sums over its elements.
        counts : ndarray, broadcastable to it
            Number of elements.
        """
        self.clusters += 1
        counts = np.broadcast_to(counts, self.counts.shape)
        self.counts += counts
        self._with += counts > 0
        self._sums += sums
        self._squares += np.square(sums)
        self._products += sums * counts
        self._count_squares += np.square(counts)

    def mean(self) -> np.ndarray:
        """Means; NaN where there is no element."""
        with np.errstate(invalid="ignore"):
            return self._sums / np.where(self.counts > 0, self.counts, np.nan)

    def error(self) -> np.ndarray:
        """Standard errors; NaN where fewer than two clusters have an element."""
        mean, own = self.mean(), np.where(self._with > 1, self._with, np.nan)
        spread = self._squares - 2 * mean * self._products + mean**2 * self._count_squares
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.clip(spread, 0, None) * own / (own - 1)) / self.counts
