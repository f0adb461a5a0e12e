"""Tests of what a band adds, against what it would add if it belonged to other carriers.

The values of a band change places among carriers, whole (Draper and Stoneman's scheme): how a
carrier is called is exchanged, while nuisance bands and activity stay where they are. What is
compared is the held-out gain ``R²(all) - R²(all but the band)`` of plain ridge. Folds and penalties
are those of the data: each is chosen inside its training folds, and a draw costs one decomposition
a fold. Held-out predictions are made anew in every draw. To permute finished predictions would not
do: those of two folds rest on each other's trials, and their sum varies more than permuted ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from lmri.encode.folds import Folds
from lmri.encode.moments import Moments
from lmri.encode.ridge import Chosen, Search
from lmri.encode.scores import held_out_scores


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
    """

    scheme: str
    carriers: tuple[str, ...]
    orders: np.ndarray


def exchanges(values: np.ndarray, carriers: pd.DataFrame, draws: int, seed: int) -> Exchange:
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

    Returns
    -------
    Exchange
        Without orders where no row could change its values.
    """
    rng = np.random.default_rng(seed)
    codes = {str(name): pd.factorize(carriers[name])[0] for name in carriers}
    for name, own in codes.items():
        if _constant(values, own):
            first = np.unique(own, return_index=True)[1]
            orders = np.stack([first[rng.permutation(len(first))][own] for _ in range(draws)])
            return Exchange("between", (name,), orders)
    if len(codes) > 1:
        grid = tuple(codes.values())
        shape = tuple(int(own.max()) + 1 for own in grid)
        first = np.full(shape, -1)
        first[tuple(own[::-1] for own in grid)] = np.arange(len(values))[::-1]
        if _constant(values, np.ravel_multi_index(grid, shape)) and (first >= 0).all():
            orders = [
                first[
                    tuple(rng.permutation(size)[own] for own, size in zip(grid, shape, strict=True))
                ]
                for _ in range(draws)
            ]
            return Exchange("crossed", tuple(codes), np.stack(orders))
    name, own = next(iter(codes.items()))
    rows = np.argsort(own, kind="stable")
    orders = np.empty((draws, len(values)), dtype=np.int64)
    for draw in orders:
        draw[rows] = np.lexsort((rng.random(len(own)), own))
    moved = any((values[order] != values).any() for order in orders)
    return Exchange("within", (name,), orders) if moved else Exchange("", (), orders[:0])


def null_scores(
    X: np.ndarray,
    Y: np.ndarray,
    moments: Moments,
    folds: Folds,
    columns: np.ndarray,
    orders: np.ndarray,
    search: Search,
    chosen: Sequence[Chosen],
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
    orders : ndarray of shape (draws, n_rows), int64
        See :func:`exchanges`.
    search, chosen
        Of plain ridge, see :func:`lmri.encode.scores.held_out_scores`.

    Returns
    -------
    ndarray of shape (draws, n_units), float64
        Held-out R².
    """
    others = np.setdiff1d(np.arange(X.shape[1]), columns)
    about_x, about_y = moments.about
    rows = [np.flatnonzero(folds.cell == cell) for cell in range(moments.cells)]
    kept, activity = X - about_x, Y - about_y
    drawn = Moments(moments.cells, moments.features, 0)
    drawn.units, drawn.n, drawn.y, drawn.yy = moments.units, moments.n, moments.y, moments.yy
    drawn.about = moments.about
    drawn.x, drawn.xx, drawn.xy = moments.x.copy(), moments.xx.copy(), moments.xy.copy()
    found = np.empty((len(orders), moments.units))
    for draw, order in enumerate(orders):
        for cell, own in enumerate(rows):
            band = kept[order[own]][:, columns]
            drawn.x[cell, columns] = band.sum(axis=0)
            drawn.xy[cell, columns] = band.T @ activity[own]
            drawn.xx[cell][np.ix_(columns, columns)] = band.T @ band
            across = kept[own][:, others].T @ band
            drawn.xx[cell][np.ix_(others, columns)] = across
            drawn.xx[cell][np.ix_(columns, others)] = across.T
        found[draw] = held_out_scores(drawn, folds, search, [moments.features], chosen).r2
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
