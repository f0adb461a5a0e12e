"""Which stimulus was it? Retrieval from the activity of one subject by that of another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lmri.align.ranks import rank_p
from lmri.errors import EvidenceError

LEAST_STIMULI = 10
"""Stimuli among which one is identified, at least."""

TOP = (1, 5)


@dataclass(frozen=True)
class Identification:
    """How often a stimulus is told from others by what another subject does.

    Attributes
    ----------
    two_way : float
        Mean over stimuli i and others j of [r_ii > r_ij], a tie being half; chance is .5.
    top : dict of int to float
        For every k, share of stimuli that are among the k most similar; chance is k / N.
    within : float
        ``two_way`` among stimuli of the same condition, which no difference between conditions
        helps; NaN without any pair.
    n : int
        Number of stimuli N.
    null : dict of str to (float, float, float)
        2.5 %, mean and 97.5 % of the draws of ``two_way``, ``within`` and ``top_<k>``.
    p : dict of str to float
        One-sided; NaN where the score is, or without draws of it.
    """

    two_way: float
    top: dict[int, float]
    within: float
    n: int
    null: dict[str, tuple[float, float, float]]
    p: dict[str, float]


def identify(
    told: np.ndarray,
    seen: np.ndarray,
    orders: Iterable[np.ndarray],
    *,
    conditions: np.ndarray | None = None,
    inside: Iterable[np.ndarray] = (),
    top: Sequence[int] = TOP,
) -> Identification:
    """Identify stimuli by the cosine of predicted and recorded activity, each feature standardised.

    Parameters
    ----------
    told : ndarray of shape (n_stimuli, n_features)
        Activity that other subjects predict, from a model fitted on other stimuli.
    seen : ndarray of shape (n_stimuli, n_features)
        Activity of the subject.
    orders : iterable of ndarray of shape (n_stimuli,), int64
        Orders of the stimuli under the null: which one is taken for the right one.
    conditions : ndarray of shape (n_stimuli,), optional
        Conditions, for ``within``.
    inside : iterable of ndarray of shape (n_stimuli,), int64
        Orders in which every stimulus stays in its condition, the null of ``within``. One that
        crosses conditions counts against the claim: there the score of a stimulus is not defined.
    top : sequence of int
        Numbers k; those that are not below N are left out.

    Returns
    -------
    Identification
        With its null.

    Raises
    ------
    EvidenceError
        If the stimuli differ in number or are fewer than :data:`LEAST_STIMULI`, or a side is
        constant over its features.
    """
    n = len(seen)
    if told.shape != seen.shape or n < LEAST_STIMULI:
        raise EvidenceError(
            f"Identification must be among {LEAST_STIMULI} stimuli or more, of as many features on "
            f"both sides. Got {told.shape} and {seen.shape}."
        )
    similarity = _similarities(told, seen)
    ranks, within = _ranks(similarity), _ranks_within(similarity, conditions)
    kept, rows = [k for k in top if k < n], np.arange(n)
    paired = np.flatnonzero(np.isfinite(np.diag(within)))

    def scores(order: np.ndarray) -> dict[str, float]:
        at = ranks[rows, order]
        # A stimulus is among the k most similar if fewer than k others are more so.
        above = (1 - at) * (n - 1)
        return {"two_way": at.mean()} | {f"top_{k}": np.mean(above < k - 0.5 + 1e-9) for k in kept}

    def score_within(order: np.ndarray) -> float:
        return within[paired, order[paired]].mean() if len(paired) else np.nan

    observed = scores(rows) | {"within": score_within(rows)}
    drawn = [scores(order) for order in orders]
    by_name = {
        name: np.array([own[name] for own in drawn]) for name in observed.keys() - {"within"}
    }
    by_name["within"] = np.array([score_within(order) for order in inside])
    return Identification(
        two_way=float(observed["two_way"]),
        top={k: float(observed[f"top_{k}"]) for k in kept},
        within=float(observed["within"]),
        n=n,
        null={name: _interval(own) for name, own in by_name.items()},
        p={name: rank_p(own, observed[name]) for name, own in by_name.items()},
    )


def _interval(drawn: np.ndarray) -> tuple[float, float, float]:
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return np.nan, np.nan, np.nan
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(known.mean()), float(high)


def _similarities(told: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Cosine of each row with each: array of shape (n, n), rows are of ``told``."""
    sides = []
    for own in (told, seen):
        # On one scale: the largest component would else be all there is. Their mean over features
        # stays, unlike in a correlation: components have no common level, and it is a direction.
        spread = own.std(axis=0)
        if not spread.any():
            raise EvidenceError(
                f"Identification must be from activity that varies. All {own.shape[1]} features "
                f"are constant over {len(own)} stimuli."
            )
        ready = (own - own.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        norm = np.linalg.norm(ready, axis=1, keepdims=True)
        sides.append(ready / np.where(norm > 0, norm, 1.0))
    return sides[0] @ sides[1].T


def _ranks(similarity: np.ndarray) -> np.ndarray:
    """Share of the others in each row that a column is more similar than."""
    from scipy.stats import rankdata

    return (rankdata(similarity, axis=1) - 1) / (similarity.shape[1] - 1)


def _ranks_within(similarity: np.ndarray, conditions: np.ndarray | None) -> np.ndarray:
    """As :func:`_ranks` among the columns of the row's condition; NaN elsewhere."""
    found = np.full(similarity.shape, np.nan)
    for condition in () if conditions is None else np.unique(conditions):
        members = conditions == condition
        if members.sum() > 1:
            block = np.ix_(members, members)
            found[block] = _ranks(similarity[block])
    return found
