"""Conditions decoded in a new subject from few trials, through a space that others share.

A decoder is fitted on the shared responses of other subjects. A new subject needs no more than a
linear map of its units to that space, an adapter, fitted on the few trials it has read. What that
is worth is the difference to a decoder that is trained from these trials alone; that it is the
correspondence of trials, and nothing else, is shown by adapters of trials that do not correspond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lmri.align.shared_response import check_same_trials, shared_response
from lmri.checks import check_range
from lmri.errors import EvidenceError

ARMS = ("adapter", "scratch", "permuted", "all")
"""The adapter; a decoder of the same trials alone; the adapter of trials that do not correspond; a
decoder of all trials of the new subject, which is what could be reached."""

PENALTIES = tuple(10.0 ** np.arange(-2, 6))
"""Of the adapter, one chosen by leaving out each of its trials."""


@dataclass(frozen=True)
class Halves:
    """Trials to fit on and to score on, of all subjects.

    Attributes
    ----------
    fit, score : sequence of ndarray of shape (n_trials, n_units)
        Activity of each subject, in trials of entities that are not shared between the two; units
        on one scale, or components of such units.
    fit_labels, score_labels : ndarray of shape (n_trials,)
        Conditions.
    """

    fit: Sequence[np.ndarray]
    score: Sequence[np.ndarray]
    fit_labels: np.ndarray
    score_labels: np.ndarray


def transfer(
    halves: Halves,
    new: int,
    k: int,
    counts: Sequence[int],
    orders: Sequence[np.ndarray],
    seed: int = 0,
) -> np.ndarray:
    """Decode conditions in one subject, left out of the fit, from few of its trials.

    Parameters
    ----------
    halves : Halves
        Activity and conditions.
    new : int
        The subject that is new.
    k : int
        Dimensions of the shared space.
    counts : sequence of int
        Trials of each condition that the new subject has read.
    orders : sequence of ndarray of shape (n_fit,), int64
        One for each draw of trials: the trials' order where they do not correspond.
    seed : int
        Seed of the draws of trials.

    Returns
    -------
    ndarray of shape (n_counts, n_draws, n_arms), float64
        Balanced accuracy on the trials to score on; NaN for counts that a condition does not have.

    Raises
    ------
    EvidenceError
        If there are fewer than 2 subjects or conditions, a condition is not in both halves, or no
        count can be drawn.
    """
    _check(halves, new, counts)
    others = [own for number, own in enumerate(halves.fit) if number != new]
    shared = shared_response(others, k)
    told = np.concatenate([shared.transform(n, own) for n, own in enumerate(others)])
    # Shared dimensions are few and told apart by their names alone: each on one scale.
    decoder = make_pipeline(StandardScaler(), _decoder())
    decoder.fit(told, np.tile(halves.fit_labels, len(others)))
    x, x_score = halves.fit[new], halves.score[new]

    def score(predicted: np.ndarray) -> float:
        return balanced_accuracy_score(halves.score_labels, predicted)

    most = score(_decoder().fit(x, halves.fit_labels).predict(x_score))
    fewest = min(np.sum(halves.fit_labels == own) for own in np.unique(halves.fit_labels))
    found = np.full((len(counts), len(orders), len(ARMS)), np.nan)
    for c, count in enumerate(counts):
        if count > fewest:
            continue
        for d, order in enumerate(orders):
            rows = _drawn(halves.fit_labels, count, np.random.default_rng([seed, d]))
            adapted = RidgeCV(PENALTIES).fit(x[rows], shared.response[rows]).predict(x_score)
            broken = RidgeCV(PENALTIES).fit(x[rows], shared.response[order[rows]]).predict(x_score)
            scratch = _decoder().fit(x[rows], halves.fit_labels[rows]).predict(x_score)
            found[c, d] = (
                score(decoder.predict(adapted)),
                score(scratch),
                score(decoder.predict(broken)),
                most,
            )
    return found


def _check(halves: Halves, new: int, counts: Sequence[int]) -> None:
    if len(halves.fit) < 2:
        raise EvidenceError(
            "A decoder that is shared must have 2 subjects or more, one of which is new. Got "
            f"{len(halves.fit)}."
        )
    check_range(new, "new", "a shared decoder", 0, len(halves.fit) - 1, EvidenceError)
    check_same_trials(halves.fit, "a shared decoder")
    check_same_trials(halves.score, "a shared decoder")
    sides = [set(np.unique(own).tolist()) for own in (halves.fit_labels, halves.score_labels)]
    if len(sides[0]) < 2 or sides[0] != sides[1]:
        raise EvidenceError(
            "A shared decoder must have 2 conditions or more, the same to fit on and to score on. "
            f"Got {sorted(sides[0])} and {sorted(sides[1])}."
        )
    fewest = min(int(np.sum(halves.fit_labels == own)) for own in sides[0])
    if not counts or min(counts) > fewest or min(counts) < 1:
        raise EvidenceError(
            f"The counts of a shared decoder must be trials of each condition, from 1 to {fewest}, "
            f"those of the rarest. Got {list(counts)}."
        )


def _drawn(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw so many trials of each condition; more of them hold those of fewer."""
    return np.concatenate(
        [rng.permutation(np.flatnonzero(labels == own))[:count] for own in np.unique(labels)]
    )


def _decoder() -> LogisticRegression:
    return LogisticRegression(class_weight="balanced", max_iter=1000)
