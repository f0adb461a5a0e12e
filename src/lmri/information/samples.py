"""What an estimator may be given: checks of samples and labels, with one line for each refusal."""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np

from lmri.checks import check_range
from lmri.errors import EvidenceError

MOST_REPEATED = 0.1
"""Share of samples that equal another one, above which values are discrete."""


def as_samples(values: np.ndarray, owner: str, least: int = 2) -> np.ndarray:
    """Check samples of any distribution.

    Parameters
    ----------
    values : ndarray of shape (n,) or (n, d)
        The samples, of any real type.
    owner : str
        What they are, for messages.
    least : int
        Smallest number of samples.

    Returns
    -------
    ndarray of shape (n, d), float64
        The samples.

    Raises
    ------
    EvidenceError
        If they have another shape, are too few, or are not finite.
    """
    samples = np.asarray(values)
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2 or samples.shape[1] == 0:
        raise EvidenceError(
            f"The samples of {owner} must have the shape (n,) or (n, d). Got {np.shape(values)}."
        )
    if samples.dtype.kind not in "biuf":
        raise EvidenceError(
            f"The samples of {owner} must be real numbers. Got the type {samples.dtype}."
        )
    check_range(len(samples), "n", owner, least, error=EvidenceError)
    samples = samples.astype(np.float64)
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).any(axis=1).sum())
        raise EvidenceError(
            f"The samples of {owner} must be finite. Got {bad} of {len(samples)} that are not: "
            "leave them out."
        )
    return samples


def as_continuous(values: np.ndarray, owner: str, least: int = 2) -> np.ndarray:
    """Check samples of a continuous distribution.

    Parameters
    ----------
    values, owner, least
        As for :func:`as_samples`.

    Returns
    -------
    ndarray of shape (n, d), float64
        The samples.

    Raises
    ------
    EvidenceError
        As :func:`as_samples`, and if a dimension is constant, or more than
        :data:`MOST_REPEATED` of the samples repeat another one.
    """
    samples = as_samples(values, owner, least)
    still = np.flatnonzero(np.ptp(samples, axis=0) == 0)
    if len(still):
        raise EvidenceError(
            f"The samples of {owner} must vary. Dimension {still[0]} is {samples[0, still[0]]:g} "
            f"in all {len(samples)} ({len(still)} such dimensions): leave it out."
        )
    repeated = 1 - count_distinct(samples) / len(samples)
    if repeated > MOST_REPEATED:
        raise EvidenceError(
            f"The samples of {owner} must be continuous. {100 * repeated:.0f} % of {len(samples)} "
            "repeat another one: use an estimator for labels (ross, plug_in), leave repeats out, "
            "or add noise and say so."
        )
    return samples


def as_pair(
    x: np.ndarray, y: np.ndarray, owner: str, least: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Check two continuous variables of the same samples, see :func:`as_continuous`."""
    first = as_continuous(x, f"X of {owner}", least)
    second = as_continuous(y, f"Y of {owner}", least)
    same_length(len(first), len(second), owner)
    return first, second


def as_labels(labels: np.ndarray, owner: str, n: int | None = None, least: int = 1) -> np.ndarray:
    """Check labels and number them.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Labels of any type.
    owner : str
        What they are, for messages.
    n : int, optional
        How many there must be.
    least : int
        Smallest number of samples of a class.

    Returns
    -------
    ndarray of shape (n,), int64
        Numbers of the classes, from 0 in sorted order.

    Raises
    ------
    EvidenceError
        If they have another shape or number, or a class is too small.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0:
        raise EvidenceError(f"The labels of {owner} must have the shape (n,). Got {labels.shape}.")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise EvidenceError(f"The labels of {owner} must be finite. Got some that are not.")
    if n is not None:
        same_length(n, len(labels), owner)
    names, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if sizes.min() < least:
        small = int(sizes.argmin())
        raise EvidenceError(
            f"Each class of {owner} must have at least {least} samples. Class '{names[small]}' has "
            f"{sizes[small]}: leave it out or join it with another."
        )
    return codes.astype(np.int64)


def same_length(first: int, second: int, owner: str) -> None:
    """Raise unless two variables have the same number of samples."""
    if first != second:
        raise EvidenceError(
            f"Both variables of {owner} must have the same samples. Got {first} and {second}."
        )


def count_distinct(samples: np.ndarray) -> int:
    """Count different rows of samples, array of shape (n, d), by their hashes of 128 bits."""
    # One row at a time: sorting them would need room for the samples three times over.
    return len({blake2b((row + 0).tobytes(), digest_size=16).digest() for row in samples})


def symbols(rows: np.ndarray) -> np.ndarray:
    """Number the different rows of an array.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Numbers; 0 and -0 are the same.

    Returns
    -------
    ndarray of shape (n,), int64
        Equal numbers for equal rows, from 0 without a gap.
    """
    whole = np.ascontiguousarray(rows + 0)  # -0.0 + 0 is 0.0, whose bits differ
    bits = whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1])))[:, 0]
    return np.unique(bits, return_inverse=True)[1].astype(np.int64)


def entropy_of_counts(counts: np.ndarray) -> float:
    """Entropy ``-Σ p ln p`` of counts of any shape, in nats."""
    total = counts.sum()
    p = counts[counts > 0] / total
    return float(-(p * np.log(p)).sum())


def label_entropy(codes: np.ndarray) -> float:
    """Entropy of numbered labels, array of shape (n,), in nats; the plug-in estimate."""
    return entropy_of_counts(np.bincount(codes))


def root_mean_square(samples: np.ndarray) -> float:
    """Root of the mean square of a layer's activity about its mean: the unit of noise.

    The mean of each dimension is taken out, since noise hides differences between samples and not
    what they have in common.

    Parameters
    ----------
    samples : ndarray of shape (n, d)
        Activity.

    Returns
    -------
    float
        ``sqrt(mean((t - mean_samples(t))²))``.
    """
    return math.sqrt(float(np.mean((samples - samples.mean(axis=0)) ** 2)))
