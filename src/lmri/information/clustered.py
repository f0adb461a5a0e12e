"""Means over tokens, with standard errors over the texts they come in and what these share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class ClusteredMeans:
    """Ratio of sums over clusters, ``Σ_c s_c / Σ_c m_c``, from running sums.

    Tokens of a text are no independent samples, and texts of one place or year are none either. The
    error is that of a ratio estimator: the variance of ``s_c - mean m_c`` over clusters (Cochran
    1977, Sampling Techniques, 6.3). Of k carriers the variances over the values of each are added,
    and that over texts taken out again k - 1 times: over combinations of values, which Cameron,
    Gelbach and Miller (2011) take out, it is no less, so the error is none too small. Sums are held
    of every value of a carrier.

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
        self._carried: dict[str, dict[str, np.ndarray]] = {}

    def add(
        self, sums: np.ndarray, counts: np.ndarray, carriers: Mapping[str, str] | None = None
    ) -> None:
        """Add a text.

        Parameters
        ----------
        sums : ndarray of the shape of the means
            Sums over its elements.
        counts : ndarray, broadcastable to it
            Number of elements.
        carriers : mapping of str to str, optional
            Value of each of its carriers, by name.
        """
        self.clusters += 1
        counts = np.broadcast_to(counts, self.counts.shape)
        self.counts += counts
        self._with += counts > 0
        self._sums += sums
        self._squares += np.square(sums)
        self._products += sums * counts
        self._count_squares += np.square(counts)
        both = np.stack(np.broadcast_arrays(sums, counts)).astype(float)
        for name, value in (carriers or {}).items():
            held = self._carried.setdefault(name, {})
            held[value] = held[value] + both if value in held else both

    def mean(self) -> np.ndarray:
        """Means; NaN where there is no element."""
        with np.errstate(invalid="ignore"):
            return self._sums / np.where(self.counts > 0, self.counts, np.nan)

    def error(self) -> np.ndarray:
        """Standard errors; NaN where fewer than two texts have an element."""
        mean = self.mean()
        squares = self._squares - 2 * mean * self._products + mean**2 * self._count_squares
        texts = self._variance(squares, self._with)
        each = []
        for held in self._carried.values():
            sums, counts = np.stack(list(held.values()), axis=1)
            own = self._variance(
                np.square(sums - mean * counts).sum(axis=0), (counts > 0).sum(axis=0)
            )
            # Texts that all have one value of a carrier say nothing of other values.
            each.append(np.where(np.isnan(own), texts, own))
        joint = sum(each) - (len(each) - 1) * texts if each else texts
        return np.sqrt(np.max([texts, *each, joint], axis=0))

    def _variance(self, squares: np.ndarray, clusters: np.ndarray) -> np.ndarray:
        own = np.where(clusters > 1, clusters, np.nan)
        with np.errstate(invalid="ignore"):
            return np.clip(squares, 0, None) * own / (own - 1) / np.square(self.counts)
