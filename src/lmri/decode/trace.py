"""The trace of a decoder over tokens: where in prompt and response a label shows, and goes.

A decoder of two classes is trained at the last token of the prompt and judges every token around it
in held-out trials, as the probe of a refusal cliff does (arXiv:2510.06036). Its level follows from
where it was trained: what all conditions share at a token says nothing, and curves are read against
each other. Trials are aligned at the end of the prompt. A trial that has not begun or has ended has
no value there and takes no part in the mean: padding with zeros would pull the ends of the trace to
0.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.special import expit

from lmri.decode.activity import Activity
from lmri.decode.estimator import COMPONENTS, SHRINKAGES, masked_space
from lmri.decode.intervals import mean_interval
from lmri.decode.labellings import Discriminants, HeldOut, odds_of
from lmri.decode.positions import PROMPT_LAST
from lmri.decode.profile import Asked, check_cell, described
from lmri.decode.scoring import area_under_curve
from lmri.errors import EvidenceError

SHRINKAGE = SHRINKAGES[len(SHRINKAGES) // 2]

BLOCK_BYTES = 64 * 2**20
"""Activity of tokens that is held at once."""


def trace(activity: Activity, asked: Asked, *, before: int, after: int, seed: int) -> xr.Dataset:
    """Follow a decoder over the tokens around the end of the prompt.

    Parameters
    ----------
    activity : Activity
        Activity of the task, with every token.
    asked : Asked
        What is decoded: two classes.
    before, after : int
        Tokens before and after the last of the prompt.
    seed : int
        Of the intervals.

    Returns
    -------
    Dataset
        ``probability`` of the second class with its 95 % interval over carriers (``low``,
        ``high``), over (layer, condition, offset), where the offset is in tokens after the last of
        the prompt; ``auc`` of the two classes at each offset, over (layer, offset), which a shift
        of all trials together leaves as it is; ``n``, the trials that have such a token, over
        (condition, offset).

    Raises
    ------
    EvidenceError
        If tokens were not recorded, or there are not two classes.
    """
    labelled = asked.labelled
    owner = f"the trace of {labelled.question.owner}"
    if len(labelled.names) != 2:
        raise EvidenceError(f"{owner} needs 2 classes. Got {len(labelled.names)}.")
    check_tokens(activity, owner)
    offsets = np.arange(-before, after + 1)
    tokens = activity.index.around_prompt_end(offsets)[activity.rows[labelled.rows]]
    some = (tokens >= 0).any(axis=0)
    offsets, tokens = offsets[some], tokens[:, some]
    conditions = activity.trials["condition"].to_numpy()[labelled.rows]
    names = sorted(set(map(str, conditions)))
    shape = (len(activity.layers), len(names), len(offsets))
    means, lows, highs = (np.full(shape, np.nan) for _ in range(3))
    counts = np.stack([(tokens[conditions == own] >= 0).sum(axis=0) for own in names])
    areas = np.full((len(activity.layers), len(offsets)), np.nan)
    at = int(np.flatnonzero(offsets == 0)[0])
    for number, layer in enumerate(activity.layers):
        odds, fold_of = _judged(activity, asked, layer, tokens, at)
        areas[number] = [_area(own, fold_of, asked.labels[:1]) for own in odds.T]
        scores = expit(odds)
        for row, condition in enumerate(names):
            own = np.flatnonzero(conditions == condition)
            found = mean_interval(scores[own], labelled, own, seed)
            means[number, row], lows[number, row], highs[number, row] = found
    dims = ("layer", "condition", "offset")
    found = xr.Dataset(
        {
            "probability": (dims, means),
            "low": (dims, lows),
            "high": (dims, highs),
            "auc": (("layer", "offset"), areas),
            "n": (("condition", "offset"), counts),
        },
        coords={"layer": activity.layers, "condition": names, "offset": offsets},
    )
    return found.assign(described(asked))


def check_tokens(activity: Activity, owner: str) -> None:
    """Refuse an analysis of tokens where they were not recorded.

    Parameters
    ----------
    activity : Activity
        The activity.
    owner : str
        The analysis, for the message.

    Raises
    ------
    EvidenceError
        If only pooled activity is there.
    """
    if not activity.has_tokens:
        raise EvidenceError(
            f"{owner} reads every token, and only pooled activity was recorded: add "
            f"'{activity.quantity}' to 'record.full' and record again."
        )


def _judged(
    activity: Activity, asked: Asked, layer: int, tokens: np.ndarray, at: int
) -> tuple[np.ndarray, np.ndarray]:
    """Log odds of the second class of every held-out token (n_trials, n_offsets); their folds."""
    labelled = asked.labelled
    X = activity.tokens(layer, tokens[:, at])
    check_cell(X, labelled, f"layer {layer}, {PROMPT_LAST}")
    present = np.isfinite(X).all(axis=1)
    odds = np.full(tokens.shape, np.nan)
    fold_of = np.full(len(tokens), -1, dtype=np.int64)
    step = max(1, BLOCK_BYTES // (8 * activity.units * tokens.shape[1]))
    for number, whole in enumerate(asked.folds.folds):
        fold = whole.among(present)
        if not len(fold.test) or len(fold.train) < 2:
            continue
        fold_of[fold.test] = number
        space = masked_space(X[fold.train], None, COMPONENTS)
        points, labels = space.transform(X[fold.train]), labelled.codes[None, fold.train]
        rules = Discriminants(points, labels, 2).rules(np.array([SHRINKAGE]))
        for start in range(0, len(fold.test), step):
            rows = fold.test[start : start + step]
            known = tokens[rows] >= 0
            values = activity.tokens(layer, tokens[rows][known])
            own = np.full(known.shape, np.nan)
            if known.any():
                own[known] = odds_of(space.transform(values), *rules)[0, :, 1]
            odds[rows] = own
    return odds, fold_of


def _area(odds: np.ndarray, fold_of: np.ndarray, labels: np.ndarray) -> float:
    held = HeldOut(np.stack([-odds, odds], axis=-1)[None], np.where(np.isnan(odds), -1, fold_of))
    return float(area_under_curve(held, labels)[0])
