"""How much of a unit's variance could be predicted at all, from honest repeats.

A repeat is honest if it asks the same and the activity may differ: another template of the same
content (a paraphrase), or another sampled response. A forward pass over the same tokens is the same
number again, and a ceiling of 1 from it would mean nothing; without honest repeats there is no
ceiling. What repeats have in common is estimated by :func:`lmri.score.repeats.repeat_variance`:
the largest R² of a single response. Noise has 0, which without its correction would be ``1 / R``
for R repeats, and estimates may fall below 0.

Models of other seeds are repeats only where their units correspond, which is after an alignment:
:mod:`lmri.align.ceiling`. States of one base are no repeats: what they differ in is studied.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.score.repeats import repeat_variance

SAMPLED = ("response", "think")
"""Phases in which sampled repeats of a trial differ."""

LEAST_STIMULI = 10
"""Stimuli with repeats, below which there is no ceiling."""


@dataclass(frozen=True)
class Repeats:
    """Which rows repeat each other.

    Attributes
    ----------
    stimulus : ndarray of shape (n_rows,), int64
        Number of the stimulus of each row; -1 for one without a repeat.
    kind : str
        ``paraphrase`` or ``sampled``; empty where there are none.
    reason : str
        Why there are none; else empty.
    """

    stimulus: np.ndarray
    kind: str
    reason: str

    @property
    def n(self) -> int:
        """Number of stimuli with repeats."""
        return int(self.stimulus.max(initial=-1)) + 1


def honest_repeats(table: pd.DataFrame, phase: str) -> Repeats:
    """Find the rows that repeat each other.

    Sampled responses are looked for in the phases they differ in, then paraphrases: rows of one
    condition and the same carriers in another template family.

    Parameters
    ----------
    table : DataFrame
        Rows, with ``trial``, ``condition``, ``family``, ``repeat`` and ``carrier_<name>``.
    phase : str
        The phase.

    Returns
    -------
    Repeats
        Those that were found.
    """
    carriers = sorted(str(name) for name in table if str(name).startswith("carrier_"))
    if phase in SAMPLED:
        found = _repeated(table, ["trial"], "repeat")
        if found.max(initial=-1) + 1 >= LEAST_STIMULI:
            return Repeats(found, "sampled", "")
    if carriers:
        found = _repeated(table, ["condition", *carriers], "family")
        if found.max(initial=-1) + 1 >= LEAST_STIMULI:
            return Repeats(found, "paraphrase", "")
    reason = (
        f"no ceiling: at least {LEAST_STIMULI} stimuli with honest repeats are needed (another "
        "template of the same content, or sampled responses)"
    )
    return Repeats(np.full(len(table), -1), "", reason)


def explainable_variance(Y: np.ndarray, stimulus: np.ndarray) -> np.ndarray:
    """Estimate the share of variance that repeats have in common.

    Parameters
    ----------
    Y : ndarray of shape (n_rows, n_units)
        Activity.
    stimulus : ndarray of shape (n_rows,), int64
        Stimulus of each row; rows of -1 are left aside.

    Returns
    -------
    ndarray of shape (n_units,), float64
        At most 1, 0 on average under noise; NaN for a unit that does not vary.
    """
    known = stimulus >= 0
    signal, total = repeat_variance(Y[known], stimulus[known])
    return np.divide(signal, total, out=np.full(len(total), np.nan), where=total > 0)


def _repeated(table: pd.DataFrame, same: list[str], differs: str) -> np.ndarray:
    """Number the groups with several values of a column; one row of each value, else -1."""
    found = np.full(len(table), -1)
    if differs not in table:
        return found
    rows = table.reset_index(drop=True).drop_duplicates([*same, differs])
    several = rows.groupby(same)[differs].transform("nunique") > 1
    kept = rows[several]
    found[kept.index] = kept.groupby(same, sort=False).ngroup()
    return found
