"""Ridge and banded ridge from moments: choosing penalties, fitting, predicting new carriers.

For each unit ``y``, with standardised features ``X`` in bands ``X_b``::

    w* = argmin_w ||Σ_b √γ_b X_b w_b - y||² + α ||w||²

``γ`` lies on the simplex: one point is plain ridge, many are a random search of banded ridge
(himalaya's ``solve_group_ridge_random_search``; the candidates are drawn by himalaya). Each unit
has the ``γ`` and ``α`` that predict best in the inner folds.

himalaya is not called for the solution itself. It decomposes the features anew for every batch of
units, and needs an array of (penalties, test rows, training rows) and all units in memory. Here the
cross-products of a training set are decomposed once for all units, and a unit is never larger than
its moments. The solutions agree to rounding; a test compares them, and ``benchmarks.encode`` says
what it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmri.encode.folds import Folds
from lmri.encode.moments import Moments, Tested, Trained

ALPHAS = tuple(10.0**power for power in range(-2, 8))
"""Penalties. Features are standardised, so that a penalty of the number of rows halves weights."""

AT_ONCE = 2**21
"""Weights of features under all penalties that are held together."""


@dataclass(frozen=True)
class Search:
    """What is tried for each unit.

    Attributes
    ----------
    alphas : ndarray of shape (n_alphas,)
        Penalties, rising.
    gammas : ndarray of shape (n_gammas, n_bands)
        Weights of the bands, which sum to 1; one row of equal weights is plain ridge.
    """

    alphas: np.ndarray
    gammas: np.ndarray

    def of(self, bands: Sequence[int]) -> Search:
        """Search over some of the bands: weights in proportion, without doubles."""
        own = self.gammas[:, list(bands)]
        own = own[own.sum(axis=1) > 0]
        own = own / own.sum(axis=1, keepdims=True)
        return Search(self.alphas, np.unique(own.round(12), axis=0))


def search_of(bands: int, candidates: int, seed: int, alphas: Sequence[float] = ALPHAS) -> Search:
    """Draw the weights of bands that are tried.

    Parameters
    ----------
    bands : int
        Number of bands.
    candidates : int
        Points of the simplex; 1 is plain ridge. First equal weights, then each band alone, then
        equal weights of all but one; the others are drawn.
    seed : int
        Seed of the draw.
    alphas : sequence of float
        Penalties.

    Returns
    -------
    Search
        What is tried.
    """
    from himalaya.kernel_ridge import generate_dirichlet_samples

    equal, alone = np.full((1, bands), 1 / bands), np.eye(bands)
    fixed = [equal, alone, (1 - alone) / max(1, bands - 1)] if bands > 2 else [equal, alone]
    points = np.concatenate(fixed)[:candidates]
    if bands > 1 and candidates > len(points):
        drawn = generate_dirichlet_samples(
            n_samples=candidates - len(points),
            n_kernels=bands,
            concentration=[0.1, 1.0],
            random_state=seed,
        )
        points = np.concatenate([points, np.asarray(drawn, dtype=np.float64)])
    return Search(
        np.asarray(sorted(alphas), dtype=np.float64), points[: candidates if bands > 1 else 1]
    )


@dataclass(frozen=True)
class Chosen:
    """The best of a search for each unit, by its place there.

    Attributes
    ----------
    gamma, alpha : ndarray of shape (n_units,), int64
        Places among the candidates and the penalties.
    """

    gamma: np.ndarray
    alpha: np.ndarray


def choose(
    moments: Moments, folds: Folds, train: np.ndarray, search: Search, sizes: Sequence[int]
) -> Chosen:
    """Choose weights and penalty of each unit by the error in the inner folds.

    Parameters
    ----------
    moments : Moments
        Sums of all cells.
    folds : Folds
        The folds.
    train : ndarray of int
        Cells that may be looked at.
    search : Search
        What is tried.
    sizes : sequence of int
        Columns of each band.

    Returns
    -------
    Chosen
        For every unit.
    """
    loss = np.zeros((len(search.gammas), len(search.alphas), moments.units))
    for cell, own in folds.inner(train):
        trained = Trained.of(moments, own)
        tested = trained.seen(moments, cell)
        for place, weights in enumerate(search.gammas):
            roots = np.repeat(np.sqrt(weights), sizes)
            loss[place] += _losses(trained, [tested], roots, search.alphas)[0]
    best = loss.reshape(-1, moments.units).argmin(axis=0)
    return Chosen(*np.divmod(best, len(search.alphas)))


def choose_everywhere(moments: Moments, folds: Folds, alphas: np.ndarray) -> list[Chosen]:
    """Choose the penalty of plain ridge for every test cell.

    The choice is that of :func:`choose`. Training sets that tests share inside are decomposed once,
    and the errors of all tests are held together: cells × penalties × units.

    Parameters
    ----------
    moments : Moments
        Sums of all cells.
    folds : Folds
        The folds.
    alphas : ndarray of shape (n_alphas,)
        Penalties.

    Returns
    -------
    list of Chosen
        In the order of the tests of the folds.
    """
    loss = np.zeros((len(folds.tests), len(alphas), moments.units))
    equal = np.ones(moments.features)
    for own, scored in folds.nested:
        trained = Trained.of(moments, own)
        tested = [trained.seen(moments, cell) for _, cell in scored]
        for (place, _), error in zip(scored, _losses(trained, tested, equal, alphas), strict=True):
            loss[place] += error
    best = loss.argmin(axis=1)
    return [Chosen(np.zeros_like(own), own) for own in best]


def fit(trained: Trained, chosen: Chosen, search: Search, sizes: Sequence[int]) -> np.ndarray:
    """Fit each unit with its weights and penalty.

    Parameters
    ----------
    trained : Trained
        Sums of the training cells.
    chosen : Chosen
        Weights and penalty of each unit.
    search : Search
        What they are places in.
    sizes : sequence of int
        Columns of each band.

    Returns
    -------
    ndarray of shape (features, units), float64
        Weights of the standardised features.
    """
    made = np.zeros(trained.xy.shape)
    for place in np.unique(chosen.gamma):
        units = np.flatnonzero(chosen.gamma == place)
        roots = np.repeat(np.sqrt(search.gammas[place]), sizes)
        values, vectors = _decomposed(trained.xx, roots)
        rotated = vectors.T @ (roots[:, None] * trained.xy[:, units])
        rotated /= values[:, None] + search.alphas[chosen.alpha[units]]
        made[:, units] = roots[:, None] * (vectors @ rotated)
    return made


def _losses(
    trained: Trained, tested: Sequence[Tested], roots: np.ndarray, alphas: np.ndarray
) -> np.ndarray:
    """Squared error of test cells: array of shape (n_tested, n_alphas, n_units)."""
    values, vectors = _decomposed(trained.xx, roots)
    basis = roots[:, None] * vectors
    spans = [basis.T @ cell.xx @ basis for cell in tested]
    units = trained.xy.shape[1]
    losses = np.empty((len(tested), len(alphas), units))
    shrunk = 1 / (values[:, None] + alphas)  # (features, alphas)
    step = max(1, AT_ONCE // shrunk.size)
    for start in range(0, units, step):
        own = slice(start, start + step)
        rotated = basis.T @ trained.xy[:, own]
        weights = shrunk[:, :, None] * rotated[:, None]  # (features, alphas, units)
        for place, (cell, xx) in enumerate(zip(tested, spans, strict=True)):
            error = (xx @ weights.reshape(len(xx), -1)).reshape(weights.shape)
            error -= 2 * (basis.T @ cell.xy[:, own])[:, None]
            losses[place, :, own] = cell.yy[own] + np.einsum("fau,fau->au", error, weights)
    return losses


def _decomposed(xx: np.ndarray, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, not negative, and eigenvectors of the weighted cross-products."""
    values, vectors = np.linalg.eigh(xx * np.outer(roots, roots))
    return np.clip(values, 0, None), vectors
