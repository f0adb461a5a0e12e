"""Labellings: the condition of every cell, under a design's classes or under exchanged ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from lmri.localise.design import Design


class Labelling:
    """Conditions of cells under the design's classes, or under exchanged ones.

    Parameters
    ----------
    design : Design
        The design.
    cells : DataFrame
        With ``carrier_<name>`` for every carrier; a cell with a carrier value or a combination of
        classes that the design does not use is in no condition (-1).
    """

    def __init__(self, design: Design, cells: pd.DataFrame) -> None:
        names = [sorted(set(kind.values())) for kind in design.classes]
        # One entry more than classes: the class of an unknown carrier value, in no condition.
        self._table = np.full([len(own) + 1 for own in names], -1, dtype=np.int64)
        for key, condition in design.condition_of.items():
            if all(part in own for part, own in zip(key, names, strict=True)):
                place = tuple(own.index(part) for part, own in zip(key, names, strict=True))
                self._table[place] = condition
        self._codes, self._values = [], []
        for name, kind, own in zip(design.carriers, design.classes, names, strict=True):
            position = {value: i for i, value in enumerate(kind)}
            column = cells[f"carrier_{name}"].map(position).fillna(len(kind))
            self._values.append(column.to_numpy(dtype=np.int64))
            self._codes.append(np.array([own.index(label) for label in kind.values()]))

    def own(self) -> np.ndarray:
        """Condition of every cell: array of shape (n_cells,), int64."""
        return self._look_up([codes[None] for codes in self._codes])[0]

    def exchanged(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Exchange the classes among the values of each carrier.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the draws.
        count : int
            Relabellings.

        Returns
        -------
        ndarray of shape (count, n_cells), int64
            Condition of every cell in every relabelling.
        """
        return self._look_up(
            [rng.permuted(np.tile(codes, (count, 1)), axis=1) for codes in self._codes]
        )

    def _look_up(self, codes: list[np.ndarray]) -> np.ndarray:
        classes = []
        for kind, values, size in zip(codes, self._values, self._table.shape, strict=True):
            unknown = np.full((len(kind), 1), size - 1)
            classes.append(np.concatenate([kind, unknown], axis=1)[:, values])
        return self._table[tuple(classes)]


class BlockedLabelling:
    """Conditions of cells, or conditions exchanged within the values of a carrier.

    Parameters
    ----------
    design : Design
        A design ``within`` one carrier.
    cells : DataFrame
        With ``carrier_<name>`` and ``condition``; a cell of a condition without a weight is in
        none (-1) and is never exchanged.
    """

    def __init__(self, design: Design, cells: pd.DataFrame) -> None:
        used = {c: i for i, c in enumerate(design.conditions) if design.weights[i]}
        self._own = cells["condition"].map(used).fillna(-1).to_numpy(dtype=np.int64)
        blocks = pd.factorize(cells[f"carrier_{design.carriers[0]}"])[0]
        self._rows = np.flatnonzero(self._own >= 0)
        # What is exchanged is the condition of all cells of a block that are in one: those of a
        # place in one relation go together, however many there are.
        pairs = np.stack([blocks[self._rows], self._own[self._rows]], axis=1)
        groups, self._group = np.unique(pairs, axis=0, return_inverse=True)
        self._blocks, self._conditions = groups.T

    def own(self) -> np.ndarray:
        """Condition of every cell: array of shape (n_cells,), int64."""
        return self._own.copy()

    def exchanged(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Exchange the conditions among the cells of each value of the carrier.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of the draws.
        count : int
            Relabellings.

        Returns
        -------
        ndarray of shape (count, n_cells), int64
            Condition of every cell in every relabelling.
        """
        # Groups lie block after block: exchange is a shuffle of each run.
        keys = self._blocks + rng.random((count, len(self._blocks)))
        shuffled = self._conditions[np.argsort(keys, axis=1)]
        labels = np.tile(self._own, (count, 1))
        labels[:, self._rows] = shuffled[:, self._group]
        return labels
