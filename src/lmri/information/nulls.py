"""Values where nothing is to be found: labels exchanged among the groups that carry them.

Tokens of a text, and trials that share an entity, are not independent. What may be exchanged are
the highest things that carry a label, so labels are exchanged among *them*, never among tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.information.estimate import UNITS, Estimate, Null
from lmri.information.samples import as_labels, same_length

DRAWS = 200
"""Draws of a null; p cannot be below 1 / (draws + 1)."""

ROUNDING = 1e-9
"""Nats by which values differ that are equal: those of a saturated channel are all H(Y)."""


def exchanged_labels(
    codes: np.ndarray, groups: np.ndarray | None, draws: int, seed: int
) -> np.ndarray:
    """Exchange labels among groups.

    Parameters
    ----------
    codes : ndarray of shape (n,), int64
        Numbered labels, the same for all samples of a group.
    groups : ndarray of shape (n,), or None
        Groups; None exchanges samples.
    draws : int
        Number of draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    ndarray of shape (draws, n), int64
        Labels of the samples in each draw.

    Raises
    ------
    EvidenceError
        If a group has samples of several labels, or fewer than two groups are there.
    """
    check_range(draws, "draws", "a null", 1, error=EvidenceError)
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.permuted(np.tile(codes, (draws, 1)), axis=1)
    own = as_labels(groups, "groups of a null", len(codes))
    first = np.unique(own, return_index=True)[1]
    labels = codes[first]
    if (labels[own] != codes).any():
        bad = int((labels[own] != codes).sum())
        raise EvidenceError(
            "Labels that are exchanged among groups must be the same in all samples of a group. "
            f"{bad} of {len(codes)} differ from the first of their group: exchange what carries "
            "the label."
        )
    return rng.permuted(np.tile(labels, (draws, 1)), axis=1)[:, own]


def labels_within(codes: np.ndarray, blocks: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Exchange labels among the samples of each block, where every block has all labels.

    Parameters
    ----------
    codes : ndarray of shape (n,), int64
        Numbered labels.
    blocks : ndarray of shape (n,)
        Blocks, as the entity that a sample is about.
    draws, seed : int
        As for :func:`exchanged_labels`.

    Returns
    -------
    ndarray of shape (draws, n), int64
        Labels of the samples in each draw.

    Raises
    ------
    EvidenceError
        If no block has samples of two labels.
    """
    check_range(draws, "draws", "a null", 1, error=EvidenceError)
    own = as_labels(blocks, "blocks of a null", len(codes))
    if len(np.unique(np.stack([own, codes]), axis=1).T) == own.max() + 1:
        raise EvidenceError(
            "Labels that are exchanged within blocks must differ there. Every block has one label: "
            "exchange them among the blocks."
        )
    rng = np.random.default_rng(seed)
    rows = np.argsort(own, kind="stable")
    drawn = np.empty((draws, len(codes)), dtype=np.int64)
    for number in range(draws):
        order = np.lexsort((rng.random(len(codes)), own))
        drawn[number, rows] = codes[order]
    return drawn


def crossed_labels(
    codes: np.ndarray,
    carriers: Mapping[str, tuple[np.ndarray, np.ndarray]],
    draws: int,
    seed: int,
) -> np.ndarray:
    """Exchange the classes of crossed carriers, from which labels follow.

    A label that is a function of the classes of place and year gets new values as if other places
    and years had had these classes.

    Parameters
    ----------
    codes : ndarray of shape (n,), int64
        Numbered labels.
    carriers : mapping of str to (ndarray of shape (n,), ndarray of shape (n,))
        For every carrier its value, and the class of that value, of each sample.
    draws, seed : int
        As for :func:`exchanged_labels`.

    Returns
    -------
    ndarray of shape (draws, n), int64
        Labels of the samples in each draw.

    Raises
    ------
    EvidenceError
        If a value has several classes, labels do not follow from the classes, or a combination of
        classes does not occur.
    """
    check_range(draws, "draws", "a null", 1, error=EvidenceError)
    parts = [_carrier(name, *own, len(codes)) for name, own in carriers.items()]
    table = np.full([int(classes.max()) + 1 for _, classes in parts], -1, dtype=np.int64)
    places = tuple(classes[values] for values, classes in parts)
    table[places] = codes
    owner = " and ".join(f"'{name}'" for name in carriers)
    if (table[places] != codes).any() or (table < 0).any():
        raise EvidenceError(
            f"Labels must follow from the classes of {owner}, in every combination of them. They "
            "do not: exchange one carrier, or choose an attribute of one."
        )
    rng = np.random.default_rng(seed)
    drawn = [
        rng.permuted(np.tile(classes, (draws, 1)), axis=1)[:, values] for values, classes in parts
    ]
    return table[tuple(drawn)]


def block_orders(n: int, groups: np.ndarray | None, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Orders in which whole groups change places, for variables that are not labels.

    Parameters
    ----------
    n : int
        Number of samples.
    groups : ndarray of shape (n,), or None
        Groups, all with the same number of samples; None exchanges samples.
    draws, seed : int
        As for :func:`exchanged_labels`.

    Yields
    ------
    ndarray of shape (n,), int64
        A permutation of the samples.

    Raises
    ------
    EvidenceError
        If groups have different sizes.
    """
    check_range(draws, "draws", "a null", 1, error=EvidenceError)
    rng = np.random.default_rng(seed)
    if groups is None:
        for _ in range(draws):
            yield rng.permutation(n)
        return
    own = as_labels(groups, "groups of a null", n)
    sizes = np.bincount(own)
    if sizes.min() != sizes.max():
        raise EvidenceError(
            "Groups that change places must have equal numbers of samples. Got "
            f"{sizes.min()} to {sizes.max()}: use one sample (a mean) for each."
        )
    rows = np.argsort(own, kind="stable").reshape(len(sizes), -1)
    for _ in range(draws):
        order = np.empty(n, dtype=np.int64)
        order[rows] = rows[rng.permutation(len(rows))]
        yield order


def independent_units(t: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Exchange the values of every unit among the samples, each unit by itself.

    What the same units would do if they varied as they do, but without anything in common: the
    reference of I(X;T) of bounds and bins, which have no label to exchange.

    Parameters
    ----------
    t : ndarray of shape (n, d)
        Activity.
    draws, seed : int
        As for :func:`exchanged_labels`.

    Yields
    ------
    ndarray of shape (n, d)
        With the mean and the variance of every unit, hence the same root mean square.
    """
    check_range(draws, "draws", "a null", 1, error=EvidenceError)
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield rng.permuted(t, axis=0)


def null_of(value: float, drawn: Sequence[float] | np.ndarray, exchanged: str = "samples") -> Null:
    """Summarise the values of a null.

    Parameters
    ----------
    value : float
        The estimate, in nats.
    drawn : sequence of float
        The values of the draws, made as the estimate was.
    exchanged : str
        What was exchanged.

    Returns
    -------
    Null
        The summary.
    """
    own = np.asarray(drawn, dtype=np.float64)
    larger = int((own >= value - ROUNDING).sum())
    return Null(
        mean=float(own.mean()),
        sd=float(own.std(ddof=1)) if len(own) > 1 else math.nan,
        upper=float(np.quantile(own, 0.95)),
        p=(1 + larger) / (1 + len(own)),
        draws=len(own),
        exchanged=exchanged,
    )


def structure_null(value: float, drawn: Sequence[float] | np.ndarray) -> Null:
    """Summarise the values of states with independent units, from which a value may differ.

    Parameters
    ----------
    value : float
        The estimate, in nats.
    drawn : sequence of float
        That of the states of :func:`independent_units`.

    Returns
    -------
    Null
        ``p`` is of a difference in either direction: twice the smaller tail, at most 1.
    """
    own = np.asarray(drawn, dtype=np.float64)
    larger, smaller = (own >= value - ROUNDING).sum(), (own <= value + ROUNDING).sum()
    p = min(1.0, 2 * (1 + int(min(larger, smaller))) / (1 + len(own)))
    return replace(null_of(value, own, UNITS), p=p)


def with_label_null(
    estimate: Estimate,
    measure: Callable[[np.ndarray], float],
    labellings: np.ndarray,
    exchanged: str = "samples",
) -> Estimate:
    """Add the null of an estimate about labels.

    Parameters
    ----------
    estimate : Estimate
        The estimate.
    measure : callable
        Takes labels, array of shape (n,), and gives the value of the same estimator, in nats.
    labellings : ndarray of shape (draws, n)
        Exchanged labels.
    exchanged : str
        What was exchanged.

    Returns
    -------
    Estimate
        With the null.
    """
    same_length(estimate.n, labellings.shape[1], "a null")
    drawn = [measure(labels) for labels in labellings]
    return replace(estimate, null=null_of(estimate.value, drawn, exchanged))


def with_order_null(
    estimate: Estimate,
    measure: Callable[[np.ndarray], float],
    orders: Iterator[np.ndarray],
    exchanged: str = "samples",
) -> Estimate:
    """Add the null of an estimate about two variables, one of which changes its order.

    Parameters
    ----------
    estimate : Estimate
        The estimate.
    measure : callable
        Takes an order of the samples of the second variable, array of shape (n,).
    orders : iterator of ndarray
        Orders, see :func:`block_orders`.
    exchanged : str
        What was exchanged.

    Returns
    -------
    Estimate
        With the null.
    """
    drawn = [measure(order) for order in orders]
    return replace(estimate, null=null_of(estimate.value, drawn, exchanged))


def _carrier(
    name: str, values: np.ndarray, classes: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Number of each sample's value (n,), and number of each value's class (n_values,)."""
    own = as_labels(values, f"carrier '{name}'", n)
    codes = as_labels(classes, f"classes of carrier '{name}'", n)
    first = np.unique(own, return_index=True)[1]
    if (codes[first][own] != codes).any():
        raise EvidenceError(
            f"Each value of carrier '{name}' must have one class. Some have several: "
            "exchange within it is not made here."
        )
    return own, codes[first]
