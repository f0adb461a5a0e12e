"""How rare a score is among draws of its null."""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-12


def rank_p(drawn: np.ndarray, value: float) -> float:
    """Share of draws, and the value itself, that are as large.

    Parameters
    ----------
    drawn : ndarray of shape (n_draws,)
        The score under the null; one that could not be made, NaN, counts against the claim.
    value : float
        The score.

    Returns
    -------
    float
        One-sided p; NaN where the score is, or without a draw.
    """
    if np.isnan(value) or not len(drawn):
        return np.nan
    return float((1 + np.sum(~(drawn < value - ROUNDING))) / (1 + len(drawn)))
