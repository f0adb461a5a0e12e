"""Bags of tokens, decoded with conformal sets: a class, another class, or neither."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from sklearn.metrics import roc_auc_score

from lmri.decode.activity import Activity
from lmri.decode.conformal import (
    components,
    conformal_p,
    expected_coverage,
    least_carriers,
    matching,
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
    """Trials that a decoder is trained on, and others that share no carrier with them.

    Attributes
    ----------
    train : ndarray of int64
        Places among the trials of the question.
    held : ndarray of int64
        Trials of the part that is judged and of the next one, of every carrier.
    test : ndarray of int64
        Places among ``held`` of the trials that are judged.
    compared : ndarray of shape (n_test, n_held), int64
        For each of them, what it is compared with: see :func:`lmri.decode.conformal.matching`.
    """

    train: np.ndarray
    held: np.ndarray
    test: np.ndarray
    compared: np.ndarray

    @property
    def calibrated(self) -> np.ndarray:
        """Number of carriers that each judged trial is compared with: (n_test,), int64."""
        return np.array([len(np.unique(own[own >= 0])) for own in self.compared], dtype=np.int64)


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
        the median number of carriers that a set was calibrated on; ``nominal`` coverage.

    Raises
    ------
    EvidenceError
        If tokens were not recorded, or there are too few carriers to calibrate on.
    """
    labelled = asked.labelled
    check_tokens(activity, f"the bags of {labelled.question.owner}")
    tokens = activity.index.around_prompt_end(np.arange(1 - bag, 1))
    tokens = tokens[activity.rows[labelled.rows]]
    rounds = _rounds(asked, (tokens >= 0).any(axis=1), seed)
    # Where combinations are missing, some have fewer: their sets exclude nothing.
    usual = int(np.median(np.concatenate([own.calibrated for own in rounds]))) if rounds else 0
    needed = least_carriers(alpha)
    if usual < needed:
        raise EvidenceError(
            f"conformal sets of {labelled.question.owner} need at least {needed} carriers to "
            f"calibrate on at 'decode.alpha' {alpha:g}. Got {usual}: record more, or set "
            "a larger alpha."
        )
    used = np.unique(np.concatenate([rows for own in rounds for rows in (own.train, own.held)]))
    judged = np.concatenate([own.held[own.test] for own in rounds])
    found = []
    for layer in activity.layers:
        X = np.full((len(tokens), bag, activity.units), np.nan, dtype=np.float32)
        X[used] = activity.tokens(layer, tokens[used])
        check_cell(X[used, -1], labelled, f"layer {layer}, prompt_last")
        scores, sets = _decoded(X, labelled, rounds, alpha)
        found.append(_summary(scores, sets, labelled))
    low, high = expected_coverage(usual, _fewest_values(labelled, judged), alpha)
    summary = xr.Dataset(
        {name: ("layer", [own[name] for own in found]) for name in found[0]},
        coords={"layer": activity.layers},
    )
    return summary.assign(described(asked)).assign(
        expected_low=low,
        expected_high=high,
        nominal=1 - alpha,
        calibrated=usual,
        bag=bag,
    )


def _rounds(asked: Asked, has_tokens: np.ndarray, seed: int) -> list[Round]:
    """Every fold in turn; the next parts of all carriers are not trained on either."""
    labelled, folds = asked.labelled, asked.folds
    kept = (labelled.codes >= 0) & has_tokens
    rng = np.random.default_rng([seed, 37])
    if kept.sum() > MOST_BAGS:
        drawn = rng.choice(np.flatnonzero(kept), MOST_BAGS, replace=False)
        kept = np.isin(np.arange(len(kept)), drawn)
    parts = [
        part[carrier.values] for part, carrier in zip(folds.parts, labelled.carriers, strict=True)
    ]
    carriers = [own.values for own in labelled.carriers]
    judged = [fold for fold in folds.folds if kept[fold.test].any()]
    return [_round(fold, parts, carriers, kept, rng) for fold in judged]


def _round(
    fold: Fold,
    parts: list[np.ndarray],
    carriers: list[np.ndarray],
    kept: np.ndarray,
    rng: np.random.Generator,
) -> Round:
    count = int(max(part.max() for part in parts)) + 1
    out = [part[fold.test[0]] for part in parts]
    inside = [np.isin(part, (own, (own + 1) % count)) for part, own in zip(parts, out, strict=True)]
    train = fold.train[~np.any(inside, axis=0)[fold.train] & kept[fold.train]]
    held = np.flatnonzero(np.all(inside, axis=0) & kept)
    test = np.flatnonzero(np.isin(held, fold.test))
    own = [values[held] for values in carriers]
    linked = components(own)
    compared = np.stack([matching(own, linked, trial, rng) for trial in test])
    return Round(train, held, test, compared)


def _fewest_values(labelled: Labelled, rows: np.ndarray) -> int:
    """Number of values of the carrier that has the fewest among some trials."""
    return min(len(np.unique(own.values[rows])) for own in labelled.carriers)


def _decoded(
    X: np.ndarray, labelled: Labelled, rounds: list[Round], alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and conformal sets of all trials: (n, n_classes) each; NaN scores where not judged."""
    n_classes = len(labelled.names)
    scores = np.full((len(X), n_classes), np.nan)
    sets = np.zeros((len(X), n_classes), dtype=bool)
    for own in rounds:
        said = _class_scores(X, labelled.codes, own.train, own.held, n_classes)
        strange = nonconformity(said)
        known = strange[np.arange(len(strange)), labelled.codes[own.held]]
        judged = own.held[own.test]
        scores[judged] = said[own.test]
        for trial, place, group in zip(judged, own.test, own.compared, strict=True):
            other = group >= 0
            sets[trial] = conformal_p(known[other], group[other], strange[place]) > alpha
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
