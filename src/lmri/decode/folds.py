"""Folds that keep carriers apart, outside and inside, and labels exchanged without breaking them.

The values of every carrier are dealt into parts, the same number of each class to each part. A fold
holds out one part of every carrier and trains on the trials that have no value of these parts: with
places and years crossed, a decoder is judged on places and on years that it was not trained on. The
inner folds, which choose its penalty, are made of the other parts in the same way.

Labels are exchanged among carriers of the same part. Every labelling then has the same folds with
the same number of carriers of each class, so that the labels of the study are one of them like any
other and the p-value is exact. Folds that were balanced for one labelling and not for the others
would not be. Where labels differ within the values of a carrier, they are exchanged there: among
its conditions, or what else the label was made of, and never as whole sides of a contrast.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from lmri.checks import check_range
from lmri.decode.questions import Labelled
from lmri.errors import EvidenceError

LEAST_FOLDS = 3
"""Parts of every carrier: one to be judged on, one to choose the penalty, one to train on."""

LEAST_OF_CLASS = 2
"""Trials of every class that a decoder is trained on."""

Pair = tuple[np.ndarray, np.ndarray]
"""Rows that are trained on, and rows that are held out."""


@dataclass(frozen=True)
class Fold:
    """Rows of one fold.

    Attributes
    ----------
    train, test : ndarray of int64
        Places among the trials of the question.
    inner : tuple of (train, test)
        Folds of ``train``, to choose a penalty.
    """

    train: np.ndarray
    test: np.ndarray
    inner: tuple[Pair, ...] = ()

    def among(self, present: np.ndarray) -> Fold:
        """Keep the rows that are present, array of shape (n,), bool."""
        pairs = tuple((own[present[own]], held[present[held]]) for own, held in self.inner)
        return Fold(self.train[present[self.train]], self.test[present[self.test]], pairs)


@dataclass(frozen=True)
class Folds:
    """All folds of a question.

    Attributes
    ----------
    parts : tuple of ndarray of shape (n_values,), int64
        For every carrier the part of each of its values.
    folds : tuple of Fold
        Every trial is held out in one of them.
    """

    parts: tuple[np.ndarray, ...]
    folds: tuple[Fold, ...]


def carrier_folds(labelled: Labelled, count: int, seed: int) -> Folds:
    """Deal carriers into parts and make the folds.

    Parameters
    ----------
    labelled : Labelled
        Trials and what carries their labels.
    count : int
        Parts of every carrier; with two carriers there are ``count²`` folds.
    seed : int
        Of the draw.

    Returns
    -------
    Folds
        The folds.

    Raises
    ------
    EvidenceError
        If a class has fewer carriers than parts, or a decoder would be trained on fewer than
        :data:`LEAST_OF_CLASS` trials of a class.
    """
    owner = labelled.question.owner
    check_range(count, "folds", owner, LEAST_FOLDS, error=EvidenceError)
    rng = np.random.default_rng([seed, 31])
    parts = tuple(_deal(own.classes, count, rng) for own in labelled.carriers)
    for carrier in labelled.carriers:
        sizes = np.bincount(carrier.classes)
        least = int(sizes[sizes > 0].min())
        if least < count:
            raise EvidenceError(
                f"{owner} needs at least {count} values of '{carrier.name}' in each class, one "
                f"for each of {count} folds. Got {least}: record more of them, or set "
                f"'decode.folds' to a smaller number (at least {LEAST_FOLDS})."
            )
    own = [part[c.values] for part, c in zip(parts, labelled.carriers, strict=True)]
    folds = []
    for held in product(range(count), repeat=len(own)):
        train, test = _split(own, np.arange(len(labelled.rows)), held)
        left = [[part for part in range(count) if part != out] for out in held]
        inner = tuple(_split(own, train, chosen) for chosen in zip(*left, strict=True))
        folds.append(Fold(train, test, inner))
    _check_training(labelled, folds)
    return Folds(parts, tuple(folds))


def shared_folds(labelled: Labelled, count: int, seed: int) -> tuple[Fold, ...]:
    """Folds of trials whose carriers are in training too, for a control task.

    Parameters
    ----------
    labelled : Labelled
        Trials.
    count : int
        Number of folds.
    seed : int
        Of the draw.

    Returns
    -------
    tuple of Fold
        Without inner folds. The trials of every value of the first carrier are dealt to all folds.
    """
    rng = np.random.default_rng([seed, 32])
    part = np.empty(len(labelled.rows), dtype=np.int64)
    values = labelled.carriers[0].values
    order = np.lexsort((rng.random(len(values)), values))
    part[order] = np.arange(len(values)) % count
    rows = np.arange(len(values))
    return tuple(Fold(rows[part != held], rows[part == held]) for held in range(count))


def exchanged_labels(labelled: Labelled, folds: Folds, draws: int, seed: int) -> np.ndarray:
    """Labels of the trials, and labels exchanged among the carriers of each part.

    Parameters
    ----------
    labelled : Labelled
        Trials and what carries their labels.
    folds : Folds
        Their folds.
    draws : int
        Number of exchanges.
    seed : int
        Of the draws.

    Returns
    -------
    ndarray of shape (1 + draws, n), int64
        The labels themselves first; -1 where a trial has none.
    """
    rng = np.random.default_rng([seed, 33])
    if labelled.table is None:
        drawn = _exchanged_within(labelled, draws, rng)
    else:
        classes = [
            _permuted(carrier.classes, part, draws, rng)[:, carrier.values]
            for carrier, part in zip(labelled.carriers, folds.parts, strict=True)
        ]
        drawn = labelled.table[tuple(classes)]
    return np.concatenate([labelled.codes[None], drawn])


def control_labels(labelled: Labelled, draws: int, seed: int) -> np.ndarray:
    """Labels of a control task: a class drawn for every value of the carriers.

    Parameters
    ----------
    labelled : Labelled
        Trials, and carriers that carry their labels.
    draws, seed : int
        As for :func:`exchanged_labels`.

    Returns
    -------
    ndarray of shape (draws, n), int64
        As many values have each class as in the task itself.
    """
    rng = np.random.default_rng([seed, 34])
    classes = [
        rng.permuted(np.tile(own.classes, (draws, 1)), axis=1)[:, own.values]
        for own in labelled.carriers
    ]
    return labelled.table[tuple(classes)]


def _deal(classes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    parts = np.empty(len(classes), dtype=np.int64)
    order = np.lexsort((rng.random(len(classes)), classes))
    # One class goes on where the one before ended: parts are then as even as they can be.
    parts[order] = np.arange(len(classes)) % count
    return parts


def _split(parts: list[np.ndarray], rows: np.ndarray, held: tuple[int, ...]) -> Pair:
    inside = np.stack([part[rows] == out for part, out in zip(parts, held, strict=True)])
    return rows[~inside.any(axis=0)], rows[inside.all(axis=0)]


def _check_training(labelled: Labelled, folds: list[Fold]) -> None:
    pairs = [(fold.train, fold.test) for fold in folds]
    pairs += [pair for fold in folds for pair in fold.inner]
    for train, _ in pairs:
        codes = labelled.codes[train]
        counts = np.bincount(codes[codes >= 0], minlength=len(labelled.names))
        if counts.min() < LEAST_OF_CLASS:
            few = labelled.names[int(counts.argmin())]
            raise EvidenceError(
                f"{labelled.question.owner} needs at least {LEAST_OF_CLASS} trials of every class "
                f"to train on, in every fold and within it. Got {counts.min()} of '{few}' "
                f"({labelled.counts[counts.argmin()]} in all): record more."
            )


def _permuted(
    classes: np.ndarray, part: np.ndarray, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Classes of values exchanged within parts: (draws, n_values)."""
    drawn = np.empty((draws, len(classes)), dtype=np.int64)
    for number in np.unique(part):
        own = np.flatnonzero(part == number)
        drawn[:, own] = rng.permuted(np.tile(classes[own], (draws, 1)), axis=1)
    return drawn


def _exchanged_within(labelled: Labelled, draws: int, rng: np.random.Generator) -> np.ndarray:
    # Repeats of a wording are no trials of their own: they go together, and change places with as
    # many others, so that every value keeps its number of trials of each class.
    pairs = np.stack([labelled.carriers[0].values, labelled.units], axis=1)
    units, first, of_trial, sizes = np.unique(
        pairs, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    alike = np.stack([units[:, 0], sizes], axis=1)
    blocks = np.unique(alike, axis=0, return_inverse=True)[1].ravel()
    order, labels = np.argsort(blocks, kind="stable"), labelled.codes[first]
    _check_exchange(labelled, blocks, labels, draws)
    keys = blocks[order] + rng.random((draws, len(blocks)))
    drawn = np.empty((draws, len(blocks)), dtype=np.int64)
    drawn[:, order] = labels[order][np.argsort(keys, axis=1)]
    return drawn[:, of_trial.ravel()]


def _check_exchange(labelled: Labelled, blocks: np.ndarray, labels: np.ndarray, draws: int) -> None:
    """Refuse a null that would be the labels themselves, over and over."""
    several = len(np.unique(np.stack([blocks, labels]), axis=1).T) > len(np.unique(blocks))
    if draws and not several:
        name = labelled.carriers[0].name
        raise EvidenceError(
            f"{labelled.question.owner} within '{name}' needs a value of it with as many trials in "
            "one class as in another, or nothing can be exchanged. Got none."
        )
