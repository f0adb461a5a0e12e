"""What information is asked about: labels of trials, and what may be exchanged under the null."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.checks import check_choice
from lmri.errors import EvidenceError
from lmri.information.nulls import crossed_labels, exchanged_labels, labels_within
from lmri.information.readings import Trials, column
from lmri.information.samples import as_labels
from lmri.score import carrier_columns

SCHEMES = ("between", "within", "trials")


@dataclass(frozen=True)
class Question:
    """An attribute of trials.

    Attributes
    ----------
    target : str
        Column of the table of trials: ``condition``, ``family``, ``class_place``, …
    carriers : tuple of str
        Carriers whose classes the attribute follows from. With several (place and year), the
        classes of each are exchanged among its values.
    scheme : str
        ``between``: exchange labels among the values of carriers. ``within``: exchange them among
        the trials of each value of the one carrier. ``trials``: exchange them among trials, which
        is right only where trials share nothing.
    """

    target: str
    carriers: tuple[str, ...] = ()
    scheme: str = "between"

    @property
    def exchanged(self) -> str:
        """What the null exchanges."""
        carriers = " and ".join(self.carriers)
        return {"trials": "trials", "within": f"trials of each {carriers}"}.get(
            self.scheme, carriers
        )


@dataclass(frozen=True)
class Sample:
    """Labels of the trials that have activity, with exchanged ones.

    Attributes
    ----------
    rows : ndarray of shape (n,), int64
        Places of the trials in the table.
    codes : ndarray of shape (n,), int64
        Numbered labels.
    groups : ndarray of shape (n,) or (n_carriers, n), int64
        Trials that are never separated by folds and parts; of crossed carriers the values of each.
    carriers : ndarray of shape (n_carriers, n), int64
        Values of every carrier that the trials have, whatever is asked: what is told of the inputs
        depends on all of them. Without any, each trial stands for itself.
    labellings : ndarray of shape (draws, n), int64
        Exchanged labels.
    exchanged : str
        What was exchanged.
    independent : int
        Number of independent groups of trials: values of the carrier that has the fewest.
    grouped : bool
        Whether groups, and not trials, are exchanged.
    """

    rows: np.ndarray
    codes: np.ndarray
    groups: np.ndarray
    carriers: np.ndarray
    labellings: np.ndarray
    exchanged: str
    independent: int
    grouped: bool


def sample_of(
    trials: Trials, question: Question, rows: np.ndarray, draws: int, seed: int
) -> Sample:
    """Prepare labels and their exchange for some trials.

    Parameters
    ----------
    trials : Trials
        All trials.
    question : Question
        What is asked.
    rows : ndarray of int
        Places of the trials that have activity.
    draws, seed : int
        Of the null.

    Returns
    -------
    Sample
        Groups are the values of the carriers.

    Raises
    ------
    EvidenceError
        If the attribute or a carrier is unknown, has one value, or cannot be exchanged so.
    """
    check_choice(question.scheme, SCHEMES, "scheme", "a question", EvidenceError)
    owner = f"'{question.target}'"
    codes = as_labels(column(trials, question.target)[rows], owner, least=2)
    if codes.max() == 0:
        raise EvidenceError(f"The attribute {owner} must have two values or more. Got one.")
    if question.scheme != "trials" and not question.carriers:
        raise EvidenceError(
            f"The question about {owner} must name the carriers of the attribute, or have the "
            "scheme 'trials'. Got neither."
        )
    values = {name: column(trials, f"carrier_{name}")[rows] for name in question.carriers}
    groups = np.arange(len(rows))
    if values:
        every = [as_labels(own, f"carrier '{name}'") for name, own in values.items()]
        groups = every[0] if len(every) == 1 else np.stack(every)
    carriers = _every_carrier(trials, rows)
    count = min(int(own.max()) + 1 for own in np.atleast_2d(groups))
    if question.scheme == "trials":
        labellings = exchanged_labels(codes, None, draws, seed)
        count = min(count, *(int(own.max()) + 1 for own in carriers))
        return Sample(rows, codes, groups, carriers, labellings, question.exchanged, count, False)
    if question.scheme == "within":
        labellings = labels_within(codes, np.atleast_2d(groups)[0], draws, seed)
        return Sample(rows, codes, groups, carriers, labellings, question.exchanged, count, True)
    if len(question.carriers) == 1:
        labellings = exchanged_labels(codes, groups, draws, seed)
    else:
        classes = {name: column(trials, f"class_{name}")[rows] for name in values}
        crossed = {name: (own, classes[name]) for name, own in values.items()}
        labellings = crossed_labels(codes, crossed, draws, seed)
    return Sample(rows, codes, groups, carriers, labellings, question.exchanged, count, True)


def exchanged_classes(
    trials: Trials, question: Question, names: np.ndarray, draws: int, seed: int
) -> np.ndarray:
    """Exchange an attribute among some trials.

    Parameters
    ----------
    trials : Trials
        All trials.
    question : Question
        What is asked.
    names : ndarray of shape (n,), str
        The trials.
    draws, seed : int
        Of the null.

    Returns
    -------
    ndarray of shape (draws, n)
        Values of the attribute.

    Raises
    ------
    EvidenceError
        As :func:`sample_of`.
    """
    rows = pd.Index(trials.table["trial"]).get_indexer(names)
    sample = sample_of(trials, question, rows, draws, seed)
    return np.unique(column(trials, question.target)[rows])[sample.labellings]


def _every_carrier(trials: Trials, rows: np.ndarray) -> np.ndarray:
    """Numbered values of all carriers, (n_carriers, n); without any, the trials themselves."""
    own = carrier_columns(trials.table.iloc[rows])
    values = [pd.factorize(own[name])[0] for name in own.columns] or [np.arange(len(rows))]
    return np.stack(values).astype(np.int64)
