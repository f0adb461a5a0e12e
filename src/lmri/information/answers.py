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
"""Score from which an answer counts as right."""

FEW = 10
"""Right, or wrong, answers to different questions below which the flag is ``few_samples``."""

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

    Five answers that are all right are the same text and do not spread: of the answers that are
    scored, how many are right follows from the score itself. So the answer that is judged is left
    out of those that are scored, each in turn.

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
        wrong and a right answer to two questions in which the other answers spread more where it
        is wrong (area under the curve, .5 is chance; below .5 they spread more where it is right;
        NaN of fewer than three answers); ``p`` of a difference from .5 in either direction,
        ``flags``: ``failed_null`` and ``few_samples``. Attributes ``questions``, and ``wrong``
        answers to them.

    Raises
    ------
    EvidenceError
        As :func:`lmri.information.eigenscore.eigenscore_map`, and if the table lacks the score.
    """
    found = eigenscore_map(recordings, phase=phase)
    table = pd.concat([own.trials for own in recordings], ignore_index=True)
    check_columns(table.columns, [score], "of trials", EvidenceError)
    right = _answers_of(table, score, found["trial"].values, found.sizes["answer"])
    shares = table.groupby("trial")[score].mean().reindex(found["trial"].values)
    scores = found["without"].values
    known = np.isfinite(scores).all(axis=(1, 2)) & np.isfinite(right).all(axis=1)
    wrong = right[known] < RIGHT
    told, p = told_wrong(scores[known], wrong, draws, seed)
    few = min(wrong.sum(axis=0).max(initial=0), (~wrong).sum(axis=0).max(initial=0)) < FEW
    raised = (("few_samples", np.full(len(p), few)), ("failed_null", ~(p <= LEVEL)))
    flags = [",".join(name for name, own in raised if own[i]) for i in range(len(p))]
    return found.assign(
        right=("trial", shares.to_numpy(float)),
        told=("layer", told),
        p=("layer", p),
        flags=("layer", flags),
    ).assign_attrs(score=score, draws=draws, questions=int(known.sum()), wrong=int(wrong.sum()))


def told_wrong(
    scores: np.ndarray, wrong: np.ndarray, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Area under the curve of scores for wrong answers, by layer, with p.

    Of each answer in turn, over the questions; then the mean of the answers that are right to some
    and wrong to others.

    Parameters
    ----------
    scores : ndarray of shape (n, answers, layers)
        Scores of the questions, of the answers that are not judged.
    wrong : ndarray of shape (n, answers), bool
        Which answers are wrong.
    draws, seed : int
        Exchanges among the questions, of all of their answers together.

    Returns
    -------
    told : ndarray of shape (layers,), float64
        From 0 to 1; NaN where no answer is right to one question and wrong to another.
    p : ndarray of shape (layers,), float64
        ``(1 + as far from .5) / (1 + draws)``.
    """
    questions, answers, layers = scores.shape
    order = np.tile(np.arange(questions), (draws, 1))
    drawn = np.random.default_rng(seed).permuted(order, axis=1)
    areas = []
    for answer in range(answers):
        own = wrong[:, answer]
        count = int(own.sum())
        if not 0 < count < questions:
            continue
        ranks = rankdata(scores[:, answer], axis=0)
        sums = np.concatenate([own[None], own[drawn]]) @ ranks
        areas.append((sums - count * (count + 1) / 2) / (count * (questions - count)))
    if not areas:
        return np.full(layers, np.nan), np.full(layers, np.nan)
    told, null = np.split(np.mean(areas, axis=0), [1])
    far = np.abs(null - 0.5) >= np.abs(told - 0.5) - 1e-12
    return told[0], (1 + far.sum(axis=0)) / (1 + draws)


def _answers_of(table: pd.DataFrame, score: str, names: np.ndarray, answers: int) -> np.ndarray:
    """Scores of the answers to each question, (questions, answers), in the order of the table."""
    found = np.full((len(names), answers), np.nan)
    rows_of = table.groupby("trial", sort=False).indices
    values = table[score].to_numpy(float)
    for row, name in enumerate(names):
        own = values[rows_of[name]]
        found[row, : len(own)] = own
    return found
