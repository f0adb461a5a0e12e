"""Intervals over carriers of what is decoded."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmri.decode.labellings import HeldOut
from lmri.decode.questions import Labelled
from lmri.decode.scoring import ROUNDING
from lmri.score import Resampler

RESAMPLES = 1000
LEVEL = 0.95
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
"""Ends of an interval."""


def carrier_table(labelled: Labelled, rows: np.ndarray) -> pd.DataFrame:
    """Carriers of some trials, as :class:`lmri.score.Resampler` takes them.

    Parameters
    ----------
    labelled : Labelled
        Trials and what carries their labels.
    rows : ndarray
        Places among them, or a mask.

    Returns
    -------
    DataFrame
        One column a carrier, one row a trial.
    """
    return pd.DataFrame({own.name: own.values[rows] for own in labelled.carriers})


def accuracy_interval(held: HeldOut, labelled: Labelled, seed: int) -> tuple[float, float]:
    """Interval of the balanced accuracy over carriers.

    Parameters
    ----------
    held : HeldOut
        Log odds of held-out trials.
    labelled : Labelled
        Trials and labels.
    seed : int
        Of the resamples.

    Returns
    -------
    low, high : float
        Percentiles of the cluster bootstrap (of crossed carriers, the pigeonhole bootstrap). The
        decoders are not trained again. Where they have no width (all trials are told
        right), what :func:`unseen_bound` allows.
    """
    return _ends(accuracy_draws(held, labelled, seed), _unseen(labelled, held), 0.0)


def difference_interval(
    first: HeldOut, second: HeldOut, labelled: Labelled, seed: int
) -> tuple[float, float]:
    """Interval over carriers of how much better the first decodes the same trials."""
    drawn = [accuracy_draws(held, labelled, seed) for held in (first, second)]
    bound = max(_unseen(labelled, held) for held in (first, second))
    return _ends(drawn[0] - drawn[1], bound, -1.0)


def unseen_bound(carriers: pd.DataFrame) -> float:
    """How far from what all trials show alike new carriers may be.

    Carriers that all do the same have no bootstrap interval, yet others may do otherwise. The rule
    is that of :meth:`lmri.score.Resampler.effect` (Clopper-Pearson, no event), for which a carrier
    counts once, since carriers are what an interval here is over.

    Parameters
    ----------
    carriers : DataFrame
        As from :func:`carrier_table`.

    Returns
    -------
    float
        Share of new carriers, 95 %: .10 of 34.
    """
    same = np.zeros(len(carriers))
    return Resampler(carriers, 1, 0).effect(same, LEVEL).carrier_bound


def accuracy_draws(held: HeldOut, labelled: Labelled, seed: int) -> np.ndarray:
    """Balanced accuracy in resamples of the carriers: array of shape (n_resamples,), float64.

    Parameters
    ----------
    held : HeldOut
        Log odds of held-out trials; those of the first labelling are judged.
    labelled : Labelled
        Trials and labels.
    seed : int
        Of the resamples: the same seed resamples the same carriers.

    Returns
    -------
    ndarray of shape (n_resamples,), float64
        A class that a resample leaves out does not count in it.
    """
    judged = _judged(labelled, held)
    own = labelled.codes[judged]
    right = held.odds[0, judged].argmax(axis=-1) == own
    weights = Resampler(carrier_table(labelled, judged), RESAMPLES, seed).weights
    shares = []
    for number in range(len(labelled.names)):
        inside = weights[:, own == number]
        with np.errstate(invalid="ignore"):
            shares.append(inside @ right[own == number] / inside.sum(axis=1))
    return np.nanmean(shares, axis=0)


def mean_interval(
    values: np.ndarray, labelled: Labelled, rows: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over the trials that have a value, with intervals over carriers.

    Parameters
    ----------
    values : ndarray of shape (n_rows, ...)
        Values in [0, 1]; NaN where a trial has none. These are left out, never taken as 0.
    labelled : Labelled
        Trials and what carries their labels.
    rows : ndarray of shape (n_rows,), int64
        Places of the values among the trials.
    seed : int
        Of the resamples.

    Returns
    -------
    mean, low, high : ndarray of shape (...)
        NaN where no trial has a value; where percentiles have no width, the interval is what
        :func:`unseen_bound` allows.
    """
    flat = values.reshape(len(values), -1)
    known = np.isfinite(flat)
    clean = np.where(known, flat, 0.0)
    carriers = carrier_table(labelled, rows)
    weights = Resampler(carriers, RESAMPLES, seed).weights
    with np.errstate(invalid="ignore"):
        mean = clean.sum(axis=0) / known.sum(axis=0)
        drawn = (weights @ clean) / (weights @ known)
    low, high = (_quantiles(drawn, at) for at in TAILS)
    for column in np.flatnonzero(high - low < ROUNDING):
        bound = unseen_bound(carriers[known[:, column]])
        low[column] = max(0.0, mean[column] - bound)
        high[column] = min(1.0, mean[column] + bound)
    return tuple(own.reshape(values.shape[1:]) for own in (mean, low, high))


def _quantiles(drawn: np.ndarray, at: float) -> np.ndarray:
    """Quantiles of columns, of which one may have no number at all."""
    found = np.full(drawn.shape[1], np.nan)
    some = np.isfinite(drawn).any(axis=0)
    found[some] = np.nanquantile(drawn[:, some], at, axis=0)
    return found


def _judged(labelled: Labelled, held: HeldOut) -> np.ndarray:
    return (held.fold >= 0) & (labelled.codes >= 0)


def _unseen(labelled: Labelled, held: HeldOut) -> float:
    return unseen_bound(carrier_table(labelled, _judged(labelled, held)))


def _ends(drawn: np.ndarray, bound: float, least: float) -> tuple[float, float]:
    """Percentiles, or the bound where they are the same; scores are ``least`` to 1."""
    low, high = np.quantile(drawn, TAILS)
    if high - low < ROUNDING:
        low, high = max(least, low - bound), min(1.0, high + bound)
    return float(low), float(high)
