"""Changes of a score, trial by trial, and what may be said of their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.score import Effect, Resampler


class Carriers(Resampler):
    """Bootstrap over carriers that also gives the tail beyond a threshold.

    Parameters
    ----------
    carriers : DataFrame
        One column per carrier, one row per trial.
    resamples : int
        Bootstrap draws.
    seed : int
        Seed of the draws.
    """

    def __init__(self, carriers: pd.DataFrame, resamples: int, seed: int) -> None:
        super().__init__(carriers, resamples, seed)

    def tail(self, differences: np.ndarray, threshold: float) -> float:
        """One-sided p of a mean not above a threshold.

        ``p = (1 + #{resampled mean <= threshold}) / (1 + resamples)``. Without any variation, as
        in :meth:`Resampler.effect`, the chance that none of n independent trials shows what a mean
        at the threshold needs, ``(1 - (mean - threshold)) ** n``; never below that of resampling.

        Parameters
        ----------
        differences : ndarray of shape (n_trials,)
            Paired differences.
        threshold : float
            The threshold.

        Returns
        -------
        float
            The p-value.
        """
        mean = float(differences.mean())
        if np.ptp(differences) > 0:
            below = int((self.weights @ differences <= threshold).sum())
            return (1 + below) / (1 + len(self.weights))
        distance = min(1.0, mean - threshold)
        unseen = (1 - distance) ** len(differences) if distance > 0 else 1.0
        return max(unseen, 1 / (1 + len(self.weights)))


@dataclass(frozen=True)
class Change:
    """Differences of a score between two arms on the same trials.

    Attributes
    ----------
    differences : ndarray of shape (n_trials,), float64
        In the direction that is claimed.
    carriers : Carriers
        Bootstrap of the trials.
    level : float
        Confidence of the two-sided interval.
    is_rate : bool
        Whether the score is in [0, 1].

    Notes
    -----
    Every p is twice a tail, so that ``p <= alpha`` says the same as a two-sided interval at
    ``1 - alpha`` that does not reach the threshold.
    """

    differences: np.ndarray
    carriers: Carriers
    level: float
    is_rate: bool = True

    def __sub__(self, other: Change) -> Change:
        differences = self.differences - other.differences
        return Change(differences, self.carriers, self.level, self.is_rate)

    @property
    def effect(self) -> Effect:
        """Mean with its interval over carriers."""
        return self.carriers.effect(self.differences, self.level, is_rate=self.is_rate)

    def p_above(self, threshold: float) -> float:
        """Test that the mean is above a threshold.

        Parameters
        ----------
        threshold : float
            The threshold.

        Returns
        -------
        float
            p; 1 for a score without bounds that does not vary.
        """
        if not self.is_rate and math.isnan(self.effect.low):
            return 1.0
        return min(1.0, 2 * self.carriers.tail(self.differences, threshold))

    def p_below(self, threshold: float) -> float:
        """Test that the mean is below a threshold, as :meth:`p_above`."""
        turned = Change(-self.differences, self.carriers, self.level, self.is_rate)
        return turned.p_above(-threshold)

    def p_within(self, margin: float) -> float:
        """Test that the mean is within a margin of 0: the larger of two one-sided p."""
        return max(self.p_above(-margin), self.p_below(margin))
