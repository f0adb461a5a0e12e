"""Multiple instances: one token of a trial is enough, and nobody says which.

A bag holds the tokens of a trial. In a bag of the class at least one token is expected to show it,
in other bags none. The classifier is in two stages, as sAwMIL (Savcisens and Eliassi-Rad 2025,
arXiv:2506.23921) and sbMIL before it (Bunescu and Mooney 2007, ICML 24):

1. sMIL: tokens of other bags have the margin -1; the mean of a bag of m tokens the margin
   (2 - m) / m, which one positive token among m would give.
2. The tokens of positive bags that score highest, and lie where the label is expected, are taken as
   positive, all others as negative, and a support vector machine is trained on tokens.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import LinearSVC

from lmri.decode.estimator import COMPONENTS, masked_space
from lmri.errors import EvidenceError

LEAST_CHOSEN = 0.05
"""Share of the tokens of positive bags below which it is ignored where a label is expected."""


class BagClassifier(ClassifierMixin, BaseEstimator):
    """Tell bags with a positive token from bags without.

    Parameters
    ----------
    share : float
        Tokens of positive bags that are expected to be positive.
    informative : int
        Last tokens of a bag, where the label is expected.
    C : float
        Inverse strength of the penalty on the weights.
    components : int
        Principal components of the tokens, at most.

    Attributes
    ----------
    space_ : Pipeline
        Scaling and components of the training tokens.
    first_ : tuple of (ndarray of shape (n_components,), float)
        Weights and offset of the first stage.
    svm_ : LinearSVC
        The second stage.
    """

    def __init__(
        self,
        share: float = 0.25,
        informative: int = 2,
        C: float = 0.1,
        components: int = COMPONENTS,
    ) -> None:
        self.share = share
        self.informative = informative
        self.C = C
        self.components = components

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit to bags.

        Parameters
        ----------
        X : ndarray of shape (n_bags, n_tokens, n_units)
            Activity, the last token last; NaN where a bag has fewer.
        y : ndarray of shape (n_bags,), bool
            Which bags are positive.

        Returns
        -------
        BagClassifier
            Itself.

        Raises
        ------
        EvidenceError
            If no bag, or every bag, is positive.
        """
        positive = np.asarray(y, dtype=bool)
        if positive.all() or not positive.any():
            raise EvidenceError(
                f"A classifier of bags needs bags with and without the class. Got "
                f"{int(positive.sum())} of {len(positive)} with it."
            )
        self.classes_ = np.array([False, True])
        known = np.isfinite(X).all(axis=2)
        self.space_ = masked_space(X[known], None, self.components)
        points = np.zeros((*known.shape, self.space_[-1].n_components_))
        points[known] = self.space_.transform(X[known])
        self.first_ = self._first_stage(points, known, positive)
        chosen = self._chosen(points, known, positive)
        self.svm_ = LinearSVC(C=self.C, class_weight="balanced", random_state=0)
        self.svm_.fit(points[known], chosen[known])
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Score of each bag, array of shape (n_bags,): that of its most positive token.

        Parameters
        ----------
        X : ndarray of shape (n_bags, n_tokens, n_units)
            Activity, as for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_bags,), float64
            Above 0 for a positive bag; NaN of a bag without tokens.
        """
        known = np.isfinite(X).all(axis=2)
        scores = np.full(known.shape, -np.inf)
        if known.any():
            scores[known] = self.svm_.decision_function(self.space_.transform(X[known]))
        return np.where(known.any(axis=1), scores.max(axis=1), np.nan)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict which bags, array of shape (n_bags, n_tokens, n_units), are positive."""
        return self.decision_function(X) > 0

    def _first_stage(
        self, points: np.ndarray, known: np.ndarray, positive: np.ndarray
    ) -> tuple[np.ndarray, float]:
        sizes = known[positive].sum(axis=1)
        means = points[positive][sizes > 0].sum(axis=1) / sizes[sizes > 0, None]
        tokens = points[~positive][known[~positive]]
        rows = np.concatenate([tokens, means])
        side = np.concatenate([-np.ones(len(tokens)), np.ones(len(means))])
        sizes = sizes[sizes > 0]
        margin = np.concatenate([np.ones(len(tokens)), (2 - sizes) / sizes])
        return separating(rows, side, margin, self.C)

    def _chosen(self, points: np.ndarray, known: np.ndarray, positive: np.ndarray) -> np.ndarray:
        """Tokens that the second stage takes as positive: (n_bags, n_tokens), bool."""
        weights, offset = self.first_
        candidates = known & positive[:, None]
        scores = np.where(candidates, points @ weights + offset, -np.inf)
        # At least as many as there are positive bags.
        count = int(max(positive.sum(), round(self.share * candidates.sum())))
        count = min(count, int(candidates.sum()))
        best = scores >= np.partition(scores[candidates], -count)[-count]
        expected = best.copy()
        expected[:, : -self.informative] = False
        if expected.sum() < LEAST_CHOSEN * candidates.sum():
            return best & candidates
        return expected & candidates


def separating(
    rows: np.ndarray, side: np.ndarray, margin: np.ndarray, C: float
) -> tuple[np.ndarray, float]:
    """Find a separating hyperplane with a margin of its own for every row.

    Minimises ``|w|² / 2 + C Σ c_i max(0, margin_i - side_i (w·x_i + b))²``, where ``c_i`` weighs
    both sides alike. With margins of 1 that is a linear support vector machine with squared hinge.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Points.
    side : ndarray of shape (n,), float64
        -1 or 1.
    margin : ndarray of shape (n,), float64
        What ``side (w·x + b)`` should be at least.
    C : float
        Inverse strength of the penalty.

    Returns
    -------
    weights : ndarray of shape (d,), float64
        The weights w.
    offset : float
        The offset b, which is not penalised.
    """
    weight = np.where(side > 0, 1 / (side > 0).sum(), 1 / (side < 0).sum()) * len(side) / 2

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = values[:-1], values[-1]
        short = np.maximum(0, margin - side * (rows @ w + b))
        pull = -2 * C * weight * short * side
        value = 0.5 * w @ w + C * (weight * short**2).sum()
        return value, np.append(w + rows.T @ pull, pull.sum())

    found = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B")
    return found.x[:-1], float(found.x[-1])
