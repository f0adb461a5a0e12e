"""Statistics of a re-run: rank p against sham maps, equivalence."""

from __future__ import annotations

from collections.abc import Sequence

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
    return (1 + sum(control >= effect - 1e-12 for control in controls)) / (1 + len(controls))


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
