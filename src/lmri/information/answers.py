"""EigenScores of a recording with repeats, and whether they tell wrong answers from right ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import rankdata

from lmri.checks import check_columns
from lmri.errors import EvidenceError
from lmri.information.eigenscore import eigenscore_map
from lmri.store import Recording

RIGHT = 0.5
"""Share of exact answers from which a question counts as answered rightly."""

FEW = 10
"""Right, or wrong, questions below which the share is flagged ``few_samples``."""

LEVEL = 0.05


def answer_profile(
    recordings: Sequence[Recording],
    *,
    phase: str = "response",
    score: str = "exact",
    draws: int = 999,
    seed: int = 0,
) -> xr.Dataset:
    """Profile by layer how far answers spread, and how well that tells which are wrong.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with ``residual`` and ``record.repeats`` above 1.
    phase : str
        Phase whose tokens are the answer.
    score : str
        Column of the table of trials, 1 for a right answer.
    draws : int
        Exchanges of right and wrong among the questions.
    seed : int
        Of the exchanges.

    Returns
    -------
    Dataset
        As :func:`lmri.information.eigenscore.eigenscore_map`, and ``right`` (trial), share of
        right answers, NaN where there is no score. Over layer: ``told``, the share of pairs of a
        wrong and a right question in which the wrong one has the larger score (area under the
        curve, .5 is chance; below .5 it is the right ones that spread); ``p`` of a difference from
        .5 in either direction, ``flags``: ``failed_null`` and ``few_samples``. Attributes
        ``questions``, ``wrong``.

    Raises
    ------
    EvidenceError
        As :func:`lmri.information.eigenscore.eigenscore_map`, and if the table lacks the score.
    """
    found = eigenscore_map(recordings, phase=phase)
    table = pd.concat([own.trials for own in recordings], ignore_index=True)
    check_columns(table.columns, [score], "of trials", EvidenceError)
    right = table.groupby("trial")[score].mean().reindex(found["trial"].values).to_numpy(float)
    scores = found["eigenscore"].values
    known = np.isfinite(scores).all(axis=1) & np.isfinite(right)
    wrong = right[known] < RIGHT
    told, p = told_wrong(scores[known], wrong, draws, seed)
    few = min(wrong.sum(), (~wrong).sum()) < FEW
    raised = (("few_samples", np.full(len(p), few)), ("failed_null", ~(p <= LEVEL)))
    flags = [",".join(name for name, own in raised if own[i]) for i in range(len(p))]
    return found.assign(
        right=("trial", right), told=("layer", told), p=("layer", p), flags=("layer", flags)
    ).assign_attrs(score=score, draws=draws, questions=int(known.sum()), wrong=int(wrong.sum()))


def told_wrong(
    scores: np.ndarray, wrong: np.ndarray, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Area under the curve of scores for wrong questions, by layer, with p.

    Parameters
    ----------
    scores : ndarray of shape (n, layers)
        Scores of the questions.
    wrong : ndarray of shape (n,), bool
        Which of them are answered wrongly.
    draws, seed : int
        Exchanges among the questions.

    Returns
    -------
    told : ndarray of shape (layers,), float64
        From 0 to 1; NaN where all are right, or all wrong.
    p : ndarray of shape (layers,), float64
        ``(1 + as far from .5) / (1 + draws)``.
    """
    count, rest = int(wrong.sum()), int((~wrong).sum())
    if not count or not rest:
        return np.full((2, scores.shape[1]), np.nan)
    ranks = rankdata(scores, axis=0)
    shift, pairs = count * (count + 1) / 2, count * rest
    told = (ranks[wrong].sum(axis=0) - shift) / pairs
    drawn = np.random.default_rng(seed).permuted(np.tile(wrong, (draws, 1)), axis=1)
    null = (drawn @ ranks - shift) / pairs  # (draws, layers)
    far = np.abs(null - 0.5) >= np.abs(told - 0.5) - 1e-12
    return told, (1 + far.sum(axis=0)) / (1 + draws)
