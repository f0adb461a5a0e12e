"""Folds that share no carrier: what a model is tested on has nothing in common with its training.

Trials that share an entity are not independent, and neither are those of a year that all places
have. Each carrier's values are dealt into ``k`` folds; a cell is a combination of folds, one of
each carrier, and a cell is tested with what is fitted on cells that differ from it in *every*
carrier. With one carrier these are the usual grouped folds. The penalty of a cell is chosen inside
its training cells by the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lmri.errors import EvidenceError

LEAST_FOLDS = 3
"""One to test, and two to choose the penalty in."""

LEAST_ROWS = 20


@dataclass(frozen=True)
class Folds:
    """Cells of rows, and which of them have nothing in common.

    Attributes
    ----------
    cell : ndarray of shape (n_rows,), int64
        Cell of each row, from 0 without a gap.
    apart : ndarray of shape (n_cells, n_cells), bool
        Whether two cells share no fold of any carrier.
    carriers : dict of str to int
        Number of values of each carrier.
    """

    cell: np.ndarray
    apart: np.ndarray
    carriers: dict[str, int]

    @cached_property
    def tests(self) -> list[tuple[int, np.ndarray]]:
        """Every cell that can be tested, and the cells that it is trained on."""
        found = [(cell, np.flatnonzero(row)) for cell, row in enumerate(self.apart)]
        return [(cell, train) for cell, train in found if self.inner(train)]

    @cached_property
    def nested(self) -> list[tuple[np.ndarray, list[tuple[int, int]]]]:
        """Every set of cells that is trained on inside, once, and what is scored by it.

        Each is of several tests, where it is scored in other cells: with two carriers of four. What
        is scored is (place of the test among :attr:`tests`, cell).
        """
        found: dict[bytes, tuple[np.ndarray, list[tuple[int, int]]]] = {}
        for place, (_, train) in enumerate(self.tests):
            for cell, own in self.inner(train):
                found.setdefault(own.tobytes(), (own, []))[1].append((place, cell))
        return list(found.values())

    def inner(self, train: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Split training cells again, to choose a penalty.

        Parameters
        ----------
        train : ndarray of int
            Training cells.

        Returns
        -------
        list of (int, ndarray of int)
            A cell to score, and those of ``train`` that share nothing with it.
        """
        found = [(int(cell), train[self.apart[cell][train]]) for cell in train]
        return [(cell, own) for cell, own in found if len(own)]


def carrier_folds(carriers: pd.DataFrame, k: int, seed: int, owner: str) -> Folds:
    """Deal the values of each carrier into folds.

    Values of one class are dealt out in turn, in an order drawn by the seed, so that every fold has
    its share of each class.

    Parameters
    ----------
    carriers : DataFrame
        ``carrier_<name>`` for each carrier, one row each; ``class_<name>`` where there are classes.
    k : int
        Folds of each carrier.
    seed : int
        Seed of the order.
    owner : str
        The analysis, for messages.

    Returns
    -------
    Folds
        The folds.

    Raises
    ------
    EvidenceError
        If there is no carrier, or one has too few values for the folds.
    """
    names = [name for name in carriers if str(name).startswith("carrier_")]
    if not names:
        raise EvidenceError(f"The folds of {owner} must be of carriers. Its trials have none.")
    if k < LEAST_FOLDS:
        raise EvidenceError(
            f"The folds of {owner} must be at least {LEAST_FOLDS}, so that a penalty can be chosen "
            f"inside those that are trained on. Got {k}."
        )
    folds, counts = [], {}
    for number, name in enumerate(names):
        column = carriers[name].astype(str)
        values = sorted(column.unique())
        counts[str(name).removeprefix("carrier_")] = len(values)
        if len(values) < k:
            raise EvidenceError(
                f"The folds of {owner} need at least {k} values of '{name}', one in each fold. "
                f"Got {len(values)}: record more of them, or ask for fewer folds "
                f"(at least {LEAST_FOLDS})."
            )
        kinds = _classes(carriers, str(name))
        rng = np.random.default_rng([seed, number])
        order = {value: place for place, value in enumerate(rng.permutation(values))}
        dealt = sorted(values, key=lambda value: (kinds.get(value, ""), order[value]))
        fold_of = {value: place % k for place, value in enumerate(dealt)}
        folds.append(column.map(fold_of).to_numpy())
    cells, cell = np.unique(np.stack(folds, axis=1), axis=0, return_inverse=True)
    apart = (cells[:, None] != cells[None]).all(axis=2)
    found = Folds(cell.reshape(-1).astype(np.int64), apart, counts)
    if not found.tests:
        raise EvidenceError(
            f"The folds of {owner} must leave carriers to train on and to choose a penalty with. "
            f"With {k} folds of {', '.join(map(str, names))} no combination does: the trials are "
            "too few, or their carriers are not crossed."
        )
    return found


def check_rows(rows: int, features: int, owner: str) -> None:
    """Raise unless there are more rows than a regression needs.

    Parameters
    ----------
    rows : int
        Rows.
    features : int
        Columns.
    owner : str
        The analysis, for messages.

    Raises
    ------
    EvidenceError
        If there are fewer than :data:`LEAST_ROWS`, or not more rows than features.
    """
    least = max(LEAST_ROWS, features + 1)
    if rows < least:
        raise EvidenceError(
            f"The encoding of {owner} needs at least {least} rows for {features} features. "
            f"Got {rows}: record more trials, or use fewer features."
        )


def _classes(carriers: pd.DataFrame, name: str) -> dict[str, str]:
    """Class of each value; nothing where a value has several, or there are no classes."""
    column = f"class_{name.removeprefix('carrier_')}"
    if column not in carriers:
        return {}
    pairs = carriers[[name, column]].astype(str).drop_duplicates()
    return {} if pairs[name].duplicated().any() else dict(pairs.itertuples(index=False, name=None))
