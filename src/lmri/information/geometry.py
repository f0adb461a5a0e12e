"""Intrinsic dimension of a cloud of states, from the distances to nearest neighbours.

- TwoNN (Facco et al. 2017): the ratio ``μ = r_2 / r_1`` of the distances to the two nearest
  neighbours follows ``P(μ) = D μ^(-D - 1)``, so ``D = (n - 1) / Σ ln μ``.
- Levina and Bickel 2004, with the averaging of MacKay and Ghahramani 2005:
  ``1 / D = mean over points of 1 / (k - 1) Σ_{j < k} ln(r_k / r_j)``.

Both are about right up to a dimension of 10 and too low beyond: 16 of 20, 31 of 50 with a thousand
points. Both need points that differ: equal states, such as those of the first token, are counted
once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lmri.checks import check_choice, check_range
from lmri.errors import EvidenceError

METHODS = ("two_nn", "likelihood")

NEIGHBOURS = 10
"""Neighbours of the likelihood estimator."""

TRUSTED = 15.0
"""Above this dimension an estimate is a lower bound: flag ``dimension``."""

UNSTABLE = 0.2
"""Relative deviation over disjoint parts above which an estimate is flagged ``instability``."""

PARTS = 5
"""Disjoint parts an interval is taken from."""

FEW = 10
"""Different points below which :func:`two_nearest_dimension` gives none."""

BY_TREE = 5
"""Dimensions up to which a tree finds neighbours faster than products of all pairs."""

BLOCK_BYTES = 64 * 2**20
"""Distances, or differences of neighbours, held at once."""


@dataclass(frozen=True)
class Dimension:
    """An intrinsic dimension.

    Attributes
    ----------
    value : float
        Estimate from all points.
    error : float
        Standard error, ``deviation over disjoint parts / sqrt(parts)``; NaN where the points are
        too few for parts.
    method : str
        One of :data:`METHODS`.
    samples : int
        Different points that were used.
    duplicates : int
        Points left out because they equal another.
    flags : tuple of str
        ``dimension`` (above :data:`TRUSTED`, read it as a lower bound), ``instability`` (parts
        differ), ``dependent_tokens`` (points of one carrier, such as the tokens of a text, are
        neighbours of each other), ``duplicates`` (more than half of the points).
    """

    value: float
    error: float
    method: str
    samples: int
    duplicates: int
    flags: tuple[str, ...]


def intrinsic_dimension(
    rows: np.ndarray,
    method: str = "two_nn",
    *,
    neighbours: int = NEIGHBOURS,
    carriers: np.ndarray | None = None,
    seed: int = 0,
) -> Dimension:
    """Estimate the intrinsic dimension of rows.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Points.
    method : str
        One of :data:`METHODS`.
    neighbours : int
        k of the likelihood estimator, at least 2.
    carriers : ndarray of shape (n,), optional
        What the points belong to, such as the trial of a token. Disjoint parts are made of whole
        carriers.
    seed : int
        Of the disjoint parts.

    Returns
    -------
    Dimension
        The estimate with its error.

    Raises
    ------
    EvidenceError
        If fewer different points remain than ``neighbours + 2`` (TwoNN: 4), or one is not finite.
    """
    check_choice(method, METHODS, "method", "the intrinsic dimension")
    check_range(neighbours, "neighbours", "the intrinsic dimension", low=2)
    rows = np.asarray(rows, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise EvidenceError("Points must be finite to have an intrinsic dimension. Some are not.")
    k = 2 if method == "two_nn" else neighbours
    unique, first = np.unique(rows, axis=0, return_index=True)
    if len(unique) < k + 2:
        raise EvidenceError(
            f"An intrinsic dimension by '{method}' must have at least {k + 2} different points. "
            f"Got {len(unique)} among {len(rows)}."
        )
    owners = np.arange(len(rows)) if carriers is None else np.asarray(carriers)
    owners = np.unique(owners[first], return_inverse=True)[1]
    estimate = _two_nn if method == "two_nn" else _likelihood
    value = estimate(neighbour_distances(unique, k))
    parts = [
        estimate(neighbour_distances(unique[part], k))
        for part in _parts(owners, seed)
        if part.sum() >= k + 2
    ]
    enough = len(parts) == PARTS
    deviation = float(np.std(parts, ddof=1)) if enough else float("nan")
    flags = [
        ("dimension", value > TRUSTED),
        ("instability", enough and deviation > UNSTABLE * value),
        ("dependent_tokens", len(np.unique(owners)) < len(owners)),
        ("duplicates", 2 * len(unique) < len(rows)),
    ]
    return Dimension(
        value=value,
        error=deviation / np.sqrt(PARTS),
        method=method,
        samples=len(unique),
        duplicates=len(rows) - len(unique),
        flags=tuple(name for name, raised in flags if raised),
    )


def two_nearest_dimension(rows: np.ndarray) -> float:
    """Estimate by TwoNN alone, as the guards of other estimators need it.

    Parameters
    ----------
    rows : ndarray of shape (n, d), float64
        Points; equal ones are counted once.

    Returns
    -------
    float
        At most d; NaN with fewer than 10 different points.
    """
    different = np.unique(rows, axis=0)
    if len(different) < FEW:
        return float("nan")
    return min(_two_nn(neighbour_distances(different, 2)), float(rows.shape[1]))


def neighbour_distances(rows: np.ndarray, k: int) -> np.ndarray:
    """Distances of each point to its k nearest neighbours.

    In few dimensions by a tree. In many, neighbours are found by matrix products in blocks of rows,
    and the distances to them are then taken from the differences: those of close neighbours far
    from the origin keep their digits.

    Parameters
    ----------
    rows : ndarray of shape (n, d), float64
        Points.
    k : int
        Neighbours, fewer than n.

    Returns
    -------
    ndarray of shape (n, k), float64
        Euclidean, the nearest first; the point itself is none of its neighbours.
    """
    if rows.shape[1] <= BY_TREE:
        return cKDTree(rows).query(rows, k=k + 1)[0][:, 1:]
    rows = rows - rows.mean(axis=0)
    squares = np.square(rows).sum(axis=1)
    # Products can mistake which of two neighbours is nearer by rounding: a few more are looked at.
    candidates = min(k + 4, len(rows) - 1)
    found = np.empty((len(rows), k))
    step = max(1, BLOCK_BYTES // (8 * max(len(rows), candidates * rows.shape[1])))
    for start in range(0, len(rows), step):
        own = slice(start, min(start + step, len(rows)))
        apart = squares[own, None] + squares - 2 * (rows[own] @ rows.T)
        apart[np.arange(own.stop - own.start), np.arange(own.start, own.stop)] = np.inf
        near = np.argpartition(apart, candidates - 1, axis=1)[:, :candidates]
        exact = np.linalg.norm(rows[near] - rows[own, None], axis=2)
        found[own] = np.sort(exact, axis=1)[:, :k]
    return found


def _two_nn(distances: np.ndarray) -> float:
    """``(n - 1) / Σ ln(r_2 / r_1)``; infinite where all ratios are 1."""
    total = np.log(distances[:, 1] / distances[:, 0]).sum()
    return float((len(distances) - 1) / total) if total > 0 else float("inf")


def _likelihood(distances: np.ndarray) -> float:
    k = distances.shape[1]
    total = np.log(distances[:, -1:] / distances[:, :-1]).sum(axis=1) / (k - 1)
    mean = total.mean()
    return float(1 / mean) if mean > 0 else float("inf")


def _parts(owners: np.ndarray, seed: int) -> list[np.ndarray]:
    """Disjoint parts of whole carriers: arrays of shape (n,), bool; none of too few carriers."""
    count = owners.max() + 1
    if count < PARTS:
        return []
    shuffled = np.random.default_rng(seed).permutation(count)
    return [(shuffled % PARTS == part)[owners] for part in range(PARTS)]
