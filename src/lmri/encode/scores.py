"""How well held-out activity is predicted, and which band does it.

With ``ỹ`` the activity less its training mean and ``ŷ = Σ_b ŷ_b`` the predictions of a test cell,
sums are over all test cells::

    R²   = 1 - Σ (ỹ - ŷ)² / Σ ỹ²             0 is as good as the training mean
    R²_b = Σ (2 ỹ ŷ_b - ŷ_b ŷ) / Σ ỹ²         product measure; sums to R² over bands
    r    = mean over test cells c of corr_c(y, ŷ)

A correlation within a test cell is 0 on average where there is nothing to predict. One of all cells
together is not: where predictions are large by chance, it is more often positive and the more
shrunk, so that its mean is below 0. The split of R² assumes activity of mean
zero, which ``ỹ`` has in training.

Source: Dupré la Tour et al., Feature-space selection with banded ridge regression (2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmri.encode.folds import Folds
from lmri.encode.moments import Moments, Tested, Trained
from lmri.encode.ridge import Chosen, Search, choose, choose_everywhere, fit

STILL = 1e-10
"""Share of the variance of a unit's square, up to which it is constant."""


@dataclass(frozen=True)
class Scores:
    """Scores of every unit, over all test cells.

    Attributes
    ----------
    r2, r : ndarray of shape (n_units,), float64
        NaN for a unit that does not vary; ``r`` also where its predictions never do.
    split : ndarray of shape (n_bands, n_units), float64
        Part of ``r2`` of each band.
    """

    r2: np.ndarray
    r: np.ndarray
    split: np.ndarray


@dataclass
class _Sums:
    """Sums over test cells."""

    yy: np.ndarray
    split: np.ndarray
    r: np.ndarray
    correlated: np.ndarray


def held_out_scores(
    moments: Moments,
    folds: Folds,
    search: Search,
    sizes: Sequence[int],
    chosen: Sequence[Chosen] | None = None,
) -> Scores:
    """Fit and score in nested folds.

    Parameters
    ----------
    moments : Moments
        Sums of all cells.
    folds : Folds
        The folds, outside and inside.
    search : Search
        Weights of bands and penalties that are tried.
    sizes : sequence of int
        Columns of each band.
    chosen : sequence of Chosen, optional
        Weights and penalties for every test cell; by default they are chosen here.

    Returns
    -------
    Scores
        Of every unit.
    """
    units, bands = moments.units, len(sizes)
    sums = _Sums(*(np.zeros(shape) for shape in (units, (bands, units), units, units)))
    for place, (cell, train) in enumerate(folds.tests):
        own = choose(moments, folds, train, search, sizes) if chosen is None else chosen[place]
        trained = Trained.of(moments, train)
        _add(sums, trained.seen(moments, cell), fit(trained, own, search, sizes), sizes)
    still = ~varying(moments)
    yy = np.where(still | (sums.yy <= 0), np.nan, sums.yy)
    split = sums.split / yy
    r = sums.r / np.where(sums.correlated > 0, sums.correlated, np.nan)
    return Scores(split.sum(axis=0), np.where(still, np.nan, r), split)


def plain_r2(moments: Moments, folds: Folds, alphas: np.ndarray) -> np.ndarray:
    """Score plain ridge, its penalties chosen inside the training folds.

    Parameters
    ----------
    moments : Moments
        Sums of all cells.
    folds : Folds
        The folds.
    alphas : ndarray of shape (n_alphas,)
        Penalties that are tried.

    Returns
    -------
    ndarray of shape (n_units,), float64
        Held-out R² of all features together.
    """
    chosen, plain = choose_everywhere(moments, folds, alphas), Search(alphas, np.ones((1, 1)))
    return held_out_scores(moments, folds, plain, [moments.features], chosen).r2


def variance(moments: Moments) -> np.ndarray:
    """Variance of every unit over all rows: array of shape (n_units,), float64."""
    n, y = moments.n.sum(), moments.y.sum(axis=0)
    return np.clip(moments.yy.sum(axis=0) - y * y / n, 0, None) / n


def varying(moments: Moments) -> np.ndarray:
    """Tell which units vary at all: array of shape (n_units,), bool."""
    square = moments.yy.sum(axis=0) / moments.n.sum()
    if moments.about is not None:
        square = square + moments.about[1] ** 2
    return variance(moments) > STILL * square


def _add(sums: _Sums, tested: Tested, weights: np.ndarray, sizes: Sequence[int]) -> None:
    fitted = tested.xx @ weights
    parts = weights * (2 * tested.xy - fitted)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    sums.split += np.add.reduceat(parts, starts, axis=0)
    sums.yy += tested.yy
    # Within the cell: about its own means.
    mean = tested.x @ weights
    cov = (weights * tested.xy).sum(axis=0) - mean * tested.y / tested.n
    var = tested.yy - tested.y**2 / tested.n
    predicted = (weights * fitted).sum(axis=0) - mean**2 / tested.n
    moves = (var > STILL * tested.yy) & (predicted > 0)
    sums.r[moves] += cov[moves] / np.sqrt(var[moves] * predicted[moves])
    sums.correlated += moves
