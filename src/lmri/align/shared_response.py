"""Shared response model and Procrustes: one space for subjects whose units do not correspond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import orthogonal_procrustes

from lmri.checks import check_range
from lmri.errors import EvidenceError

MOST_ROUNDS = 200
CONVERGED = 1e-9
"""Change of the explained share at which rounds end."""


@dataclass(frozen=True)
class SharedResponse:
    """A shared space and how each subject is turned into it.

    Attributes
    ----------
    weights : tuple of ndarray of shape (n_units, k)
        Orthonormal columns W of each subject; X W is its activity in the shared space.
    means : tuple of ndarray of shape (n_units,)
        Mean activity of each over the trials of the fit.
    scales : tuple of float
        Factors that give all subjects one total variance in these trials.
    response : ndarray of shape (n_trials, k)
        Shared responses to the trials of the fit.
    explained : float
        Share of the variance of all subjects that the shared responses explain, on these trials.
    """

    weights: tuple[np.ndarray, ...]
    means: tuple[np.ndarray, ...]
    scales: tuple[float, ...]
    response: np.ndarray
    explained: float

    def transform(self, subject: int, values: np.ndarray) -> np.ndarray:
        """Turn activity of a subject into the shared space.

        Parameters
        ----------
        subject : int
            Its number in the fit.
        values : ndarray of shape (n_trials, n_units)
            Activity, of other trials too.

        Returns
        -------
        ndarray of shape (n_trials, k)
            Shared responses as this subject tells them.
        """
        centred = self.scales[subject] * (values - self.means[subject])
        return centred @ self.weights[subject]


def shared_response(subjects: Sequence[np.ndarray], k: int) -> SharedResponse:
    """Fit the shared response model: min Σ_i ||X_i - S W_i'||² with W_i'W_i = 1.

    Starting from the k directions of trials that all subjects together vary most in (so that there
    is nothing to draw), W_i = U V' of the singular vectors of X_i'S, and S is the mean of X_i W_i,
    in turns. Subjects are divided by the root of their total variance first: the one with the
    largest activity would else decide.

    Parameters
    ----------
    subjects : sequence of ndarray of shape (n_trials, n_units)
        Activity in the same trials, each with units of its own.
    k : int
        Dimensions of the shared space.

    Returns
    -------
    SharedResponse
        The fit.

    Raises
    ------
    EvidenceError
        If trials differ in number, a subject is constant, or k is more than the units of a subject
        or the trials less one.

    References
    ----------
    P.-H. Chen et al., A reduced-dimension fMRI shared response model, NIPS 2015.
    """
    if not subjects:
        raise EvidenceError("A shared response model must have 1 subject or more. Got none.")
    check_same_trials(subjects, "a shared response model")
    for own in subjects:
        check_dimensions(k, own, "a shared response model")
    means = tuple(own.mean(axis=0) for own in subjects)
    centred = [own - mean for own, mean in zip(subjects, means, strict=True)]
    norms = [float(np.linalg.norm(own)) for own in centred]
    scaled = [own / norm for own, norm in zip(centred, norms, strict=True)]
    response = _start(scaled, k)
    before = -np.inf
    for _ in range(MOST_ROUNDS):
        weights = [_orthonormal(own.T @ response) for own in scaled]
        response = np.mean([own @ w for own, w in zip(scaled, weights, strict=True)], axis=0)
        # ||X_i||² = 1: of the subjects' variance the shared response explains this share.
        explained = 1 - np.mean(
            [
                np.linalg.norm(own - response @ w.T) ** 2
                for own, w in zip(scaled, weights, strict=True)
            ]
        )
        if explained - before < CONVERGED:
            break
        before = explained
    size = float(np.sqrt(len(response)))  # the total variance of each subject becomes 1
    scales = tuple(size / norm for norm in norms)
    return SharedResponse(tuple(weights), means, scales, response * size, float(explained))


def procrustes(source: np.ndarray, target: np.ndarray, k: int) -> Rotation:
    """Rotate the leading components of one subject onto those of another.

    Q = U V' of the singular vectors of X'Y minimises ||X Q - Y||, where X and Y are the first k
    principal components of either, in trials both read.

    Parameters
    ----------
    source, target : ndarray of shape (n_trials, n_units)
        Activity.
    k : int
        Components.

    Returns
    -------
    Rotation
        Fitted on these trials.

    Raises
    ------
    EvidenceError
        As :func:`shared_response`.
    """
    check_same_trials((source, target), "Procrustes alignment")
    parts = [Components.of(own, k, "Procrustes alignment") for own in (source, target)]
    x, y = (own.transform(values) for own, values in zip(parts, (source, target), strict=True))
    rotation, _ = orthogonal_procrustes(x, y)
    return Rotation(parts[0], parts[1], rotation, float(np.vdot(x @ rotation, y) / np.vdot(x, x)))


@dataclass(frozen=True)
class Components:
    """Leading principal components of a subject.

    Attributes
    ----------
    mean : ndarray of shape (n_units,)
        Mean activity.
    axes : ndarray of shape (n_units, k)
        Orthonormal columns, by falling variance.
    """

    mean: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, k: int, owner: str = "principal components") -> Components:
        """Find the components of activity, array of shape (n_trials, n_units)."""
        check_dimensions(k, values, owner)
        mean = values.mean(axis=0)
        axes = np.linalg.svd(values - mean, full_matrices=False)[2][:k].T
        return cls(mean, axes)

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Coordinates of activity: array of shape (n_trials, k)."""
        return (values - self.mean) @ self.axes


@dataclass(frozen=True)
class Rotation:
    """A rotation, with a scale, of one subject's components onto another's.

    Attributes
    ----------
    source, target : Components
        Of both.
    rotation : ndarray of shape (k, k)
        Orthogonal.
    scale : float
        Factor that fits best.
    """

    source: Components
    target: Components
    rotation: np.ndarray
    scale: float

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Activity of the source in the components of the target: (n_trials, k)."""
        return self.scale * (self.source.transform(values) @ self.rotation)

    def explained(self, source: np.ndarray, target: np.ndarray) -> float:
        """Share of the variance of the target's components that the source explains.

        Parameters
        ----------
        source, target : ndarray of shape (n_trials, n_units)
            Activity in trials that were not fitted.

        Returns
        -------
        float
            R² over all components together; below 0 where their mean explains more.
        """
        y = self.target.transform(target)
        left = np.linalg.norm(y - self.transform(source)) ** 2
        return float(1 - left / np.linalg.norm(y - y.mean(axis=0)) ** 2)


def check_same_trials(subjects: Sequence[np.ndarray], owner: str) -> None:
    """Raise unless all subjects have the same number of trials.

    Parameters
    ----------
    subjects : sequence of ndarray of shape (n_trials, n_units)
        Activity.
    owner : str
        What they are for.

    Raises
    ------
    EvidenceError
        Naming the numbers.
    """
    counts = [len(own) for own in subjects]
    if len(set(counts)) > 1:
        raise EvidenceError(
            f"The subjects of {owner} must have read the same trials. Got {counts} of them: keep "
            "those that all have."
        )


def check_dimensions(k: int, values: np.ndarray, owner: str) -> None:
    """Raise unless activity has as many dimensions as asked for.

    Parameters
    ----------
    k : int
        Dimensions.
    values : ndarray of shape (n_trials, n_units)
        Activity.
    owner : str
        What they are for.

    Raises
    ------
    EvidenceError
        If k is less than 1 or more than the units, or than the trials less one, or if no unit
        varies.
    """
    trials, units = values.shape
    check_range(k, "dimensions", owner, 1, error=EvidenceError)
    if k > min(units, trials - 1):
        raise EvidenceError(
            f"The 'dimensions' of {owner} must be at most the units of a subject, and the trials "
            f"less one. Got {k} with {units} units and {trials} trials."
        )
    if not np.ptp(values, axis=0).any():
        raise EvidenceError(
            f"A subject of {owner} must have units that vary. All {units} are constant over "
            f"{trials} trials."
        )


def _start(subjects: Sequence[np.ndarray], k: int) -> np.ndarray:
    """Directions of trials in which all subjects together vary most: (n_trials, k)."""
    values, vectors = np.linalg.eigh(sum(own @ own.T for own in subjects))
    best = np.argsort(-values, kind="stable")[:k]
    return vectors[:, best] * np.sqrt(np.maximum(values[best], 0.0))


def _orthonormal(values: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(values, full_matrices=False)
    return left @ right
