"""How much of what subjects do could be said of all of them at once: a ceiling across seeds.

Subjects are repeats of a stimulus only where they can be compared: units of two of them do not
correspond, but coordinates in a shared space do, which is fitted on other trials. There the
variance that subjects have in common is estimated as that of repeats is within one of them
(:func:`lmri.score.repeats.repeat_variance`). It is the largest R² that any function of stimuli can
reach in all subjects at once, and so bounds what generalises to a new seed through this space. It
is no ceiling for the encoding of one subject: that may follow what this subject alone does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmri.align.ranks import rank_p
from lmri.score.repeats import repeat_variance


@dataclass(frozen=True)
class Ceiling:
    """Variance that subjects have in common.

    Attributes
    ----------
    value : float
        As a share of their variance in the shared space, over its dimensions together.
    share : float
        As a share of all their activity.
    null : tuple of float
        2.5 %, mean and 97.5 % of ``value`` where trials do not correspond.
    p : float
        One-sided.
    """

    value: float
    share: float
    null: tuple[float, float, float]
    p: float


def shared_ceiling(
    told: np.ndarray, variances: Sequence[float], orders: Sequence[np.ndarray]
) -> Ceiling:
    """Estimate the ceiling across subjects.

    Parameters
    ----------
    told : ndarray of shape (n_subjects, n_trials, n_dimensions)
        Coordinates of each subject in the shared space, in trials that it was not fitted on.
    variances : sequence of float
        Variance of all activity of each subject in these trials, on the scale of ``told``.
    orders : sequence of ndarray of shape (n_trials,), int64
        Orders in which trials do not correspond; every subject but the first gets another one.

    Returns
    -------
    Ceiling
        With its null.
    """
    # A level of its own in all trials is no answer to a stimulus.
    centred = told - told.mean(axis=1, keepdims=True)
    signal, total = _common(centred)
    drawn = []
    for draw in range(len(orders)):
        moved = [centred[0]]
        for number, own in enumerate(centred[1:]):
            moved.append(own[orders[(draw + number) % len(orders)]])
        drawn.append(np.divide(*_common(np.stack(moved))))
    low, high = np.quantile(drawn, (0.025, 0.975))
    value = signal / total
    p = rank_p(np.array(drawn), value)
    null = (float(low), float(np.mean(drawn)), float(high))
    return Ceiling(float(value), float(signal / np.mean(variances)), null, p)


def _common(told: np.ndarray) -> tuple[float, float]:
    """Variance in common and in all, summed over dimensions."""
    trials = np.tile(np.arange(told.shape[1]), len(told))
    signal, total = repeat_variance(told.reshape(-1, told.shape[2]), trials)
    return float(signal.sum()), float(total.sum())
