"""Intervals of scores over carriers.

Trials that share a place or a year are not independent, so an interval resamples the carriers:
every draw gives each value of each carrier a weight (how often it was drawn), and a trial the
product of its carriers' weights. For one carrier this is the cluster bootstrap, for crossed ones
the pigeonhole bootstrap (Owen 2007), which errs on the wide side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Effect:
    """A mean difference with its interval over carriers.

    Attributes
    ----------
    mean, low, high : float
        Mean and interval; NaN bounds where there is no interval.
    n : int
        Trials.
    n_carriers : int
        Values of the carrier with the fewest.
    carrier_bound : float
        Of a sample without any variation: how far from the mean the effect can be if the trials of
        a carrier change together. NaN for others.
    """

    mean: float
    low: float
    high: float
    n: int
    n_carriers: int
    carrier_bound: float = math.nan


class Resampler:
    """Bootstrap of one set of trials over their carriers; the draws are shared by all effects.

    Parameters
    ----------
    carriers : DataFrame
        One column per carrier, one row per trial; missing where a trial, of a task of its own, does
        not have the carrier, whose draws then leave its weight as it is.
    resamples : int
        Bootstrap draws.
    seed : int
        Seed of the draws.

    Attributes
    ----------
    weights : ndarray of shape (n_draws, n_trials), float64
        Weight of every trial in each draw; they sum to 1.
    """

    def __init__(self, carriers: pd.DataFrame, resamples: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 8])
        weights = np.ones((resamples, len(carriers)))
        for name in carriers.columns:
            codes, values = pd.factorize(carriers[name])
            share = np.full(len(values), 1 / len(values))
            drawn = rng.multinomial(len(values), share, size=resamples)
            weights *= np.where(codes >= 0, drawn[:, codes], 1)
        # With few carriers a draw can leave no trial: it says nothing and is dropped.
        weights = weights[weights.sum(axis=1) > 0]
        self.weights = weights / weights.sum(axis=1, keepdims=True)
        self._fewest = min(carriers[name].nunique() for name in carriers.columns)

    def effect(self, differences: np.ndarray, level: float, *, is_rate: bool = True) -> Effect:
        """Mean of paired differences with its percentile interval.

        A sample without any variation has no bootstrap interval, but the same change in n trials
        still allows other changes elsewhere. If trials were independent, a share of up to
        ``1 - tail ** (1 / n)`` of them (Clopper-Pearson, no event in n) could change by something
        else; a trial's score in [0, 1] by up to 1. That is the interval. It is **not** valid where
        trials of one carrier change together, and such a sample cannot say whether they do. At
        the other extreme each carrier counts once: ``carrier_bound = 1 - tail ** (1 / n_carriers)``
        is kept beside the interval, for the reader; the rule counts trials.

        Parameters
        ----------
        differences : ndarray of shape (n_trials,)
            Score under the intervention minus intact, trial by trial.
        level : float
            Confidence level of the two-sided interval, for example .95.
        is_rate : bool
            Whether the score is in [0, 1]. Without variation, a score without bounds (a logit) has
            no interval: a trial not seen could change by any amount.

        Returns
        -------
        Effect
            The mean and its interval.
        """
        mean, n = float(differences.mean()), len(differences)
        tail = (1 - level) / 2
        if np.ptp(differences) > 0:
            low, high = np.quantile(self.weights @ differences, [tail, 1 - tail])
            return Effect(mean, float(low), float(high), n, self._fewest)
        if not is_rate:
            return Effect(mean, math.nan, math.nan, n, self._fewest)
        slack = 1 - tail ** (1 / n)
        low, high = max(-1.0, mean - slack), min(1.0, mean + slack)
        return Effect(mean, low, high, n, self._fewest, 1 - tail ** (1 / self._fewest))


def carrier_columns(trials: pd.DataFrame) -> pd.DataFrame:
    """Carriers of trials of one task.

    Parameters
    ----------
    trials : DataFrame
        Stimuli; columns of other tasks' carriers may be present and empty.

    Returns
    -------
    DataFrame
        The ``carrier_`` columns that have values.
    """
    columns = [name for name in trials.columns if name.startswith("carrier_")]
    return trials[[name for name in columns if trials[name].notna().all()]]


def joint_carriers(trials: pd.DataFrame) -> pd.DataFrame:
    """Carriers of trials of any tasks; what two tasks both have is the same in both.

    Parameters
    ----------
    trials : DataFrame
        Stimuli with ``task`` and ``trial``.

    Returns
    -------
    DataFrame
        A column for every carrier of a task, missing where the task of a trial does not have it.
        Of a task without any, each trial stands for itself.
    """
    tasks = []
    for task, own in trials.groupby("task", sort=False):
        carriers = carrier_columns(own)
        alone = own["trial"].rename(f"trial of {task}").to_frame()
        tasks.append(alone if carriers.columns.empty else carriers)
    return pd.concat(tasks).loc[trials.index]
