"""Intervals over carriers of what is decoded."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmri.decode.labellings import HeldOut
from lmri.decode.questions import Labelled
from lmri.score import Resampler

RESAMPLES = 1000
TAILS = (0.025, 0.975)
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
        decoders are not trained again.
    """
    return _percentiles(accuracy_draws(held, labelled, seed))


def difference_interval(
    first: HeldOut, second: HeldOut, labelled: Labelled, seed: int
) -> tuple[float, float]:
    """Interval over carriers of how much better the first decodes the same trials."""
    drawn = [accuracy_draws(held, labelled, seed) for held in (first, second)]
    return _percentiles(drawn[0] - drawn[1])


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
    judged = (held.fold >= 0) & (labelled.codes >= 0)
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
        Values; NaN where a trial has none. These are left out, never taken as 0.
    labelled : Labelled
        Trials and what carries their labels.
    rows : ndarray of shape (n_rows,), int64
        Places of the values among the trials.
    seed : int
        Of the resamples.

    Returns
    -------
    mean, low, high : ndarray of shape (...)
        NaN where no trial has a value.
    """
    flat = values.reshape(len(values), -1)
    known = np.isfinite(flat)
    clean = np.where(known, flat, 0.0)
    weights = Resampler(carrier_table(labelled, rows), RESAMPLES, seed).weights
    with np.errstate(invalid="ignore"):
        mean = clean.sum(axis=0) / known.sum(axis=0)
        drawn = (weights @ clean) / (weights @ known)
    low, high = (_quantiles(drawn, at) for at in TAILS)
    return tuple(own.reshape(values.shape[1:]) for own in (mean, low, high))


def _quantiles(drawn: np.ndarray, at: float) -> np.ndarray:
    """Quantiles of columns, of which one may have no number at all."""
    found = np.full(drawn.shape[1], np.nan)
    some = np.isfinite(drawn).any(axis=0)
    found[some] = np.nanquantile(drawn[:, some], at, axis=0)
    return found


def _percentiles(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(drawn, TAILS)
    return float(low), float(high)
