"""How well held-out trials are decoded, under the labels and under exchanged ones.

Accuracy is balanced: the mean over classes of the share of their trials that is told right, so that
a class of 80 % is worth no more than one of 20 % and chance is one over the number of classes. The
area under the curve (AUC) compares trials of one fold only, since scores of decoders that were
trained apart need not be on one scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from lmri.decode.labellings import HeldOut

STATISTICS = ("balanced_accuracy", "auc")
"""What is told of a decoder."""

ROUNDING = 1e-9
"""By which scores differ that are equal."""


def scores_of(held: HeldOut, labels: np.ndarray) -> np.ndarray:
    """Score what was held out.

    Parameters
    ----------
    held : HeldOut
        Log odds of held-out trials.
    labels : ndarray of shape (n_labellings, n_trials), int64
        The labellings; -1 where a trial has no label.

    Returns
    -------
    ndarray of shape (2, n_labellings), float64
        :data:`STATISTICS`; NaN where a class has no trial to be judged on.
    """
    return np.stack([balanced_accuracy(held, labels), area_under_curve(held, labels)])


def balanced_accuracy(held: HeldOut, labels: np.ndarray) -> np.ndarray:
    """Mean over classes of the share that is told right: array of shape (n_labellings,)."""
    judged = held.fold >= 0
    truth = labels[:, judged]
    said = held.odds[:, judged].argmax(axis=-1)
    shares = []
    for number in range(held.odds.shape[-1]):
        own = truth == number
        count = own.sum(axis=1)
        right = (own & (said == number)).sum(axis=1)
        shares.append(np.where(count > 0, right / np.maximum(count, 1), np.nan))
    return np.mean(shares, axis=0)


def area_under_curve(held: HeldOut, labels: np.ndarray) -> np.ndarray:
    """Share of pairs within a fold that are in the right order: array of shape (n_labellings,).

    Of more than two classes it is the mean over classes of each against all others.
    """
    n_classes = held.odds.shape[-1]
    areas = []
    for number in range(n_classes) if n_classes > 2 else (1,):
        wins, pairs = np.zeros(len(labels)), np.zeros(len(labels))
        for fold in np.unique(held.fold[held.fold >= 0]):
            rows = held.fold == fold
            truth = labels[:, rows]
            # Trials without a label come last, where they change the rank of no other.
            own = np.where(truth >= 0, held.odds[:, rows, number], np.inf)
            inside = truth == number
            ours, others = inside.sum(axis=1), (truth >= 0).sum(axis=1) - inside.sum(axis=1)
            ranks = np.where(inside, rankdata(own, axis=1), 0).sum(axis=1)
            wins += np.where(ours * others > 0, ranks - ours * (ours + 1) / 2, 0)
            pairs += ours * others
        areas.append(np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan))
    return np.mean(areas, axis=0)


@dataclass(frozen=True)
class Tested:
    """Scores of cells with their permutation test.

    Attributes
    ----------
    value : ndarray of shape (..., n_cells)
        Under the labels themselves.
    p, p_max : ndarray of shape (..., n_cells)
        Share of exchanges that score as much in the cell, and in any cell.
    null_mean, null_upper : ndarray of shape (..., n_cells)
        Mean and 95 % quantile of the exchanges.
    """

    value: np.ndarray
    p: np.ndarray
    p_max: np.ndarray
    null_mean: np.ndarray
    null_upper: np.ndarray


def permutation_test(scores: np.ndarray) -> Tested:
    """Compare the first labelling with the others, cell by cell and over all cells.

    Parameters
    ----------
    scores : ndarray of shape (..., n_labellings, n_cells)
        Scores; the labels themselves first. A cell that was not decoded is NaN.

    Returns
    -------
    Tested
        p is ``(1 + as large) / (1 + draws)``; NaN where the score is.
    """
    value, drawn = scores[..., 0, :], scores[..., 1:, :]
    draws = drawn.shape[-2]
    known = np.isfinite(value)
    judged = np.isfinite(drawn) & known[..., None, :]
    largest = np.where(judged, drawn, -np.inf).max(axis=-1, initial=-np.inf)
    level = value - ROUNDING
    # An exchange that could not be scored counts against the claim.
    as_large = (~(drawn < level[..., None, :])).sum(axis=-2)
    any_as_large = np.maximum((largest[..., None] >= level[..., None, :]).sum(axis=-2), as_large)
    if not draws or not known.any():
        nothing = np.full(value.shape, np.nan)
        return Tested(value, nothing, nothing, nothing, nothing)
    usable = np.where(np.isfinite(drawn).any(axis=-2, keepdims=True), drawn, 0.0)
    mean, upper = np.nanmean(usable, axis=-2), np.nanquantile(usable, 0.95, axis=-2)
    return Tested(
        value,
        *(np.where(known, (1 + own) / (1 + draws), np.nan) for own in (as_large, any_as_large)),
        *(np.where(known, own, np.nan) for own in (mean, upper)),
    )
