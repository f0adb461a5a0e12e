"""Distances between samples in the maximum norm, a few rows at a time, and what is counted by them.

All pairs are compared dimension by dimension in blocks that stay in the cache: beyond three
dimensions that is faster than any tree, and its values are the same to the last bit, since
|x - y| and max are exact operations on the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

BLOCK_VALUES = 2**17
"""Distances held at once for each space: 1 MB."""


class Chebyshev:
    """Distances ``max_d |x_id - x_jd|`` from some samples to all.

    Parameters
    ----------
    samples : ndarray of shape (n, d), float64
        The samples.

    Attributes
    ----------
    n : int
        Number of samples.
    """

    def __init__(self, samples: np.ndarray) -> None:
        self._columns = np.ascontiguousarray(samples.T)
        self.n = len(samples)
        self._distances = np.empty((row_count(self.n), self.n))
        self._other = np.empty_like(self._distances)

    def rows(self, rows: slice) -> np.ndarray:
        """Distances of some samples to all.

        Parameters
        ----------
        rows : slice
            At most :func:`row_count` samples.

        Returns
        -------
        ndarray of shape (n_rows, n), float64
            The distances; overwritten by the next call.
        """
        distances = self._distances[: rows.stop - rows.start]
        other = self._other[: rows.stop - rows.start]
        for number, column in enumerate(self._columns):
            into = other if number else distances
            np.subtract(column, column[rows, None], out=into)
            np.abs(into, out=into)
            if number:
                np.maximum(distances, other, out=distances)
        return distances


def row_count(n: int) -> int:
    """Rows of a block of distances to n samples."""
    return max(1, min(n, BLOCK_VALUES // n))


def row_blocks(n: int) -> Iterator[slice]:
    """Cut n rows into blocks of :func:`row_count`."""
    step = row_count(n)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def smallest(distances: np.ndarray, k: int) -> np.ndarray:
    """The k-th smallest value of each row; k from 1."""
    return np.partition(distances, k - 1, axis=1)[:, k - 1]


def count_within(samples: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Count the samples nearer than a radius, the sample itself included.

    Parameters
    ----------
    samples : ndarray of shape (n, d), float64
        Samples in few dimensions.
    radius : ndarray of shape (n,), float64
        Radii above 0 in the maximum norm; a sample at exactly this distance is not counted.

    Returns
    -------
    ndarray of shape (n,), int64
        The counts.
    """
    if samples.shape[1] == 1:
        return _count_on_line(samples[:, 0], radius)
    below = np.nextafter(radius, 0)
    return cKDTree(samples).query_ball_point(samples, below, p=np.inf, return_length=True)


def _count_on_line(values: np.ndarray, radius: np.ndarray) -> np.ndarray:
    order = np.sort(values)
    low = np.searchsorted(order, values - radius)
    high = np.searchsorted(order, values + radius)
    n = len(order)
    # values ± radius are rounded: the ends are put right by the distances themselves, which grow
    # with the place in the order.
    while True:
        out = (low < n) & (np.abs(order[np.minimum(low, n - 1)] - values) >= radius)
        inside = (low > 0) & (np.abs(order[low - 1] - values) < radius)
        if not (out | inside).any():
            break
        low += out.astype(np.int64) - inside
    while True:
        inside = (high < n) & (np.abs(order[np.minimum(high, n - 1)] - values) < radius)
        out = (high > 0) & (np.abs(order[high - 1] - values) >= radius)
        if not (out | inside).any():
            break
        high += inside.astype(np.int64) - out
    return high - low
