"""One decoder for all analyses: a linear discriminant in the principal components of some units."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from lmri.errors import EvidenceError

COMPONENTS = 32
"""Principal components, at most: what is estimated must be fewer than the trials it is of."""

SHRINKAGES = (0.9, 0.5, 0.1)
"""What a nested search chooses from; among equals the first, which trusts the data least."""

UNLABELLED = -1
"""Label of a trial that shapes the components and no class, as elsewhere in scikit-learn."""


class MaskedDiscriminant(ClassifierMixin, BaseEstimator):
    """Decode a class from some of the units: scaling, principal components, linear discriminant.

    All three are fitted on the training trials alone. Classes count alike however frequent they
    are: the covariance is pooled over all trials, the decision has equal priors.

    Parameters
    ----------
    mask : ndarray of shape (n_features,), bool, optional
        Units that are used; all by default.
    components : int
        Principal components, at most; never more than the training trials less one, or the units.
    shrinkage : float
        Of the covariance, towards a multiple of the identity: 0 is the plain discriminant, 1 the
        nearest mean.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, without :data:`UNLABELLED`.
    space_ : Pipeline
        Scaling and components.
    discriminant_ : LinearDiscriminantAnalysis
        In this space.
    """

    def __init__(
        self,
        mask: np.ndarray | None = None,
        components: int = COMPONENTS,
        shrinkage: float = 0.5,
    ) -> None:
        self.mask = mask
        self.components = components
        self.shrinkage = shrinkage

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit to trials.

        Parameters
        ----------
        X : ndarray of shape (n_trials, n_features)
            Activity.
        y : ndarray of shape (n_trials,)
            Labels; trials with :data:`UNLABELLED` shape the components only.

        Returns
        -------
        MaskedDiscriminant
            Itself.

        Raises
        ------
        EvidenceError
            If there are fewer than two classes, or no unit of the mask varies.
        """
        y = np.asarray(y)
        labelled = y != UNLABELLED
        self.classes_ = np.unique(y[labelled])
        self.n_features_in_ = X.shape[1]
        if len(self.classes_) < 2:
            raise EvidenceError(
                f"A decoder needs trials of 2 classes to train on. Got {len(self.classes_)} in "
                f"{int(labelled.sum())} trials."
            )
        self.space_ = masked_space(X, self.mask, self.components)
        points = self.space_.transform(X)
        self.discriminant_ = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=self.shrinkage)
        self.discriminant_.fit(points[labelled], y[labelled])
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Log odds of each class against the others.

        Parameters
        ----------
        X : ndarray of shape (n_trials, n_features)
            Activity.

        Returns
        -------
        ndarray of shape (n_trials,) or (n_trials, n_classes)
            Of two classes the log odds of the second.
        """
        linear = self.discriminant_
        scores = self.space_.transform(X) @ linear.coef_.T + linear.intercept_
        priors = np.log(linear.priors_)
        if len(self.classes_) == 2:
            return scores[:, 0] - (priors[1] - priors[0])
        return log_odds(scores - priors)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict the class of trials, array of shape (n_trials, n_features)."""
        odds = self.decision_function(X)
        if odds.ndim == 1:
            return self.classes_[(odds > 0).astype(int)]
        return self.classes_[odds.argmax(axis=1)]


def masked_space(X: np.ndarray, mask: np.ndarray | None, components: int) -> Pipeline:
    """Fit scaling and principal components of some units.

    Parameters
    ----------
    X : ndarray of shape (n_trials, n_features)
        Training trials.
    mask : ndarray of shape (n_features,), bool, or None
        Units that are used.
    components : int
        Components, at most.

    Returns
    -------
    Pipeline
        Fitted; units that do not vary are left out.

    Raises
    ------
    EvidenceError
        If no unit varies.
    """
    used = np.ptp(X, axis=0) > 0
    if mask is not None:
        used &= mask
    if not used.any():
        count = X.shape[1] if mask is None else int(np.sum(mask))
        raise EvidenceError(
            f"A decoder needs at least 1 unit that varies over its training trials. All {count} "
            f"units are constant over {len(X)} trials."
        )
    kept = np.flatnonzero(used)
    most = min(components, len(kept), len(X) - 1)
    # Exact solvers, whichever is smaller: an approximate one would make folds depend on a seed.
    solver = "covariance_eigh" if len(kept) <= len(X) else "full"
    return make_pipeline(
        FunctionTransformer(_columns, kw_args={"kept": kept}),
        StandardScaler(),
        PCA(most, svd_solver=solver),
    ).fit(X)


def log_odds(scores: np.ndarray) -> np.ndarray:
    """Log odds of each class against all others, from joint log scores (..., n_classes)."""
    odds = np.empty_like(scores)
    for number in range(scores.shape[-1]):
        others = np.delete(scores, number, axis=-1)
        odds[..., number] = scores[..., number] - logsumexp(others, axis=-1)
    return odds


def _columns(X: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return X[:, kept]
