"""Trials that subjects share, and how their correspondence is broken under a null."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from lmri.errors import EvidenceError

LEAST_SUBJECTS = 2


def shared_trials(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Find the trials that all subjects read.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Trials of each subject, with ``trial`` and ``prompt``.

    Returns
    -------
    list of str
        In the order of the first subject.

    Raises
    ------
    EvidenceError
        If there are fewer than 2 subjects, no trial is shared, or a trial of one name has another
        prompt or condition in another subject.
    """
    if len(tables) < LEAST_SUBJECTS:
        raise EvidenceError(
            f"An alignment must be of {LEAST_SUBJECTS} subjects or more. Got {len(tables)}."
        )
    indexed = {name: own.set_index("trial") for name, own in tables.items()}
    first_name, first = next(iter(indexed.items()))
    kept = [trial for trial in first.index if all(trial in own.index for own in indexed.values())]
    if not kept:
        counts = ", ".join(f"'{name}' {len(own)}" for name, own in indexed.items())
        raise EvidenceError(
            f"The subjects of an alignment must have read the same trials. Got {counts}, none of "
            "which all of them have."
        )
    for name, own in indexed.items():
        for column in ("prompt", "condition", "split"):
            if column not in first or column not in own:
                continue
            differ = (own.loc[kept, column] != first.loc[kept, column]).to_numpy()
            if differ.any():
                trial = kept[int(np.flatnonzero(differ)[0])]
                raise EvidenceError(
                    f"Trial '{trial}' must have one '{column}' in all subjects of an alignment. "
                    f"'{first_name}' and '{name}' read different ones, as in {int(differ.sum())} "
                    f"of {len(kept)} trials: record both from one table of stimuli."
                )
    return kept


def broken_orders(
    table: pd.DataFrame, carriers: Sequence[str], draws: int, seed: int
) -> tuple[list[np.ndarray], str]:
    """Break the correspondence of trials between subjects, entity by entity.

    Trial (place, year) of one subject is set beside trial (π(place), σ(year)) of the other, with
    new permutations in each draw: trials that share a place still do. Several trials of one
    combination, such as those of each condition, change places in the same way. Where combinations
    of carriers do not have the same trials, whole entities of the first carrier change places where
    all have equally many trials, and single trials do else.

    Parameters
    ----------
    table : DataFrame
        Trials.
    carriers : sequence of str
        Carriers of the task.
    draws, seed : int
        Number of orders, and their seed.

    Returns
    -------
    orders : list of ndarray of shape (n_trials,), int64
        The orders.
    exchanged : str
        What changes places.
    """
    rng = np.random.default_rng(seed)
    codes = [pd.factorize(table[f"carrier_{name}"])[0] for name in carriers]
    for used, name in ((codes, " and ".join(carriers)), (codes[:1], "".join(carriers[:1]))):
        grid = _grid(used, table)
        if used and grid is not None:
            alike = [np.zeros(size, dtype=np.int64) for size in grid.shape]
            return [_moved(grid, rng, alike) for _ in range(draws)], name
    return [rng.permutation(len(table)) for _ in range(draws)], "trials"


def orders_inside(
    table: pd.DataFrame, carriers: Sequence[str], draws: int, seed: int
) -> list[np.ndarray]:
    """Break the correspondence of trials, every trial staying in its condition.

    As :func:`broken_orders`, but values of a carrier change places only with those that have the
    same conditions beside the same values of all others: places of a class with places of it.

    Parameters
    ----------
    table, carriers, draws, seed
        As for :func:`broken_orders`.

    Returns
    -------
    list of ndarray of shape (n_trials,), int64
        The orders; all trials stay where they are if no two values have the same conditions.
    """
    rng = np.random.default_rng(seed)
    condition = pd.factorize(table["condition"])[0]
    codes = [pd.factorize(table[f"carrier_{name}"])[0] for name in carriers]
    for used in (codes, codes[:1]):
        grid = _grid(used, table)
        if used and grid is not None:
            kinds = _kinds(condition[grid])
            return [_moved(grid, rng, kinds) for _ in range(draws)]
    return [permuted(condition, rng) for _ in range(draws)]


def permuted(kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute places among those of one kind: array of shape (n,), int64."""
    order = np.empty(len(kinds), dtype=np.int64)
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        order[own] = rng.permutation(own)
    return order


def halves_of(table: pd.DataFrame, fit: str, score: str) -> tuple[np.ndarray, np.ndarray]:
    """Tell the trials a model is fitted on from those it is scored on.

    Parameters
    ----------
    table : DataFrame
        Trials with ``split``, drawn over carriers.
    fit, score : str
        The two splits.

    Returns
    -------
    tuple of two ndarray of int64
        Rows of either.

    Raises
    ------
    EvidenceError
        If a split has no trial, or both are the same.
    """
    if fit == score:
        raise EvidenceError(
            f"An alignment must be scored on another split than it is fitted on. Got '{fit}' twice."
        )
    rows = tuple(np.flatnonzero(table["split"] == name) for name in (fit, score))
    for name, own in zip((fit, score), rows, strict=True):
        if not len(own):
            raise EvidenceError(
                f"An alignment must have trials of the split '{name}'. None of {len(table)} that "
                "all subjects read are: add it to 'record.splits' and record again."
            )
    return rows


def folds_of(values: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows of each of some folds, none of which shares a value with another."""
    names = np.unique(values)
    order = np.random.default_rng(seed).permutation(len(names))
    for number in range(count):
        yield np.flatnonzero(np.isin(values, names[order[number::count]]))


def _grid(codes: list[np.ndarray], table: pd.DataFrame) -> np.ndarray | None:
    """Rows by values of the carriers and number within a combination, if all have as many."""
    if not codes:
        return None
    keys = pd.DataFrame(dict(enumerate(codes)))
    slots = keys.assign(condition=table["condition"].to_numpy()).sort_values(
        list(keys.columns) + ["condition"], kind="stable"
    )
    number = slots.groupby(list(keys.columns)).cumcount().sort_index().to_numpy()
    shape = (*(int(own.max()) + 1 for own in codes), int(number.max()) + 1)
    if np.prod(shape) != len(table):
        return None
    grid = np.full(shape, -1, dtype=np.int64)
    grid[(*codes, number)] = np.arange(len(table))
    return None if (grid < 0).any() else grid


def _kinds(conditions: np.ndarray) -> list[np.ndarray]:
    """Number the values of each axis of a grid by their conditions beside all other values."""
    return [
        np.unique(np.moveaxis(conditions, axis, 0).reshape(size, -1), axis=0, return_inverse=True)[
            1
        ].reshape(-1)
        for axis, size in enumerate(conditions.shape)
    ]


def _moved(grid: np.ndarray, rng: np.random.Generator, kinds: list[np.ndarray]) -> np.ndarray:
    """Permute the values of each axis among those of one kind."""
    order = np.empty(grid.size, dtype=np.int64)
    moved = grid
    for axis, own in enumerate(kinds):
        moved = np.take(moved, permuted(own, rng), axis=axis)
    order[grid.ravel()] = moved.ravel()
    return order
