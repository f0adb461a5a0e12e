"""Tests of what a band adds, against what it would add if it belonged to other carriers.

What nuisance does not tell of a band changes places among carriers, whole: how a carrier is called
is exchanged, while nuisance bands and activity stay where they are. With ``Z`` the nuisance bands,
averaged over what changes places together, and ``B`` the least squares of ``X_b`` on ``Z``, a draw
has the band ``Z B + π(X_b - Z B)``. Without the first part (Draper and Stoneman's scheme) the band
would be as collinear with nuisance in the data and independent of it in the draws, where it then
costs more: units that follow nuisance alone had p up to .05 in a fifth of simulated cases.

What is compared is the held-out gain ``R²(all) - R²(all but the band)`` of plain ridge. Folds are
those of the data. Penalties are chosen anew in every draw, inside its training folds, and
predictions are made anew. Penalties of the data would favour it: they suit its band and no draw's,
and where there is nothing to find one subject in ten to one in three had a unit with ``p_max`` up
to .05 (in simulation). To permute finished predictions would not do either: those of two folds rest
on each other's trials, and their sum varies more than permuted ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from lmri.encode.folds import Folds
from lmri.encode.moments import Moments
from lmri.encode.scores import plain_r2

GROUPS_PER_COLUMN = 4
"""Things that change places, for each column of nuisance, below which nothing is told from it."""


RCOND = 1e-10
"""Share of the largest eigenvalue of nuisance below which a direction of it is rounding."""


NOTHING = 1e-6
"""Share of the variance of a column below which what is left of it is rounding."""


@dataclass(frozen=True)
class Exchange:
    """How the values of a band change places.

    Attributes
    ----------
    scheme : str
        ``between`` values of a carrier, ``crossed`` over all carriers, ``within`` the values of a
        carrier, or empty if none is possible.
    carriers : tuple of str
        What is exchanged, or exchanged within.
    orders : ndarray of shape (draws, n_rows), int64
        Row whose values each row gets.
    group : ndarray of shape (n_rows,), int64
        Rows of one number change places together.
    """

    scheme: str
    carriers: tuple[str, ...]
    orders: np.ndarray
    group: np.ndarray


def exchanges(
    values: np.ndarray,
    carriers: pd.DataFrame,
    draws: int,
    seed: int,
    alike: np.ndarray | None = None,
) -> Exchange:
    """Draw how a band's values change places.

    A band that is the same in all rows of a value of one carrier is exchanged between its values. A
    band that follows from all carriers together is exchanged in all of them, where every
    combination is there. Any other is exchanged within the values of the first carrier.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        The band.
    carriers : DataFrame
        Carriers of the rows, one column each.
    draws : int
        Draws.
    seed : int
        Seed of the draws.
    alike : ndarray of shape (n_rows,), int64, optional
        Only rows of one number may get each other's values, such as trials of as many tokens; it
        must follow from the values. By default all may.

    Returns
    -------
    Exchange
        Without orders where no row could change its values.
    """
    rng = np.random.default_rng(seed)
    alike = np.zeros(len(values), dtype=np.int64) if alike is None else alike
    codes = {str(name): pd.factorize(carriers[name])[0] for name in carriers}
    for name, own in codes.items():
        if _constant(values, own):
            first = np.unique(own, return_index=True)[1]
            kinds = alike[first]
            orders = np.stack([first[_permuted(kinds, rng)][own] for _ in range(draws)])
            return _moving(Exchange("between", (name,), orders, own), values)
    if len(codes) > 1:
        crossed = _crossed(values, codes, draws, rng, alike)
        if crossed is not None:
            return _moving(crossed, values)
    name, own = next(iter(codes.items()))
    block = np.unique(np.stack([own, alike]), axis=1, return_inverse=True)[1].reshape(-1)
    rows = np.argsort(block, kind="stable")
    orders = np.empty((draws, len(values)), dtype=np.int64)
    for draw in orders:
        draw[rows] = np.lexsort((rng.random(len(own)), block))
    return _moving(Exchange("within", (name,), orders, np.arange(len(values))), values)


def _moving(found: Exchange, values: np.ndarray) -> Exchange:
    """Return what was found, or nothing if all rows keep their values in all draws."""
    if any((values[order] != values).any() for order in found.orders):
        return found
    return Exchange("", (), found.orders[:0], found.group)


def _crossed(
    values: np.ndarray,
    codes: dict[str, np.ndarray],
    draws: int,
    rng: np.random.Generator,
    alike: np.ndarray,
) -> Exchange | None:
    """Exchange a band in all carriers; None where it does not follow from them, or gaps are."""
    grid = tuple(codes.values())
    shape = tuple(int(own.max()) + 1 for own in grid)
    first = np.full(shape, -1)
    first[tuple(own[::-1] for own in grid)] = np.arange(len(values))[::-1]
    cell = np.ravel_multi_index(grid, shape)
    if not _constant(values, cell) or (first < 0).any():
        return None
    # Values of a carrier change places only where they are alike in all combinations.
    kinds = [
        np.unique(
            np.moveaxis(alike[first], axis, 0).reshape(size, -1), axis=0, return_inverse=True
        )[1].reshape(-1)
        for axis, size in enumerate(shape)
    ]
    orders = [
        first[tuple(_permuted(kind, rng)[own] for kind, own in zip(kinds, grid, strict=True))]
        for _ in range(draws)
    ]
    return Exchange("crossed", tuple(codes), np.stack(orders), cell)


def _permuted(kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute places among those of one kind: array of shape (n,), int64."""
    drawn = np.empty(len(kinds), dtype=np.int64)
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        drawn[own] = own[rng.permutation(len(own))]
    return drawn


def following(
    values: np.ndarray, nuisance: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tell how a band follows nuisance, over what changes places together.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        The band; the same in all rows of a group.
    nuisance : ndarray of shape (n_rows, n_nuisance)
        Columns of the nuisance bands.
    group : ndarray of shape (n_rows,), int64
        Of each row, see :class:`Exchange`.

    Returns
    -------
    mean : ndarray of shape (n_rows, n_nuisance), float64
        Nuisance, averaged over the group of each row.
    slopes : ndarray of shape (n_nuisance, n_columns), float64
        Least squares of the band on these; 0 with fewer than :data:`GROUPS_PER_COLUMN` groups for
        each column of nuisance.
    """
    mean, groups = group_means(nuisance, group)
    about = mean - mean.mean(axis=0)
    return mean, slopes_of(about, about.T @ values, groups)


def group_means(nuisance: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, int]:
    """Average nuisance over the group of each row.

    Parameters
    ----------
    nuisance : ndarray of shape (n_rows, n_nuisance)
        Columns of the nuisance bands.
    group : ndarray of shape (n_rows,), int64
        Of each row.

    Returns
    -------
    mean : ndarray of shape (n_rows, n_nuisance), float64
        The averages.
    groups : int
        Number of groups.
    """
    codes = np.unique(group, return_inverse=True)[1].reshape(-1)
    count = np.bincount(codes)
    mean = np.zeros((len(count), nuisance.shape[1]))
    for column, own in enumerate(nuisance.T):
        mean[:, column] = np.bincount(codes, own) / count
    return mean[codes], len(count)


def slopes_of(about: np.ndarray, across: np.ndarray, groups: int) -> np.ndarray:
    """Least squares from sums, see :func:`following`.

    Parameters
    ----------
    about : ndarray of shape (n_rows, n_nuisance)
        Nuisance, less its mean.
    across : ndarray of shape (n_nuisance, n_columns)
        Sums of its products with the band.
    groups : int
        Number of groups.

    Returns
    -------
    ndarray of shape (n_nuisance, n_columns), float64
        Slopes; 0 with too few groups.
    """
    if groups < GROUPS_PER_COLUMN * about.shape[1]:
        return np.zeros(across.shape)
    # On one scale, or the cut of small singular values would depend on units of measurement.
    scale = about.std(axis=0)
    scale[scale == 0] = 1.0
    scaled = about / scale
    inverse = np.linalg.pinv(scaled.T @ scaled, rcond=RCOND, hermitian=True)
    return inverse @ (across / scale[:, None]) / scale[:, None]


def follows(gram: np.ndarray, columns: np.ndarray) -> bool:
    """Tell whether a band follows from the others: what it adds is then a matter of the penalty.

    Parameters
    ----------
    gram : ndarray of shape (n_features, n_features)
        Sums of products of all features, about their means.
    columns : ndarray of int
        Columns of the band.

    Returns
    -------
    bool
        Whether nothing of it is left when the others are taken out.
    """
    scale = np.sqrt(np.diag(gram))
    scale = np.where(scale > 0, scale, 1.0)
    own = gram / np.outer(scale, scale)
    rest = np.setdiff1d(np.arange(len(gram)), columns)
    across = own[np.ix_(rest, columns)]
    inverse = np.linalg.pinv(own[np.ix_(rest, rest)], rcond=RCOND, hermitian=True)
    left = np.diag(own[np.ix_(columns, columns)]) - np.einsum(
        "rc,rs,sc->c", across, inverse, across
    )
    return bool((left < NOTHING).all())


def null_scores(
    X: np.ndarray,
    Y: np.ndarray,
    moments: Moments,
    folds: Folds,
    columns: np.ndarray,
    exchange: Exchange,
    nuisance: np.ndarray,
    alphas: np.ndarray,
) -> np.ndarray:
    """Score all bands together, one of which has changed places.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        The design.
    Y : ndarray of shape (n_rows, n_units)
        Activity.
    moments : Moments
        Their sums.
    folds : Folds
        The folds.
    columns : ndarray of int
        Columns of the band.
    exchange : Exchange
        See :func:`exchanges`.
    nuisance : ndarray of int
        Columns of the nuisance bands.
    alphas : ndarray of shape (n_alphas,)
        Penalties that are tried, in every draw anew.

    Returns
    -------
    ndarray of shape (draws, n_units), float64
        Held-out R².
    """
    others = np.setdiff1d(np.arange(X.shape[1]), columns)
    about_x, about_y = moments.about
    rows = [np.flatnonzero(folds.cell == cell) for cell in range(moments.cells)]
    kept, activity = X - about_x, Y - about_y
    orders = exchange.orders
    mean, slopes = following(X[:, columns], X[:, nuisance], exchange.group)
    drawn = Moments(moments.cells, moments.features, 0)
    drawn.units, drawn.n, drawn.y, drawn.yy = moments.units, moments.n, moments.y, moments.yy
    drawn.about = moments.about
    drawn.x, drawn.xx, drawn.xy = moments.x.copy(), moments.xx.copy(), moments.xy.copy()
    found = np.empty((len(orders), moments.units))
    for draw, order in enumerate(orders):
        for cell, own in enumerate(rows):
            band = kept[order[own]][:, columns] + (mean[own] - mean[order[own]]) @ slopes
            drawn.x[cell, columns] = band.sum(axis=0)
            drawn.xy[cell, columns] = band.T @ activity[own]
            drawn.xx[cell][np.ix_(columns, columns)] = band.T @ band
            across = kept[own][:, others].T @ band
            drawn.xx[cell][np.ix_(others, columns)] = across
            drawn.xx[cell][np.ix_(columns, others)] = across.T
        found[draw] = plain_r2(drawn, folds, alphas)
    return found


def p_values(observed: np.ndarray, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Compare every unit with its draws.

    Parameters
    ----------
    observed : ndarray of shape (n_units,)
        The statistic; NaN has none.
    drawn : ndarray of shape (draws, n_units)
        The same in every draw.

    Returns
    -------
    dict of str to ndarray of shape (n_units,), float64
        ``p`` of the unit alone, ``p_max`` against the largest of all units in each draw, and ``q``
        (Benjamini-Hochberg); NaN where there is no statistic.
    """
    known = np.isfinite(observed) & np.isfinite(drawn).all(axis=0)
    found = {name: np.full(len(observed), np.nan) for name in ("p", "p_max", "q")}
    if not known.any() or not len(drawn):
        return found
    value, null = observed[known], drawn[:, known]
    count = 1 + len(null)
    found["p"][known] = (1 + (null >= value).sum(axis=0)) / count
    most = np.sort(null.max(axis=1))
    found["p_max"][known] = (1 + len(most) - np.searchsorted(most, value, side="left")) / count
    found["q"][known] = false_discovery_control(found["p"][known])
    return found


def _constant(values: np.ndarray, codes: np.ndarray) -> bool:
    """Whether rows of one code are all the same."""
    first = np.unique(codes, return_index=True, return_inverse=True)
    return bool((values[first[1]][first[2]] == values).all())
