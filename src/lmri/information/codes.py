"""Neural codes: which units are on, and how well the pattern alone tells classes apart.

A state's code is one bit for each unit, ``activation > 0``. He et al. 2021 (arXiv:2101.05490) ask
how many inputs share a code (redundancy) and how well codes categorise: by k-means, by their
nearest neighbours, by logistic regression. With wide layers every input has a code of its own, as
any wide enough layer gives it, trained or not: read a redundancy of 0 as saturation.

Here constant bits are found on the training trials alone, and clusters are matched with classes one
to one (the released code does neither, which flatters it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsOneClassifier
from sklearn.neighbors import KNeighborsClassifier

from lmri.errors import EvidenceError

NEIGHBOURS = 9

LEVEL = 0.05
"""Above this p an accuracy is no more than chance: flag ``failed_null``."""

SINGLE = 0.9
"""Share of inputs with a code of their own above which codes are flagged ``saturation``."""


@dataclass(frozen=True)
class Codes:
    """What the codes of a layer tell.

    Attributes
    ----------
    redundancy_train, redundancy : float
        ``(n - different codes) / n`` of training and test trials: 0 where all differ.
    bits : int
        Bits in use: those that vary over the training trials.
    distance : float
        Mean share of bits in which two test trials differ.
    within_between : float
        Mean distance within classes over that between them, of test trials; NaN where a class has
        one of them only.
    k_means_train, k_means : float
        Accuracy of clusters, found in training and in test trials by themselves and matched with
        the classes one to one.
    nearest, logistic : float
        Accuracy on test trials of the k nearest training codes (Hamming distance), and of logistic
        regressions of each pair of classes.
    chance : float
        Share of the largest class among the test trials.
    k_means_p, nearest_p, logistic_p : float
        ``(1 + as large) / (1 + draws)`` of these accuracies on test trials, clusters and
        predictions being what they are and the classes exchanged; NaN without exchanged classes.
    k_means_null, nearest_null, logistic_null : float
        Their means under the exchange.
    flags : tuple of str
        ``saturation`` (nearly all test trials have a code of their own), ``few_samples`` (fewer
        test trials than 10 for each class), ``failed_null`` (neither neighbours nor logistic
        regressions do better than with exchanged classes).
    """

    redundancy_train: float
    redundancy: float
    bits: int
    distance: float
    within_between: float
    k_means_train: float
    k_means: float
    nearest: float
    logistic: float
    chance: float
    k_means_p: float
    nearest_p: float
    logistic_p: float
    k_means_null: float
    nearest_null: float
    logistic_null: float
    flags: tuple[str, ...]


def neural_codes(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    threshold: float = 0.0,
    neighbours: int = NEIGHBOURS,
    exchanged: np.ndarray | None = None,
    seed: int = 0,
) -> Codes:
    """Describe the codes of a layer and how well they categorise.

    Parameters
    ----------
    train, test : ndarray of shape (n, units)
        Activity of the trials of two splits that share no carrier: gate pre-activations, or what a
        rectifier gives.
    train_labels, test_labels : ndarray of shape (n,)
        Their classes.
    threshold : float
        A unit is on above it.
    neighbours : int
        Neighbours that vote; at most as many as training trials.
    exchanged : ndarray of shape (draws, n), optional
        Exchanged classes of the test trials, for the null.
    seed : int
        Of the start of k-means.

    Returns
    -------
    Codes
        All measures.

    Raises
    ------
    EvidenceError
        If there are fewer than two classes, one has fewer than two training trials, a test trial
        is of another class, an activation is not finite, or no unit varies.
    """
    train, test = _finite(train), _finite(test)
    names, classes, counts = np.unique(train_labels, return_inverse=True, return_counts=True)
    truth = _classes(names, test_labels)
    _check(train, test, classes, truth, counts)
    train, test = train > threshold, test > threshold
    varying = train.any(axis=0) & ~train.all(axis=0)
    if not varying.any():
        raise EvidenceError(
            f"A neural code must have a unit that is above {threshold} in some training trials and "
            f"not in all. None of {train.shape[1]} is."
        )
    train, test = train[:, varying], test[:, varying]
    redundancy = code_redundancy(test)
    apart = _hamming(test, test)
    neighbours = min(neighbours, len(train))
    nearest = KNeighborsClassifier(neighbours, metric="hamming", algorithm="brute")
    logistic = OneVsOneClassifier(LogisticRegression(max_iter=1000))
    clusters = _clusters(test, len(names), seed)
    guesses = {
        "nearest": nearest.fit(train, classes).predict(test),
        "logistic": logistic.fit(train.astype(float), classes).predict(test.astype(float)),
    }
    judged = {
        "k_means": lambda own: _clustered(clusters, own),
        **{name: lambda own, g=guess: float((g == own).mean()) for name, guess in guesses.items()},
    }
    drawn = [] if exchanged is None else [_classes(names, own) for own in exchanged]
    found = {name: judge(truth) for name, judge in judged.items()}
    nulls = {name: np.array([judge(own) for own in drawn]) for name, judge in judged.items()}
    p = {name: _as_large(found[name], null) for name, null in nulls.items()}
    flags = (
        ("saturation", 1 - redundancy > SINGLE),
        ("few_samples", len(test) < 10 * len(names)),
        ("failed_null", min(p["nearest"], p["logistic"]) > LEVEL),
    )
    return Codes(
        redundancy_train=code_redundancy(train),
        redundancy=redundancy,
        bits=int(varying.sum()),
        distance=_mean_apart(apart, np.ones_like(apart, dtype=bool)),
        within_between=_within_between(apart, truth),
        k_means_train=_clustered(_clusters(train, len(names), seed), classes),
        **found,
        chance=float(np.bincount(truth).max() / len(truth)),
        **{f"{name}_p": value for name, value in p.items()},
        **{f"{name}_null": float(own.mean()) if drawn else np.nan for name, own in nulls.items()},
        flags=tuple(name for name, raised in flags if raised),
    )


def code_redundancy(codes: np.ndarray) -> float:
    """Share of inputs beyond one for each code: ``(n - different codes) / n``.

    Parameters
    ----------
    codes : ndarray of shape (n, bits), bool
        Codes.

    Returns
    -------
    float
        0 where all differ, ``1 - 1/n`` where all are the same.
    """
    packed = np.packbits(np.asarray(codes, dtype=bool), axis=1)
    return 1 - len(np.unique(packed, axis=0)) / len(packed)


def matched_accuracy(clusters: np.ndarray, classes: np.ndarray) -> float:
    """Accuracy of clusters under the best one-to-one matching with classes (Kuhn's algorithm).

    Parameters
    ----------
    clusters, classes : ndarray of shape (n,), int
        Numbers from 0.

    Returns
    -------
    float
        Share of members whose cluster is matched with their class.
    """
    table = np.zeros((max(clusters.max(), classes.max()) + 1,) * 2, dtype=np.int64)
    np.add.at(table, (clusters, classes), 1)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(clusters))


def _clusters(codes: np.ndarray, count: int, seed: int) -> np.ndarray | None:
    """Cluster of each code; None where there are fewer different ones than clusters."""
    if len(np.unique(codes, axis=0)) < count:
        return None
    return KMeans(count, n_init=10, random_state=seed).fit_predict(codes.astype(np.float64))


def _clustered(clusters: np.ndarray | None, classes: np.ndarray) -> float:
    return float("nan") if clusters is None else matched_accuracy(clusters, classes)


def _as_large(value: float, null: np.ndarray) -> float:
    """``(1 + as large) / (1 + draws)``; NaN without draws, or of no value."""
    if not len(null) or np.isnan(value):
        return np.nan
    return float((1 + (null >= value).sum()) / (1 + len(null)))


def _hamming(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Share of bits in which two codes differ: (n_first, n_second)."""
    first, second = first.astype(np.float32), second.astype(np.float32)
    both = first @ second.T
    return (first.sum(1)[:, None] + second.sum(1) - 2 * both) / first.shape[1]


def _mean_apart(apart: np.ndarray, pairs: np.ndarray) -> float:
    pairs = pairs & ~np.eye(len(apart), dtype=bool)
    return float(apart[pairs].mean(dtype=np.float64)) if pairs.any() else float("nan")


def _within_between(apart: np.ndarray, classes: np.ndarray) -> float:
    if np.bincount(classes)[np.unique(classes)].min() < 2:
        return float("nan")
    same = classes[:, None] == classes
    between = _mean_apart(apart, ~same)
    return _mean_apart(apart, same) / between if between > 0 else float("nan")


def _classes(names: np.ndarray, labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    unknown = sorted(set(labels.tolist()) - set(names.tolist()))
    if unknown:
        raise EvidenceError(
            f"Test trials must be of a class of the training trials. {unknown[0]!r} is not among "
            f"{', '.join(map(repr, names.tolist()))}."
        )
    return np.searchsorted(names, labels)


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
        raise EvidenceError(
            "Activity for neural codes must be finite, as (trials, units), with trials. Got the "
            f"shape {values.shape}{'' if np.isfinite(values).all() else ', some not finite'}."
        )
    return values


def _check(
    train: np.ndarray,
    test: np.ndarray,
    classes: np.ndarray,
    truth: np.ndarray,
    counts: np.ndarray,
) -> None:
    if len(counts) < 2 or counts.min() < 2 or len(classes) != len(train) or len(truth) != len(test):
        raise EvidenceError(
            f"Neural codes must have a label for each of {len(train)} training and {len(test)} "
            "test trials, and at least two classes of at least 2 training trials. Got "
            f"{len(classes)} and {len(truth)} labels, in classes of {', '.join(map(str, counts))}."
        )
    if train.shape[1] != test.shape[1]:
        raise EvidenceError(
            f"Training and test trials must be of the same units. Got {train.shape[1]} and "
            f"{test.shape[1]}."
        )
