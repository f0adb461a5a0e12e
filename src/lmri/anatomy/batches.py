"""Batches of rows of equal or similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch


def equal_length_batches(lengths: Sequence[int], rows: int) -> Iterator[np.ndarray]:
    """Group rows of the same length, shortest first, in their given order.

    Without padding no row can change another by a mask.

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
    yield from similar_length_batches(lengths, rows, padding=0.0)


def similar_length_batches(
    lengths: Sequence[int], rows: int, padding: float, tokens: int | None = None
) -> Iterator[np.ndarray]:
    """Group rows of similar length, shortest first, rows of one length in their given order.

    Parameters
    ----------
    lengths : sequence of int
        Length of every row, in tokens.
    rows : int
        Rows per batch, at most.
    padding : float
        Share of a batch that may be padding; 0 gives rows of one length only.
    tokens : int, optional
        Tokens per batch, padding included, at most; a longer row is a batch of its own.

    Yields
    ------
    ndarray of shape (n_rows,), int64
        Indices of the rows of a batch.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    batch: list[int] = []
    total = 0
    for row in np.argsort(lengths, kind="stable"):
        size = (len(batch) + 1) * int(lengths[row])  # the longest comes last
        wasted = size - total - int(lengths[row])
        full = len(batch) == rows or (tokens is not None and size > tokens)
        if batch and (full or wasted > padding * size):
            yield np.array(batch, dtype=np.int64)
            batch, total = [], 0
        batch.append(int(row))
        total += int(lengths[row])
    if batch:
        yield np.array(batch, dtype=np.int64)


def pad(rows: Sequence[Sequence[int]], filler: int, *, left: bool) -> tuple[torch.Tensor, ...]:
    """Pad rows to one length.

    Parameters
    ----------
    rows : sequence of sequence of int
        Token ids.
    filler : int
        Token that fills.
    left : bool
        Whether to fill before the row (to go on after it) or after it.

    Returns
    -------
    ids : Tensor of shape (n_rows, tokens), int64
        Rows of one length.
    real : Tensor of shape (n_rows, tokens), bool
        False where padded.
    """
    lengths = np.array([len(row) for row in rows])
    longest = int(lengths.max())
    positions = np.arange(longest)
    starts = (longest - lengths if left else np.zeros_like(lengths))[:, None]
    real = (positions >= starts) & (positions < starts + lengths[:, None])
    ids = np.full(real.shape, filler, dtype=np.int64)
    ids[real] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return torch.from_numpy(ids), torch.from_numpy(real)
