"""Information of discrete variables: what chosen experts tell of attributes.

Routing is the best posed case of all: few symbols, many observations, no noise and no bins.
"""

from __future__ import annotations

import numpy as np

from lmri.checks import check_choice
from lmri.errors import EvidenceError
from lmri.information.estimate import Estimate
from lmri.information.samples import as_labels, entropy_of_counts

CORRECTIONS = ("miller_madow", "none")


def plug_in(x: np.ndarray, y: np.ndarray, *, correction: str = "miller_madow") -> Estimate:
    """Mutual information of two discrete variables from the table of their counts.

    ``sum p ln p / (p_x p_y)``, to which Miller and Madow add ``(K_x + K_y - K_xy - 1) / 2n``, with
    K the numbers of symbols, and of pairs, that occur.

    Parameters
    ----------
    x, y : ndarray of shape (n,)
        Labels of any type.
    correction : str
        ``miller_madow`` or ``none``.

    Returns
    -------
    Estimate
        In nats. Its channel has ``cells``, the size of the table: the correction breaks down, and
        ``dimension`` is flagged, where they are not few beside n.

    Raises
    ------
    EvidenceError
        If the variables have different lengths.

    Notes
    -----
    Miller 1955. Uncorrected, independent variables have (K_x - 1)(K_y - 1) / 2n on average.
    """
    check_choice(correction, CORRECTIONS, "correction", "plug_in", EvidenceError)
    a = as_labels(x, "X of plug_in")
    b = as_labels(y, "Y of plug_in", len(a))
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    value = table_information(table)
    if correction == "miller_madow":
        occurring = sum(table.shape) - np.count_nonzero(table) - 1
        value += occurring / (2 * len(a))
    return Estimate(
        value=value,
        quantity="I(X;Y)",
        estimator="plug_in",
        family="plug_in",
        channel={"correction": correction, "cells": table.size},
        n=len(a),
        n_distinct=int(np.count_nonzero(table)),
        d=(0, 0),
        ceiling=min(entropy_of_counts(table.sum(axis=axis)) for axis in (0, 1)),
    )


def table_information(table: np.ndarray) -> float:
    """Mutual information of a table of counts or shares, array of shape (K_x, K_y), in nats."""
    margins = entropy_of_counts(table.sum(axis=0)) + entropy_of_counts(table.sum(axis=1))
    return margins - entropy_of_counts(table)


def choice_information(rates: np.ndarray, labellings: np.ndarray) -> np.ndarray:
    """Information that the choice of an expert has about attributes, without correction.

    A token of a trial chooses expert e with probability rates[trial, e] (one of its slots, drawn at
    random). Over trials of equal weight, I(E;Y) follows from the mean rates of each class. A trial
    counts once however many tokens it has, so its bias is that of n trials at most; it is best
    taken out by the mean of a null.

    Parameters
    ----------
    rates : ndarray of shape (n, n_experts), float64
        Shares of the slots of a trial, which sum to 1.
    labellings : ndarray of shape (n_labellings, n), int64
        Numbered attributes of the trials.

    Returns
    -------
    ndarray of shape (n_labellings,), float64
        In nats, for each labelling.
    """
    classes = labellings.max() + 1
    found = np.empty(len(labellings))
    for number, labels in enumerate(labellings):
        members = (labels == np.arange(classes)[:, None]).astype(np.float64)
        found[number] = table_information(members @ rates / len(rates))
    return found


def expert_information(chosen: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Information of each expert being chosen or not about attributes.

    Parameters
    ----------
    chosen : ndarray of shape (n, n_experts), bool
        Whether a token chose the expert; one token a trial, or tokens that are independent.
    labels : ndarray of shape (n,)
        Attributes.

    Returns
    -------
    ndarray of shape (n_experts,), float64
        In nats, with the correction of Miller and Madow; 0 for an expert that always or never is
        chosen. The sum over experts is not the information of the set.

    Raises
    ------
    EvidenceError
        If there are not as many labels as rows.
    """
    chosen = np.asarray(chosen, dtype=bool)
    codes = as_labels(labels, "expert_information", len(chosen))
    members = (codes[:, None] == np.arange(codes.max() + 1)).astype(np.float64)
    yes = chosen.astype(np.float64).T @ members  # (experts, classes)
    table = np.stack([yes, members.sum(axis=0) - yes], axis=1)
    n = len(chosen)
    value = _entropies(table.sum(axis=2)) + _entropies(members.sum(axis=0)[None])
    value -= _entropies(table.reshape(len(table), -1))
    symbols = np.count_nonzero(table.sum(axis=2), axis=1)
    pairs = np.count_nonzero(table.reshape(len(table), -1), axis=1)
    corrected = value + (symbols + members.shape[1] - pairs - 1) / (2 * n)
    return np.where(symbols > 1, corrected, 0.0)


def _entropies(counts: np.ndarray) -> np.ndarray:
    """Entropy of each row of counts, in nats."""
    p = counts / counts.sum(axis=1, keepdims=True)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
