"""Which edges are more than chance makes: a null for every kind of node, FDR and max-statistic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.connect.activity import Activity
from lmri.connect.exchange import carrier_codes, grid_order
from lmri.connect.measures import each_alone, edge_values
from lmri.connect.routing_null import routing_shuffle, strata_of
from lmri.errors import EvidenceError

AT_ONCE = 16
"""Draws whose matrices are estimated together."""

LEAST_MOVED = 0.5
"""How far a routing shuffle must come for a p-value to be more than an upper bound."""

ROUNDING = 1e-12

Draw = Callable[[int], np.ndarray]
"""Activity in a draw: array of shape (n_trials, n_nodes)."""


@dataclass(frozen=True)
class EdgeTest:
    """Edges against a null.

    Attributes
    ----------
    value : ndarray of shape (n_edges,)
        Values, of correlations Fisher's z.
    null_mean : ndarray of shape (n_edges,)
        Their mean in the draws: of experts below 0, since a token chooses so many and no more.
    z : ndarray of shape (n_edges,)
        Value above the mean, in deviations of the draws.
    p, p_max, q : ndarray of shape (n_edges,)
        Two-sided, of the edge alone; of the largest of all edges; Benjamini-Hochberg. Edges are
        ranked in deviations from the mean of data and draws together.
    draws : int
        Number of draws.
    exchanged : str
        What was exchanged.
    moved : float
        How far a routing shuffle came, in the layer where it came least; 1 for other nodes.
    """

    value: np.ndarray
    null_mean: np.ndarray
    z: np.ndarray
    p: np.ndarray
    p_max: np.ndarray
    q: np.ndarray
    draws: int
    exchanged: str
    moved: float = 1.0


def edge_test(
    activity: Activity,
    carriers: Sequence[str],
    *,
    kind: str = "correlation",
    within: bool = False,
    draws: int = 199,
    seed: int = 0,
) -> EdgeTest:
    """Compare edges with what they would be without connections.

    Of experts the null is the routing shuffle (:mod:`lmri.connect.routing_null`). With several
    carriers there is one for the entities of each, and an edge gets the largest of its p-values:
    each null keeps what trials share by one carrier only. Of heads and layers the null exchanges
    the values of the carriers, for every node anew; where combinations of carriers do not have the
    same trials, means over the trials of the first carrier are exchanged instead.

    Parameters
    ----------
    activity : Activity
        The nodes.
    carriers : sequence of str
        Carriers of the task; none exchanges trials.
    kind : str
        ``correlation``, ``partial correlation`` or another kind but ``tangent``.
    within : bool
        Whether the mean of its condition is taken out of each trial, so that what all trials of a
        condition do is no connection.
    draws, seed : int
        Number of draws, and their seed.

    Returns
    -------
    EdgeTest
        For every edge above the diagonal.

    Raises
    ------
    EvidenceError
        If there are too few carriers, trials or nodes, or the draws cannot differ.
    """
    codes = carrier_codes(activity.table, carriers)
    if activity.kind != "expert":
        return _shuffled_nodes(activity, codes, kind, within, draws, seed)
    conditions = activity.table["condition"].to_numpy()
    counts = activity.values * activity.tokens[:, None, None]

    def kept(values: np.ndarray) -> np.ndarray:
        nodes = activity.columns(values)
        return residuals(nodes, conditions) if within else nodes

    worst: EdgeTest | None = None
    for number, (name, entity) in enumerate(codes.items()):
        shuffle = routing_shuffle(
            counts,
            entity,
            draws,
            seed + number,
            strata=strata_of(entity, conditions) if within else None,
        )

        def draw(n: int, shuffle=shuffle) -> np.ndarray:
            return kept(shuffle.draw(n, activity.values))

        moved = float(shuffle.moved.min())
        found = compare(kept(activity.values), draw, draws, kind, name, moved)
        worst = found if worst is None else _weaker(worst, found)
    return worst


def compare(
    values: np.ndarray, draw: Draw, draws: int, kind: str, exchanged: str, moved: float = 1.0
) -> EdgeTest:
    """Compare edges with draws of a null, a few at a time.

    Draws are made twice, for their moments and for their ranks: memory does not grow with them.
    For the ranks, data and draws are put on one scale, with the moments of all of them together. On
    that of the draws alone the data would lie farther out than any draw can, the more so the more
    edges there are to be the largest of.

    Parameters
    ----------
    values : ndarray of shape (n_trials, n_nodes)
        Activity.
    draw : callable
        Activity in a draw, by its number.
    draws : int
        Number of draws.
    kind : str
        Kind of connectivity.
    exchanged : str
        What is exchanged.
    moved : float
        See :class:`EdgeTest`.

    Returns
    -------
    EdgeTest
        The comparison.

    Raises
    ------
    EvidenceError
        If all draws are the same.
    """
    value = _edges([values], kind)[0]
    mean, squares = np.zeros_like(value), np.zeros_like(value)
    seen = 0
    for own in _drawn(draw, draws, kind):
        for edges in own:
            seen += 1
            step = edges - mean
            mean += step / seen
            squares += step * (edges - mean)
    sd = np.sqrt(squares / max(draws - 1, 1))
    if not (sd > ROUNDING).any():
        raise EvidenceError(
            f"The null of {len(value)} edges must move them. All {draws} draws, which exchange "
            f"{exchanged}, are the same: there are too few trials or entities that differ."
        )
    still = sd <= ROUNDING
    sd = np.where(still, np.inf, sd)  # an edge that no draw moves says nothing
    z = (value - mean) / sd
    step = value - mean
    middle = mean + step / (draws + 1)
    spread = np.where(still, np.inf, np.sqrt((squares + step * (value - middle)) / draws))
    far = np.abs((value - middle) / spread) - 1e-9
    as_large, larger_max = np.zeros_like(value), np.zeros_like(value)
    for own in _drawn(draw, draws, kind):
        strength = np.abs((own - middle) / spread)
        as_large += (strength >= far).sum(axis=0)
        larger_max += (strength.max(axis=1)[:, None] >= far).sum(axis=0)
    p, p_max = (1 + as_large) / (1 + draws), (1 + larger_max) / (1 + draws)
    return EdgeTest(value, mean, z, p, p_max, benjamini_hochberg(p), draws, exchanged, moved)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjust p-values for the false discovery rate.

    Parameters
    ----------
    p : ndarray of shape (n,)
        p-values.

    Returns
    -------
    ndarray of shape (n,)
        Adjusted, at most 1.
    """
    from scipy.stats import false_discovery_control

    return false_discovery_control(p, method="bh")


def _shuffled_nodes(
    activity: Activity,
    codes: dict[str, np.ndarray],
    kind: str,
    within: bool,
    draws: int,
    seed: int,
) -> EdgeTest:
    conditions = activity.table["condition"].to_numpy()
    values = residuals(activity.matrix, conditions) if within else activity.matrix
    order, exchanged = grid_order(codes, conditions), " and ".join(codes)
    if order is None:
        first = next(iter(codes))
        values, exchanged = _means(values, codes[first]), f"means of each {first}"

        def order(rng: np.random.Generator) -> np.ndarray:
            return rng.permutation(len(values))

    def draw(number: int) -> np.ndarray:
        rng = np.random.default_rng([seed, number])
        return np.stack([column[order(rng)] for column in values.T], axis=1)

    return compare(values, draw, draws, kind, exchanged)


def residuals(values: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """Take the mean of its condition out of each trial.

    Parameters
    ----------
    values : ndarray of shape (n_trials, n_nodes)
        Activity.
    conditions : ndarray of shape (n_trials,)
        Conditions.

    Returns
    -------
    ndarray of shape (n_trials, n_nodes)
        What is left.
    """
    codes = pd.factorize(conditions)[0]
    return values - _means(values, codes)[codes]


def _means(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    total = np.zeros((int(codes.max()) + 1, values.shape[1]))
    np.add.at(total, codes, values)
    return total / np.bincount(codes)[:, None]


def _weaker(one: EdgeTest, other: EdgeTest) -> EdgeTest:
    """Of each edge the comparison with the larger p; of equal ones that with the smaller z."""
    swap = (other.p > one.p) | ((other.p == one.p) & (np.abs(other.z) < np.abs(one.z)))
    p = np.maximum(one.p, other.p)
    return EdgeTest(
        value=one.value,
        null_mean=np.where(swap, other.null_mean, one.null_mean),
        z=np.where(swap, other.z, one.z),
        p=p,
        p_max=np.maximum(one.p_max, other.p_max),
        q=benjamini_hochberg(p),
        draws=one.draws,
        exchanged=f"{one.exchanged}, {other.exchanged}: the larger p",
        moved=min(one.moved, other.moved),
    )


def _drawn(draw: Draw, draws: int, kind: str) -> Iterator[np.ndarray]:
    for start in range(0, draws, AT_ONCE):
        yield _edges([draw(n) for n in range(start, min(start + AT_ONCE, draws))], kind)


def _edges(activities: list[np.ndarray], kind: str) -> np.ndarray:
    """Edges of each activity, on its own scale: array of shape (n, n_edges)."""
    return edge_values(each_alone(activities, kind), kind)
