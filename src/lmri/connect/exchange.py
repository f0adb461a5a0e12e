"""What may be exchanged among trials: the entities that they are about, never the trials alone.

Trials that share a place or a year are alike in every node, so nodes seem connected when trials are
exchanged one by one. Here a node keeps what it does for a place, and the place is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from lmri.checks import check_columns
from lmri.errors import EvidenceError

LEAST_CARRIERS = 6
"""Values of a carrier that are exchanged, at least."""

Order = Callable[[np.random.Generator], np.ndarray]
"""Draws an order of the trials: array of shape (n_trials,), int64."""


def carrier_codes(table: pd.DataFrame, carriers: Sequence[str]) -> dict[str, np.ndarray]:
    """Number the values of carriers.

    Parameters
    ----------
    table : DataFrame
        Trials with ``carrier_<name>``.
    carriers : sequence of str
        Names of the carriers; none makes every trial its own.

    Returns
    -------
    dict of str to ndarray of shape (n_trials,), int64
        By carrier; ``trial`` without any.

    Raises
    ------
    EvidenceError
        If a carrier is unknown or has fewer than :data:`LEAST_CARRIERS` values.
    """
    columns = [f"carrier_{name}" for name in carriers]
    check_columns(table.columns, columns, "of trials", EvidenceError)
    codes = {name: pd.factorize(table[f"carrier_{name}"])[0] for name in carriers}
    codes = codes or {"trial": np.arange(len(table))}
    for name, own in codes.items():
        if own.max(initial=-1) + 1 < LEAST_CARRIERS:
            raise EvidenceError(
                f"Connectivity must be tested on {LEAST_CARRIERS} values of a carrier or more, "
                f"which are exchanged. '{name}' has {own.max(initial=-1) + 1} in {len(table)} "
                "trials: record more of them."
            )
    return codes


def grid_order(codes: dict[str, np.ndarray], slots: Sequence[object]) -> Order | None:
    """Exchange the values of every carrier, where each combination of them has the same trials.

    Trial (place, year) becomes trial (π(place), σ(year)), with new permutations for every carrier:
    what trials share by their place, and by their year, they still share. So does what they share
    by their slot, such as the condition where every place is in each.

    Parameters
    ----------
    codes : dict of str to ndarray of shape (n_trials,), int64
        See :func:`carrier_codes`.
    slots : sequence of shape (n_trials,)
        What tells apart the trials of one combination, such as the condition.

    Returns
    -------
    callable or None
        Draws an order; None where the combinations do not have the same trials.
    """
    parts = [*codes.values(), _slot(codes, slots)]
    shape = tuple(int(own.max()) + 1 for own in parts)
    if np.prod(shape) != len(parts[0]):
        return None
    grid = np.full(shape, -1, dtype=np.int64)
    grid[tuple(parts)] = np.arange(len(parts[0]))
    if (grid < 0).any():
        return None

    def draw(rng: np.random.Generator) -> np.ndarray:
        moved = [rng.permutation(size)[own] for size, own in zip(shape, parts, strict=True)]
        return grid[tuple(moved)]

    return draw


def _slot(codes: dict[str, np.ndarray], slots: Sequence[object]) -> np.ndarray:
    """Number the trials of each combination by their slot, or all alike if each has one."""
    combination = pd.DataFrame(codes)
    if not combination.duplicated().any():
        return np.zeros(len(combination), dtype=np.int64)
    return pd.factorize(np.asarray(slots, dtype=str), sort=True)[0]


def relabelling(
    table: pd.DataFrame, labels: np.ndarray, carriers: Sequence[str]
) -> tuple[Order, str]:
    """Find how labels of trials are exchanged under the null.

    Where every value of a carrier has one label, labels are exchanged among its values. Where the
    label follows from the classes of several carriers (a sensitive place in a sensitive year), the
    classes of each are exchanged among its values. Where trials of one entity have several labels,
    these are exchanged within the entity.

    Parameters
    ----------
    table : DataFrame
        Trials.
    labels : ndarray of shape (n_trials,), int64
        Labels; trials with -1 belong to no side, and may get one if their carriers do.
    carriers : sequence of str
        Carriers; none exchanges labels among trials.

    Returns
    -------
    draw : callable
        Draws labels: array of shape (n_trials,), int64.
    exchanged : str
        What is exchanged.
    """
    columns = {name: pd.factorize(table[f"carrier_{name}"])[0] for name in carriers}
    for name, codes in columns.items():
        if _constant_within(codes, labels):
            return _between(codes, labels), name
    classed = [name for name in carriers if f"class_{name}" in table]
    if len(carriers) > 1 and len(classed) == len(carriers):
        classes = [pd.factorize(table[f"class_{name}"])[0] for name in carriers]
        crossed = _crossed(list(columns.values()), classes, labels)
        if crossed is not None:
            return crossed, " and ".join(carriers)
    if columns:
        first = next(iter(columns))
        return _within(columns[first], labels), f"trials of each {first}"
    return lambda rng: rng.permutation(labels), "trials"


def _constant_within(codes: np.ndarray, labels: np.ndarray) -> bool:
    first = np.unique(codes, return_index=True)[1]
    return bool((labels[first][codes] == labels).all())


def _between(codes: np.ndarray, labels: np.ndarray) -> Order:
    own = labels[np.unique(codes, return_index=True)[1]]
    return lambda rng: rng.permutation(own)[codes]


def _within(codes: np.ndarray, labels: np.ndarray) -> Order:
    rows = np.argsort(codes, kind="stable")

    def draw(rng: np.random.Generator) -> np.ndarray:
        drawn = np.empty_like(labels)
        drawn[rows] = labels[np.lexsort((rng.random(len(codes)), codes))]
        return drawn

    return draw


def _crossed(
    codes: list[np.ndarray], classes: list[np.ndarray], labels: np.ndarray
) -> Order | None:
    """Exchange classes, or return None where labels do not follow from them."""
    if not all(_constant_within(c, k) for c, k in zip(codes, classes, strict=True)):
        return None
    label_of = np.full([int(own.max()) + 1 for own in classes], -1, dtype=np.int64)
    label_of[tuple(classes)] = labels
    if (label_of[tuple(classes)] != labels).any():
        return None
    owned = [own[np.unique(c, return_index=True)[1]] for c, own in zip(codes, classes, strict=True)]

    def draw(rng: np.random.Generator) -> np.ndarray:
        moved = [rng.permutation(own)[c] for c, own in zip(codes, owned, strict=True)]
        return label_of[tuple(moved)]

    return draw
