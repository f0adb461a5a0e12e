"""What is decoded: a label of every trial, and the carriers that folds and nulls respect.

A label follows from what carries it. Folds keep the values of these carriers apart, so that a
decoder is judged on entities that it was not trained on; the null exchanges their classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.checks import check_choice, check_columns
from lmri.errors import EvidenceError

TRIAL = "trial"
"""What carries the label where nothing else does."""


@dataclass(frozen=True)
class Question:
    """A label of the trials of one task.

    Attributes
    ----------
    name : str
        Name of the contrast, or of the column.
    task : str
        The task.
    column : str
        Column of the table of trials.
    sides : tuple of tuple of str
        Values of the column that make up each class, in order: the controls of a contrast, then
        its target. Empty: every value is a class.
    within : str or None
        Carrier within whose values labels are exchanged; None finds out what carries the label.
    """

    name: str
    task: str
    column: str = "condition"
    sides: tuple[tuple[str, ...], ...] = ()
    within: str | None = None

    @property
    def owner(self) -> str:
        """What messages call it."""
        return f"decoding '{self.name}' of '{self.task}'"


@dataclass(frozen=True)
class Carrier:
    """One carrier of a label.

    Attributes
    ----------
    name : str
        Its name, such as ``place``.
    values : ndarray of shape (n,), int64
        Number of its value in each trial.
    classes : ndarray of shape (n_values,), int64
        Number of the class of each value.
    """

    name: str
    values: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Labelled:
    """Trials with a label, and what carries it.

    Attributes
    ----------
    question : Question
        What is decoded.
    rows : ndarray of shape (n,), int64
        Places of the trials in the table.
    names : tuple of str
        Names of the classes.
    codes : ndarray of shape (n,), int64
        Class of every trial; -1 for one that has none under these labels, but may have one when
        classes of its carriers are exchanged.
    carriers : tuple of Carrier
        What folds keep apart.
    table : ndarray of int64, or None
        Class by the classes of all carriers; None where labels are exchanged within the values of
        the one carrier.
    units : ndarray of shape (n,), int64, or None
        Where they are, what is exchanged: trials of one value with the same number go together.
    """

    question: Question
    rows: np.ndarray
    names: tuple[str, ...]
    codes: np.ndarray
    carriers: tuple[Carrier, ...]
    table: np.ndarray | None
    units: np.ndarray | None = None

    @property
    def exchanged(self) -> str:
        """What the null exchanges, in words."""
        names = " and ".join(own.name for own in self.carriers)
        return f"trials of each {names}" if self.table is None else names

    @property
    def counts(self) -> np.ndarray:
        """Trials of every class: array of shape (n_classes,), int64."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))


def label_trials(question: Question, trials: pd.DataFrame, carriers: Sequence[str]) -> Labelled:
    """Give trials their labels, and find what carries them.

    Several carriers carry a label that follows from their classes together (a sensitive place in a
    sensitive year), or from each of them alone (only benign trials beside): a decoder must then be
    judged on new places and on new years. Else one carrier does whose every value has one label.
    Otherwise every value of the first carrier is in several classes, and labels are exchanged
    within it. Without carriers trials are taken as independent.

    Parameters
    ----------
    question : Question
        What is decoded.
    trials : DataFrame
        One row a trial.
    carriers : sequence of str
        Carriers of the task.

    Returns
    -------
    Labelled
        The trials that have a label, or can have one under exchanged classes.

    Raises
    ------
    EvidenceError
        If a column or value is unknown, or there is one class only.
    """
    needed = [question.column, *(f"carrier_{name}" for name in carriers)]
    check_columns(trials.columns, needed, f"of the trials of '{question.task}'", EvidenceError)
    labels, names = _labels(question, trials)
    held = np.bincount(labels[labels >= 0], minlength=len(names)) > 0
    if held.sum() < 2:
        only = [name for name, own in zip(names, held, strict=True) if own]
        raise EvidenceError(
            f"{question.owner} needs 2 classes. Got {len(only)}"
            f"{f' ({only[0]!r})' if only else ''} in {int((labels >= 0).sum())} trials."
        )
    if not held.all():
        # A class that no recorded trial has is left out, and the others are numbered anew.
        labels = np.where(labels >= 0, (np.cumsum(held) - 1)[labels], -1)
        names = tuple(name for name, own in zip(names, held, strict=True) if own)
    if question.within is not None:
        check_choice(question.within, carriers, "within", question.owner, EvidenceError)
        return _within(question, trials, labels, names, question.within)
    return _carried(question, trials, labels, names, carriers)


def _labels(question: Question, trials: pd.DataFrame) -> tuple[np.ndarray, tuple[str, ...]]:
    values = trials[question.column].astype(str)
    if not question.sides:
        names, codes = np.unique(values, return_inverse=True)
        return codes.astype(np.int64), tuple(map(str, names))
    labels = np.full(len(trials), -1, dtype=np.int64)
    for number, side in enumerate(question.sides):
        for value in side:
            check_choice(value, set(values), question.column, question.owner, EvidenceError)
        labels[values.isin(side).to_numpy()] = number
    return labels, tuple(" or ".join(side) for side in question.sides)


def _carried(
    question: Question,
    trials: pd.DataFrame,
    labels: np.ndarray,
    names: tuple[str, ...],
    carriers: Sequence[str],
) -> Labelled:
    rows = np.flatnonzero(labels >= 0)
    known = trials.iloc[rows].assign(label=labels[rows])
    crossed = _crossing(known, carriers)
    if len(crossed) > 1:
        found = _crossed(question, trials, labels, names, crossed)
        if found is not None:
            return found
    alone = [name for name in carriers if _determine(known, [f"carrier_{name}"])]
    if alone:
        # The highest of them: entities of one family that all have its label are one thing.
        name = min(alone, key=lambda own: known[f"carrier_{own}"].nunique())
        kind = dict(zip(known[f"carrier_{name}"], known["label"], strict=True))
        own = _carrier(name, known, kind)
        return Labelled(question, rows, names, labels[rows], (own,), np.arange(len(names)))
    if carriers:
        return _within(question, trials, labels, names, carriers[0])
    own = Carrier(TRIAL, np.arange(len(rows)), labels[rows])
    return Labelled(question, rows, names, labels[rows], (own,), np.arange(len(names)))


def _determine(known: pd.DataFrame, columns: list[str]) -> bool:
    """Whether a label follows from the values of some columns; from none, where it is one."""
    groups = known.groupby(columns)["label"] if columns else known.groupby(lambda row: 0)["label"]
    return bool((groups.nunique() == 1).all())


def _crossing(known: pd.DataFrame, carriers: Sequence[str]) -> list[str]:
    """Carriers whose classes a label follows from: together, or each of them by itself."""
    varying = [
        name
        for name in carriers
        if f"class_{name}" in known and known[f"class_{name}"].nunique() > 1
    ]
    every = [f"class_{name}" for name in varying]
    if not varying or not _determine(known, every):
        return []
    return [
        name
        for name, column in zip(varying, every, strict=True)
        if _determine(known, [column])
        or not _determine(known, [other for other in every if other != column])
    ]


def _crossed(
    question: Question,
    trials: pd.DataFrame,
    labels: np.ndarray,
    names: tuple[str, ...],
    used: Sequence[str],
) -> Labelled | None:
    """Labels as a function of the classes of several carriers; None where they are not."""
    # Other trials of the same carriers have no label now and may have one after an exchange.
    inside = np.ones(len(trials), dtype=bool)
    for name in used:
        column = trials[f"carrier_{name}"]
        inside &= column.isin(column[labels >= 0]).to_numpy()
    rows = np.flatnonzero(inside)
    own = trials.iloc[rows]
    found = []
    for name in used:
        kinds = sorted(own[f"class_{name}"].unique())
        codes = own[f"class_{name}"].map(kinds.index)
        found.append(_carrier(name, own, dict(zip(own[f"carrier_{name}"], codes, strict=True))))
    table = np.full([int(carrier.classes.max()) + 1 for carrier in found], -1, dtype=np.int64)
    places = tuple(carrier.classes[carrier.values] for carrier in found)
    labelled = labels[rows] >= 0
    table[tuple(place[labelled] for place in places)] = labels[rows][labelled]
    if (table[places] != labels[rows]).any():
        return None  # a combination of classes that is in a class here and in none there
    return Labelled(question, rows, names, labels[rows], tuple(found), table)


def _within(
    question: Question, trials: pd.DataFrame, labels: np.ndarray, names: tuple[str, ...], name: str
) -> Labelled:
    rows = np.flatnonzero(labels >= 0)
    own = trials.iloc[rows]
    carrier = _carrier(name, own, dict.fromkeys(own[f"carrier_{name}"], 0))
    several = pd.Series(labels[rows]).groupby(carrier.values).nunique()
    if (several == 1).all():
        raise EvidenceError(
            f"{question.owner} within '{name}' needs a value of it with 2 classes. Got "
            f"{len(several)} values with one each."
        )
    # Not the side of a contrast: five relations against one are six things to exchange, not two.
    units = pd.factorize(own[question.column].astype(str), sort=True)[0].astype(np.int64)
    return Labelled(question, rows, names, labels[rows], (carrier,), None, units)


def _carrier(name: str, trials: pd.DataFrame, kind: dict[str, int]) -> Carrier:
    numbers, values = pd.factorize(trials[f"carrier_{name}"], sort=True)
    return Carrier(name, numbers.astype(np.int64), np.array([int(kind[own]) for own in values]))
