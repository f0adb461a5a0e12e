"""Bags of tokens, decoded with conformal sets: a class, another class, or neither."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from sklearn.metrics import roc_auc_score

from lmri.decode.activity import Activity
from lmri.decode.conformal import (
    conformal_p,
    expected_coverage,
    least_carriers,
    nonconformity,
)
from lmri.decode.folds import Fold
from lmri.decode.instances import BagClassifier
from lmri.decode.profile import Asked, check_cell, described
from lmri.decode.questions import Labelled
from lmri.decode.trace import check_tokens
from lmri.errors import EvidenceError

MOST_BAGS = 1800
"""Trials that are held at once, at most; more are drawn from."""


@dataclass(frozen=True)
class Round:
    """Trials of one split into three, none of which share a carrier.

    Attributes
    ----------
    train, calibrate, test : ndarray of int64
        Places among the trials of the question.
    """

    train: np.ndarray
    calibrate: np.ndarray
    test: np.ndarray


def decode_bags(
    activity: Activity, asked: Asked, *, bag: int, alpha: float, seed: int
) -> xr.Dataset:
    """Decode the last tokens of prompts as bags, layer by layer.

    Parameters
    ----------
    activity : Activity
        Activity of the task, with every token.
    asked : Asked
        What is decoded.
    bag : int
        Tokens of a bag: the last of the prompt.
    alpha : float
        Largest share of sets that miss the true class.
    seed : int
        Of the trials that are drawn where there are more than :data:`MOST_BAGS`.

    Returns
    -------
    Dataset
        Over layer: ``balanced_accuracy`` and ``auc`` of the scores; of the conformal sets the
        ``coverage`` and that of the worst class, the range expected of it (``expected_low``,
        ``expected_high``), the share that ``answered`` with one class, the share of ``empty`` sets
        and of sets with ``several``, and the ``accuracy_answered``. ``n`` trials; ``calibrated``,
        the fewest carriers that sets were calibrated on; ``nominal`` coverage.

    Raises
    ------
    EvidenceError
        If tokens were not recorded, or there are too few carriers to calibrate on.
    """
    labelled = asked.labelled
    check_tokens(activity, f"the bags of {labelled.question.owner}")
    rounds = _rounds(asked, seed)
    calibrated = [len(np.unique(_carrier(labelled, own.calibrate))) for own in rounds]
    needed = least_carriers(alpha)
    if min(calibrated) < needed:
        raise EvidenceError(
            f"conformal sets of {labelled.question.owner} need at least {needed} carriers to "
            f"calibrate on at 'decode.alpha' {alpha:g}. Got {min(calibrated)}: record more, or set "
            "a larger alpha."
        )
    tokens = activity.index.around_prompt_end(np.arange(1 - bag, 1))
    tokens = tokens[activity.rows[labelled.rows]]
    used = np.unique(np.concatenate([rows for own in rounds for rows in vars(own).values()]))
    found = []
    for layer in activity.layers:
        X = np.full((len(tokens), bag, activity.units), np.nan, dtype=np.float32)
        X[used] = activity.tokens(layer, tokens[used])
        check_cell(X[used, -1], labelled, f"layer {layer}, prompt_last")
        scores, sets = _decoded(X, labelled, rounds, alpha)
        found.append(_summary(scores, sets, labelled))
    judged = len(np.unique(_carrier(labelled, used)))
    low, high = expected_coverage(min(calibrated), judged, alpha)
    summary = xr.Dataset(
        {name: ("layer", [own[name] for own in found]) for name in found[0]},
        coords={"layer": activity.layers},
    )
    return summary.assign(described(asked)).assign(
        expected_low=low,
        expected_high=high,
        nominal=1 - alpha,
        calibrated=min(calibrated),
        bag=bag,
    )


def _rounds(asked: Asked, seed: int) -> list[Round]:
    """Every fold in turn; the next parts of all carriers calibrate, and are trained on by none."""
    labelled, folds = asked.labelled, asked.folds
    kept = labelled.codes >= 0
    if kept.sum() > MOST_BAGS:
        rng = np.random.default_rng([seed, 37])
        drawn = rng.choice(np.flatnonzero(kept), MOST_BAGS, replace=False)
        kept = np.isin(np.arange(len(kept)), drawn)
    parts = [
        part[carrier.values] for part, carrier in zip(folds.parts, labelled.carriers, strict=True)
    ]
    count = int(max(part.max() for part in folds.parts)) + 1
    return [_round(fold, parts, count, kept) for fold in folds.folds if len(fold.test)]


def _round(fold: Fold, parts: list[np.ndarray], count: int, kept: np.ndarray) -> Round:
    held = [part[fold.test[0]] for part in parts]
    after = [(out + 1) % count for out in held]
    inside = np.all([part == out for part, out in zip(parts, after, strict=True)], axis=0)
    touched = np.any([part == out for part, out in zip(parts, after, strict=True)], axis=0)
    train = fold.train[~touched[fold.train] & kept[fold.train]]
    return Round(train, np.flatnonzero(inside & kept), fold.test[kept[fold.test]])


def _carrier(labelled: Labelled, rows: np.ndarray) -> np.ndarray:
    """Values of the carrier that has the fewest among some trials."""
    return min((own.values[rows] for own in labelled.carriers), key=lambda v: len(np.unique(v)))


def _decoded(
    X: np.ndarray, labelled: Labelled, rounds: list[Round], alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and conformal sets of all trials: (n, n_classes) each; NaN scores where not judged."""
    n_classes = len(labelled.names)
    scores = np.full((len(X), n_classes), np.nan)
    sets = np.zeros((len(X), n_classes), dtype=bool)
    has_tokens = np.isfinite(X).all(axis=2).any(axis=1)
    for own in rounds:
        train, calibrate, test = (
            rows[has_tokens[rows]] for rows in (own.train, own.calibrate, own.test)
        )
        if not len(test):
            continue
        both = np.concatenate([calibrate, test])
        said = _class_scores(X, labelled.codes, train, both, n_classes)
        strange = nonconformity(said)
        known = strange[: len(calibrate)][np.arange(len(calibrate)), labelled.codes[calibrate]]
        p = conformal_p(known, _carrier(labelled, calibrate), strange[len(calibrate) :])
        scores[test], sets[test] = said[len(calibrate) :], p > alpha
    return scores, sets


def _class_scores(
    X: np.ndarray, codes: np.ndarray, train: np.ndarray, rows: np.ndarray, n_classes: int
) -> np.ndarray:
    if n_classes == 2:
        score = BagClassifier().fit(X[train], codes[train] == 1).decision_function(X[rows])
        return np.stack([-score, score], axis=1)
    made = (BagClassifier().fit(X[train], codes[train] == own) for own in range(n_classes))
    return np.stack([own.decision_function(X[rows]) for own in made], axis=1)


def _summary(scores: np.ndarray, sets: np.ndarray, labelled: Labelled) -> dict[str, float]:
    judged = np.isfinite(scores).all(axis=1)
    truth, said, inside = labelled.codes[judged], scores[judged], sets[judged]
    right = said.argmax(axis=1) == truth
    covered = inside[np.arange(len(truth)), truth]
    size = inside.sum(axis=1)
    classes = np.unique(truth)
    one = size == 1
    areas = [roc_auc_score(truth == own, said[:, own]) for own in classes]
    return {
        "balanced_accuracy": float(np.mean([right[truth == own].mean() for own in classes])),
        "auc": float(np.mean(areas)),
        "coverage": float(covered.mean()),
        "coverage_worst_class": float(min(covered[truth == own].mean() for own in classes)),
        "answered": float(one.mean()),
        "empty": float((size == 0).mean()),
        "several": float((size > 1).mean()),
        "accuracy_answered": float(covered[one].mean()) if one.any() else float("nan"),
        "n": float(len(truth)),
    }
