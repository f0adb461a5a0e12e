"""Batches of rows of equal length: no padding, so no row can change another by a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def equal_length_batches(lengths: Sequence[int], rows: int) -> Iterator[np.ndarray]:
    """Group rows of the same length, shortest first, in their given order.

    Parameters
    ----------
    lengths : sequence of int
        Length of every row, in tokens.
    rows : int
        Rows per batch, at most.

    Yields
    ------
    ndarray of shape (n_rows,), int64
        Indices of the rows of a batch.
    """
    lengths = np.asarray(lengths)
    for length in np.unique(lengths):
        members = np.flatnonzero(lengths == length)
        for start in range(0, len(members), rows):
            yield members[start : start + rows]
