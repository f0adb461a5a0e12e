"""Statistics of a re-run: rank p against sham maps, equivalence, correction for many claims."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from lmri.score import Effect


def rank_p(effect: float, controls: Sequence[float]) -> float:
    """Exact rank p of an effect against control draws, larger being more extreme.

    ``p = (1 + #{control >= effect}) / (1 + #controls)``

    Parameters
    ----------
    effect : float
        Effect of the finding.
    controls : sequence of float
        Effects of the control draws.

    Returns
    -------
    float
        The p-value.
    """
    return (1 + as_large(effect, controls)) / (1 + len(controls))


def as_large(effect: float, controls: Iterable[float]) -> int:
    """Count the control draws whose effect is at least that of the finding."""
    # Means of the same scores may differ by rounding.
    return sum(control >= effect - 1e-12 for control in controls)


def nothing_to_lose(intact: np.ndarray, margin: float) -> bool:
    """Whether a behaviour is so rare intact that it cannot fall by more than the margin.

    Parameters
    ----------
    intact : ndarray of shape (n_trials,)
        Scores in [0, 1] of the intact subject.
    margin : float
        Half-width of the region of equivalence.

    Returns
    -------
    bool
        True if that it stays shows nothing.
    """
    return float(intact.mean()) <= margin


def within_margin(effect: Effect, margin: float) -> bool:
    """Whether an interval lies inside the margin: two one-sided tests at half its error rate.

    Parameters
    ----------
    effect : Effect
        With its interval.
    margin : float
        Half-width of the region of equivalence.

    Returns
    -------
    bool
        True when the effect is equivalent to none.
    """
    return -margin < effect.low and effect.high < margin


def stopped_draws(effect: float, controls: Sequence[float], exceedances: int) -> int:
    """Count the control draws that a sequential test looks at.

    Parameters
    ----------
    effect : float
        Effect of the finding.
    controls : sequence of float
        Effects of the control draws, in the order in which they were drawn.
    exceedances : int
        As many draws that do as much end the test.

    Returns
    -------
    int
        Draws up to the one that ends it; all of them where none does.
    """
    exceeded = 0
    for number, control in enumerate(controls, start=1):
        exceeded += as_large(effect, [control])
        if exceeded == exceedances:
            return number
    return len(controls)


def sequential_p(effect: float, controls: Sequence[float], exceedances: int) -> float:
    """P of a test that stops at a number of control draws that do as much.

    ``p = h / L`` where the h-th exceedance came at draw L, else the rank p of all draws.

    Parameters
    ----------
    effect : float
        Effect of the finding.
    controls : sequence of float
        Effects of the control draws, in the order in which they were drawn.
    exceedances : int
        h.

    Returns
    -------
    float
        The p-value.

    References
    ----------
    Besag and Clifford 1991, Sequential Monte Carlo p-values, Biometrika 78.
    """
    draws = stopped_draws(effect, controls, exceedances)
    stopped = as_large(effect, controls[:draws]) == exceedances
    return exceedances / draws if stopped else rank_p(effect, controls)


def holm(values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, step by step.

    ``p'_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))``

    Parameters
    ----------
    values : sequence of float
        p of every claim of a family; NaN, which counts, where none could be had.

    Returns
    -------
    list of float
        Corrected, in the same order; NaN stays.

    References
    ----------
    Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6.
    """
    corrected, most = [math.nan] * len(values), 0.0
    known = [place for place, p in enumerate(values) if not math.isnan(p)]
    for rank, place in enumerate(sorted(known, key=lambda place: values[place])):
        most = max(most, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = most
    return corrected
