"""The decoder under many labellings at once: what a permutation test costs little with.

Exchanged labels change the class means and the covariance within classes; the scaled principal
components, which need no label, stay. Everything here is :class:`MaskedDiscriminant`, to rounding,
of every labelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import config_context

from lmri.decode.estimator import COMPONENTS, SHRINKAGES, log_odds, masked_space
from lmri.decode.folds import Fold

ROUNDING = 1e-10
"""Share of the variance below which a covariance, or a variance, is none."""


class Discriminants:
    """Linear discriminants of the same training trials under many labellings.

    Where all trials have a label, the covariance within classes of their principal components is a
    diagonal less one term for each class, and is inverted by that (Woodbury): in ``n_classes``
    dimensions instead of ``n_components``.

    Parameters
    ----------
    points : ndarray of shape (n_trials, n_components)
        Training trials in their principal components.
    labels : ndarray of shape (n_labellings, n_trials), int64
        Labels; -1 where a trial has none.
    n_classes : int
        Number of classes.

    Attributes
    ----------
    means : ndarray of shape (n_labellings, n_classes, n_components)
        Of the classes; 0 for one without a trial.
    counts : ndarray of shape (n_labellings, n_classes)
        Their trials.
    """

    def __init__(self, points: np.ndarray, labels: np.ndarray, n_classes: int) -> None:
        width = points.shape[1]
        member = labels[:, None, :] == np.arange(n_classes)[:, None]  # (labellings, classes, n)
        self.counts = member.sum(axis=2)
        sums = member.reshape(-1, len(points)).astype(np.float64) @ points
        sums = sums.reshape(len(labels), n_classes, width)
        self.means = sums / np.maximum(self.counts, 1)[..., None]
        self._trials = np.maximum(self.counts.sum(axis=1), 1).astype(np.float64)
        total = _scatters(points, labels)  # (labellings or 1, components, components)
        between = (self.counts[..., None] * self.means**2).sum(axis=(1, 2))
        trace = (np.trace(total, axis1=1, axis2=2) - between) / (self._trials * width)
        # Without any variance within classes every shrinkage is as good.
        self._scale = np.where(trace > ROUNDING, trace, 1.0)
        self._total = total
        spread = np.diagonal(total[0])
        is_diagonal = np.abs(total[0] - np.diag(spread)).max() <= ROUNDING * spread.max()
        self._spread = spread if len(total) == 1 and is_diagonal else None

    def rules(self, shrinkage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights and offsets of the classes.

        Parameters
        ----------
        shrinkage : ndarray of shape (n_labellings,)
            Shrinkage of each labelling.

        Returns
        -------
        weights : ndarray of shape (n_labellings, n_components, n_classes)
            Of the points.
        offsets : ndarray of shape (n_labellings, n_classes)
            Added to their product; -inf of a class without a trial.
        """
        share = np.asarray(shrinkage, dtype=np.float64)
        solve = self._solved if self._spread is None else self._solved_diagonal
        weights = solve((1 - share) / self._trials, share * self._scale)
        offsets = -0.5 * np.einsum("pki,pki->pk", self.means, weights)
        return weights.transpose(0, 2, 1), np.where(self.counts > 0, offsets, -np.inf)

    def _solved(self, kept: np.ndarray, added: np.ndarray) -> np.ndarray:
        """Means over (kept · scatter within + added · identity): (labellings, classes, d)."""
        weighted = self.counts[..., None] * self.means
        within = self._total - np.matmul(weighted.transpose(0, 2, 1), self.means)
        pulled = kept[:, None, None] * within
        diagonal = np.arange(pulled.shape[1])
        pulled[:, diagonal, diagonal] += added[:, None]
        return np.linalg.solve(pulled, self.means.transpose(0, 2, 1)).transpose(0, 2, 1)

    def _solved_diagonal(self, kept: np.ndarray, added: np.ndarray) -> np.ndarray:
        spread = (kept[:, None] * self._spread + added[:, None])[:, None, :]
        taken = np.sqrt(kept[:, None] * self.counts)[..., None] * self.means
        plain, scaled = self.means / spread, taken / spread
        inner = np.eye(self.means.shape[1]) - np.matmul(taken, scaled.transpose(0, 2, 1))
        cross = np.matmul(self.means, scaled.transpose(0, 2, 1))
        return plain + np.matmul(cross, np.linalg.solve(inner, scaled))


@dataclass(frozen=True)
class HeldOut:
    """What decoders say of the trials that they were not trained on.

    Attributes
    ----------
    odds : ndarray of shape (n_labellings, n_trials, n_classes), float64
        Log odds of every class; NaN of a trial that no fold holds out.
    fold : ndarray of shape (n_trials,), int64
        The fold of each trial, -1 without one.
    """

    odds: np.ndarray
    fold: np.ndarray


def decode_held_out(
    X: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[Fold],
    n_classes: int,
    *,
    mask: np.ndarray | None = None,
    components: int = COMPONENTS,
    shrinkages: Sequence[float] = SHRINKAGES,
) -> HeldOut:
    """Train on every fold and judge what it holds out; the shrinkage is chosen within the fold.

    Parameters
    ----------
    X : ndarray of shape (n_trials, n_features)
        Activity; trials with NaN have none and are left out.
    labels : ndarray of shape (n_labellings, n_trials), int64
        Labellings, see :func:`lmri.decode.folds.exchanged_labels`.
    folds : sequence of Fold
        The folds; without inner ones the middle shrinkage is used.
    n_classes : int
        Number of classes.
    mask : ndarray of shape (n_features,), bool, optional
        Units that are used.
    components : int
        Principal components, at most.
    shrinkages : sequence of float
        What is chosen from, by balanced accuracy over the inner folds, for every labelling.

    Returns
    -------
    HeldOut
        Log odds of held-out trials.

    Raises
    ------
    EvidenceError
        If no unit varies.
    """
    present = np.isfinite(X).all(axis=1)
    odds = np.full((*labels.shape, n_classes), np.nan)
    fold_of = np.full(len(X), -1, dtype=np.int64)
    # Values are finite by now; checking them at every step would take a third of the time.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for number, whole in enumerate(folds):
            fold = whole.among(present)
            if not len(fold.test) or len(fold.train) < 2:
                continue
            chosen = _chosen(X, labels, fold, n_classes, mask, components, shrinkages)
            space = masked_space(X[fold.train], mask, components)
            made = Discriminants(space.transform(X[fold.train]), labels[:, fold.train], n_classes)
            odds[:, fold.test] = odds_of(space.transform(X[fold.test]), *made.rules(chosen))
            fold_of[fold.test] = number
    return HeldOut(odds, fold_of)


def odds_of(points: np.ndarray, weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Log odds of points (n, d) by rules of many labellings: (labellings, n, classes)."""
    scores = np.matmul(points, weights) + offsets[:, None, :]
    if scores.shape[-1] == 2:
        # Not by log_odds: this is nine tenths of what is computed, and a difference is enough.
        difference = scores[..., 1] - scores[..., 0]
        return np.stack([-difference, difference], axis=-1)
    return log_odds(scores)


def _chosen(
    X: np.ndarray,
    labels: np.ndarray,
    fold: Fold,
    n_classes: int,
    mask: np.ndarray | None,
    components: int,
    shrinkages: Sequence[float],
) -> np.ndarray:
    """Shrinkage of every labelling, by what its inner folds hold out."""
    if not fold.inner or len(shrinkages) == 1:
        return np.full(len(labels), shrinkages[len(shrinkages) // 2])
    right = np.zeros((len(shrinkages), len(labels), n_classes))
    totals = np.zeros((len(labels), n_classes))
    for train, test in fold.inner:
        if not len(test) or len(train) < 2:
            continue
        space = masked_space(X[train], mask, components)
        made = Discriminants(space.transform(X[train]), labels[:, train], n_classes)
        points, truth = space.transform(X[test]), labels[:, test]
        members = truth[..., None] == np.arange(n_classes)  # (labellings, n, classes)
        totals += members.sum(axis=1)
        for number, shrinkage in enumerate(shrinkages):
            weights, offsets = made.rules(np.full(len(labels), shrinkage))
            said = (np.matmul(points, weights) + offsets[:, None, :]).argmax(axis=-1)
            right[number] += (members & (said == truth)[..., None]).sum(axis=1)
    # A class that no inner fold holds out adds 0 to all of them alike.
    accuracy = (right / np.maximum(totals, 1)).sum(axis=2)
    return np.asarray(shrinkages)[accuracy.argmax(axis=0)]


def _scatters(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sums of squares about 0 of the labelled trials: (labellings, d, d), or (1, d, d)."""
    known = labels >= 0
    if known.all():
        return (points.T @ points)[None]
    return np.stack([points[own].T @ points[own] for own in known])
