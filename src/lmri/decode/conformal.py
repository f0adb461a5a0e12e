"""Split-conformal sets: all classes that cannot be excluded, at a rate of error fixed beforehand.

A set with one class is an answer; an empty one, or one of several classes, is an abstention, which
says neither. The true class is in the set with a probability of at least 1 - alpha, if the carriers
that sets are calibrated on and those they are made for are exchangeable. Trials of one carrier are
not independent, so that a carrier counts once, however many trials it has (Lee, Barber and Willett
2023, arXiv:2306.06342). With crossed carriers the sets share none of either with what they are
calibrated on, and the carrier with the fewest values counts; the guarantee is then not proven.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import betabinom

LEVEL = 0.95


def nonconformity(scores: np.ndarray) -> np.ndarray:
    """How little trials look like each class.

    Parameters
    ----------
    scores : ndarray of shape (n, n_classes)
        Scores, higher for a likelier class.

    Returns
    -------
    ndarray of shape (n, n_classes), float64
        The best score of another class minus that of the class.
    """
    values = np.empty_like(scores)
    for number in range(scores.shape[1]):
        others = np.delete(scores, number, axis=1).max(axis=1)
        values[:, number] = others - scores[:, number]
    return values


def conformal_p(calibration: np.ndarray, carriers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Compare trials with the calibration trials.

    Parameters
    ----------
    calibration : ndarray of shape (n,)
        Nonconformity of calibration trials with their own class.
    carriers : ndarray of shape (n,)
        Their carriers.
    values : ndarray of any shape
        Nonconformity of other trials with classes.

    Returns
    -------
    ndarray, float64
        ``(1 + Σ_carriers share of its trials at least as strange) / (1 + carriers)``.
    """
    numbers, names = np.unique(carriers, return_inverse=True)
    weight = 1 / np.bincount(names)[names]
    order = np.argsort(calibration)
    # Weight of the calibration trials from each place of the sorted ones on.
    tail = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
    place = np.searchsorted(calibration[order], values, side="left")
    return (1 + tail[place]) / (1 + len(numbers))


def least_carriers(alpha: float) -> int:
    """Carriers without which no class is ever excluded."""
    return math.ceil(1 / alpha - 1e-9) - 1


def expected_coverage(calibrated: int, judged: int, alpha: float) -> tuple[float, float]:
    """Range that an observed coverage falls into, 19 times of 20, when all is as assumed.

    Parameters
    ----------
    calibrated, judged : int
        Carriers that the sets are calibrated on, and those they are made for, taken as one trial
        each.
    alpha : float
        Largest share of misses.

    Returns
    -------
    low, high : float
        Of a beta-binomial distribution: coverage differs between calibrations.
    """
    misses = math.floor(alpha * (calibrated + 1) + 1e-9)
    if misses == 0:
        return 1.0, 1.0
    spread = betabinom(judged, calibrated + 1 - misses, misses)
    tail = (1 - LEVEL) / 2
    return float(spread.ppf(tail) / judged), float(spread.ppf(1 - tail) / judged)
