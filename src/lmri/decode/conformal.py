"""Split-conformal sets: all classes that cannot be excluded, at a rate of error fixed beforehand.

A set with one class is an answer; an empty one, or one of several classes, is an abstention, which
says neither. The true class is in the set with a probability of at least 1 - alpha, if the trial
and those it is compared with are exchangeable. Trials that share a carrier are not, so that

- with one carrier, a carrier counts once, however many trials it has: the average over its trials
  is taken, which keeps the guarantee (Lee, Barber and Willett 2023, arXiv:2306.06342);
- with crossed carriers (places and years) a trial is compared with a *matching*: trials of which no
  two have a place or a year in common, nor one with the trial itself (:func:`matching`).

**Condition.** Places may be permuted among themselves and years among themselves without changing
the distribution of the scores (the array of scores is separately exchangeable). Scores along a
matching are then exchangeable, whatever places and years add to them, and the p-value is that of
independent trials; drawing one matching at random is the subsampling of Dunn, Wasserman and Ramdas
(2022, arXiv:1809.07441). Here the condition holds by design: decoders are trained on other places
and years, and which of those that they were not trained on is judged was drawn by the seed, evenly
in each class (but for a remainder of one carrier a class).

An average over all trials of the other places and years, as for one carrier, has no such guarantee:
like any average of p-values it may miss up to 2 alpha (Vovk and Wang 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
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


def components(carriers: Sequence[np.ndarray]) -> np.ndarray:
    """Number the parts of a grid that have no carrier in common.

    Splits of a study are such parts: no place of one was asked about with a year of another.

    Parameters
    ----------
    carriers : sequence of ndarray of shape (n,), int64
        Values of each carrier in every trial.

    Returns
    -------
    ndarray of shape (n,), int64
        Trials of one number are linked by shared carriers; all are of one with a single carrier.
    """
    n = len(carriers[0])
    if len(carriers) == 1:
        return np.zeros(n, dtype=np.int64)
    values = [np.unique(own, return_inverse=True)[1] for own in carriers]
    starts = n + np.cumsum([0, *(int(own.max(initial=-1)) + 1 for own in values)])
    nodes = np.concatenate([own + start for own, start in zip(values, starts, strict=False)])
    links = (np.ones(len(nodes)), (np.tile(np.arange(n), len(carriers)), nodes))
    return connected_components(coo_array(links, shape=(starts[-1], starts[-1])))[1][:n]


def matching(
    carriers: Sequence[np.ndarray], linked: np.ndarray, trial: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw trials to compare one with: no two share a carrier, and none with that one.

    The other values of each carrier are put in a random order, and trials of the first values of
    all carriers, of the second values and so on are taken. The draw looks at no score.

    Parameters
    ----------
    carriers : sequence of ndarray of shape (n,), int64
        Values of each carrier in every trial.
    linked : ndarray of shape (n,), int64
        See :func:`components`; a combination that was never asked is in no matching, so that those
        of other parts are left aside.
    trial : int
        Place of the trial that is judged.
    rng : Generator
        Of the draw; nothing is drawn with one carrier, of which all other values are taken.

    Returns
    -------
    ndarray of shape (n,), int64
        Place in the matching, -1 for trials that are not in it. Several trials of one combination
        have one place.
    """
    ranks = []
    for own in carriers:
        others = np.unique(own[(linked == linked[trial]) & (own != own[trial])])
        order = rng.permutation(len(others)) if len(carriers) > 1 else np.arange(len(others))
        rank = np.full(int(own.max()) + 1, -1)
        rank[others] = order
        ranks.append(np.where(linked == linked[trial], rank[own], -1))
    same = np.all([own == ranks[0] for own in ranks], axis=0)
    return np.where(same, ranks[0], -1)


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
