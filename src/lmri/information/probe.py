"""Information that a probe can read: the one that saturation cannot inflate.

A linear classifier is trained on some samples and judged on others. What it adds to knowing how
frequent the classes are, in nats, is a lower bound on I(T;Y) in expectation, and below 0 where it
overfits. The same probe on control labels must give nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy.special import logsumexp
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.information.estimate import Estimate, Interval
from lmri.information.samples import (
    as_labels,
    as_samples,
    count_distinct,
    label_entropy,
)
from lmri.information.subsampling import CROSSED, deal_carriers

STRENGTH = 0.05
"""Inverse strength of the penalty, ``C`` of scikit-learn."""


@dataclass(frozen=True)
class Folds:
    """Which samples are held out together.

    Attributes
    ----------
    held_out : tuple of ndarray of int
        Rows of each fold; every sample is in one.
    trained_on : tuple of ndarray of int
        Rows that share no group with the fold: all others, or of crossed carriers fewer.
    """

    held_out: tuple[np.ndarray, ...]
    trained_on: tuple[np.ndarray, ...]


def group_folds(codes: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> Folds:
    """Divide samples into folds by group, with classes as even as they can be.

    Parameters
    ----------
    codes : ndarray of shape (n,), int64
        Numbered classes.
    groups : ndarray of shape (n,) or (n_carriers, n), int64
        Numbered groups. Of crossed carriers the values of each are dealt into at most
        :data:`lmri.information.subsampling.CROSSED` parts; a fold is a combination of parts, and
        trained on what shares a value of none of the carriers.
    folds : int
        Number of folds.
    seed : int
        Seed of the division.

    Returns
    -------
    Folds
        The folds.

    Raises
    ------
    EvidenceError
        If there are fewer groups than folds, or a class is in one fold only.
    """
    check_range(folds, "folds", "the probe", 2, error=EvidenceError)
    carriers = np.atleast_2d(groups)
    folds = folds if len(carriers) == 1 else min(folds, CROSSED)
    count = min(len(np.unique(own)) for own in carriers)
    if count < folds:
        raise EvidenceError(
            f"The probe must have at least as many groups as folds ({folds}). Got {count} groups: "
            "use fewer folds or record more."
        )
    if len(carriers) > 1:
        made = _crossed(codes, carriers, folds, seed)
    else:
        made = _grouped(codes, carriers[0], folds, seed)
    for held_out, trained_on in zip(made.held_out, made.trained_on, strict=True):
        missing = np.setdiff1d(codes[held_out], codes[trained_on])
        if len(missing):
            raise EvidenceError(
                f"Each class of the probe must be in at least two folds. Class number {missing[0]} "
                "is in one: it has too few groups. Use other groups, or leave it out."
            )
        if len(np.unique(codes[trained_on])) < 2:
            raise EvidenceError(
                "The probe must be trained on two classes at least. One fold leaves it one: use "
                "other groups, or record more."
            )
    return made


def _grouped(codes: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> Folds:
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    pairs = [pair for pair in splitter.split(codes[:, None], codes, groups) if len(pair[1])]
    return Folds(tuple(test for _, test in pairs), tuple(train for train, _ in pairs))


def _crossed(codes: np.ndarray, carriers: np.ndarray, folds: int, seed: int) -> Folds:
    parts = deal_carriers(list(carriers), codes, folds, seed)
    held_out, trained_on = [], []
    for combination in product(range(folds), repeat=len(parts)):
        same = parts == np.array(combination)[:, None]
        if same.all(axis=0).any():
            held_out.append(np.flatnonzero(same.all(axis=0)))
            trained_on.append(np.flatnonzero(~same.any(axis=0)))
    return Folds(tuple(held_out), tuple(trained_on))


def probe_information(
    t: np.ndarray,
    labels: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    folds: int = 5,
    strength: float = STRENGTH,
    seed: int = 0,
) -> Estimate:
    """Held-out information of a linear probe, ``I_V = H_V(Y) - CE``.

    H_V(Y) is the held-out cross-entropy of the frequencies of the classes, CE that of a logistic
    regression on standardised activity (:func:`standardised`).

    Parameters
    ----------
    t : ndarray of shape (n,) or (n, d)
        Activity.
    labels : ndarray of shape (n,)
        Classes.
    groups : ndarray of shape (n,) or (n_carriers, n), optional
        Groups (documents, trials, carriers) that are never on both sides, see :func:`group_folds`;
        by default each sample.
    folds : int
        Number of folds.
    strength : float
        Inverse strength of the penalty.
    seed : int
        Seed of the folds.

    Returns
    -------
    Estimate
        In nats, of either sign, with an interval over groups. :func:`lmri.information.nulls` give
        its selectivity: the same with exchanged labels, which must be at most 0.

    Raises
    ------
    EvidenceError
        If a class has one sample or is in one group, or there are fewer groups than folds.

    Notes
    -----
    Xu et al. 2020 (arXiv:2002.10689); control tasks: Hewitt and Liang 2019 (arXiv:1909.03368).
    """
    t = as_samples(t, "T of the probe", least=4)
    codes = as_labels(labels, "the probe", len(t), least=2)
    if codes.max() == 0:
        raise EvidenceError("The labels of the probe must have at least two classes. Got one.")
    own = np.arange(len(t))[None] if groups is None else np.atleast_2d(groups)
    own = np.stack([as_labels(each, "groups of the probe", len(t)) for each in own])
    gains = held_out_gains(standardised(t), codes, group_folds(codes, own, folds, seed), strength)
    return Estimate(
        value=float(gains.mean()),
        quantity="I(T;Y)",
        estimator="probe",
        family="probe",
        channel={"probe": "logistic regression", "strength": strength, "folds": folds},
        n=len(t),
        n_distinct=count_distinct(t),
        d=(t.shape[1], 0),
        ceiling=label_entropy(codes),
        interval=_group_interval(gains, own),
    )


def standardised(t: np.ndarray) -> np.ndarray:
    """Bring every unit to mean 0 and variance 1, in no more coordinates than there are samples.

    A penalty on the squared weights does not change under a rotation, so that the n coordinates in
    which n samples lie give the probe of all d units, to rounding. No label is used: mean and
    variance are those of all samples.

    Parameters
    ----------
    t : ndarray of shape (n, d), float64
        Activity.

    Returns
    -------
    ndarray of shape (n, min(n, d)), float64
        Standardised activity; units that do not vary are 0.
    """
    scale = t.std(axis=0)
    scaled = (t - t.mean(axis=0)) / np.where(scale > 0, scale, 1)
    if scaled.shape[1] <= len(scaled):
        return scaled
    left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    return left * sizes


def held_out_gains(
    t: np.ndarray, codes: np.ndarray, folds: Folds, strength: float = STRENGTH
) -> np.ndarray:
    """What the probe adds to the log probability of each sample's class when it was held out.

    Parameters
    ----------
    t : ndarray of shape (n, d)
        Activity, :func:`standardised`.
    codes : ndarray of shape (n,), int64
        Numbered classes.
    folds : Folds
        What is held out.
    strength : float
        Inverse strength of the penalty.

    Returns
    -------
    ndarray of shape (n,), float64
        ``ln p_probe(y) - ln p_frequencies(y)``, in nats.
    """
    gains = np.empty(len(t))
    classes = codes.max() + 1
    for rows, train in zip(folds.held_out, folds.trained_on, strict=True):
        probe = LogisticRegression(C=strength, max_iter=2000).fit(t[train], codes[train])
        logits = probe.decision_function(t[rows])
        if logits.ndim == 1:
            logits = np.stack([np.zeros_like(logits), logits], axis=1)
        logp = np.full((len(rows), classes), -math.inf)
        logp[:, probe.classes_] = logits - logsumexp(logits, axis=1, keepdims=True)
        counts = np.bincount(codes[train], minlength=classes)
        frequencies = np.log(counts / counts.sum(), where=counts > 0, out=np.full(classes, -np.inf))
        gains[rows] = logp[np.arange(len(rows)), codes[rows]] - frequencies[codes[rows]]
    return gains


def _group_interval(gains: np.ndarray, carriers: np.ndarray) -> Interval:
    """Interval of the mean over groups, each of which is one observation of a ratio.

    Of crossed carriers the variances of the means over each are added, and those over their
    combinations taken out again (Cameron, Gelbach and Miller 2011).
    """
    mean, each, variance = float(gains.mean()), [], 0.0
    for size in range(1, len(carriers) + 1):
        for chosen in combinations(carriers, size):
            groups = np.unique(np.stack(chosen), axis=1, return_inverse=True)[1].ravel()
            own = _clustered_variance(gains, mean, groups)
            variance += own if size % 2 else -own
            each += [own] if size == 1 else []
    sd = math.sqrt(max([variance, *each]))
    counts = [int(own.max()) + 1 for own in carriers]
    freedom = max(min(counts) - 1, 1)
    half = float(student.ppf(0.975, freedom)) * sd
    method = f"means of {' x '.join(map(str, counts))} groups"
    return Interval(mean - half, mean + half, sd, freedom, 0.95, method)


def _clustered_variance(gains: np.ndarray, mean: float, groups: np.ndarray) -> float:
    sizes, sums = np.bincount(groups), np.bincount(groups, weights=gains)
    count = len(sizes)
    return float(((sums - mean * sizes) ** 2).sum()) * count / max(count - 1, 1) / len(gains) ** 2
