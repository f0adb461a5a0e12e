"""Temporal generalisation: whether a label is written in the same code at all positions.

A decoder that is trained at one position is judged at every other, on held-out carriers. A code
that stays gives a square, one that changes from token to token a diagonal (King and Dehaene 2014,
Trends in Cognitive Sciences 18; ``GeneralizingEstimator`` of mne).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lmri.decode.activity import Activity
from lmri.decode.estimator import COMPONENTS, SHRINKAGES, masked_space
from lmri.decode.folds import Fold
from lmri.decode.labellings import Discriminants, HeldOut, odds_of
from lmri.decode.positions import Position
from lmri.decode.profile import Asked, check_cell, described
from lmri.decode.scoring import STATISTICS, permutation_test, scores_of
from lmri.errors import EvidenceError

SHRINKAGE = SHRINKAGES[len(SHRINKAGES) // 2]
"""Of every decoder: one that was chosen where it is trained would not be the same elsewhere."""

LEAST_POSITIONS = 2


def generalise(
    activity: Activity,
    asked: Asked,
    positions: Sequence[Position],
    left_out: dict[str, str],
) -> xr.Dataset:
    """Train at every position and judge at every position, layer by layer.

    Parameters
    ----------
    activity : Activity
        Activity of the task.
    asked : Asked
        What is decoded.
    positions : sequence of Position
        Where.
    left_out : dict of str to str
        Takes why a position is not there.

    Returns
    -------
    Dataset
        ``value``, ``p``, ``p_max`` (over layers and pairs of positions), ``null_mean`` and
        ``null_upper`` over (statistic, layer, train_position, test_position).

    Raises
    ------
    EvidenceError
        If fewer than :data:`LEAST_POSITIONS` positions can be decoded.
    """
    kept = [own for own in positions if _usable(activity, asked, own, left_out)]
    if len(kept) < LEAST_POSITIONS:
        raise EvidenceError(
            f"temporal generalisation of {asked.labelled.question.owner} needs at least "
            f"{LEAST_POSITIONS} positions. Got {len(kept)}: "
            f"{'; '.join(dict.fromkeys(left_out.values())) or 'no more were asked for'}"
        )
    shape = (len(activity.layers), len(kept), len(kept))
    scores = np.full((len(STATISTICS), len(asked.labels), *shape), np.nan)
    for number, layer in enumerate(activity.layers):
        X = np.stack([activity.at(layer, own, asked.labelled.rows) for own in kept])
        for train in range(len(kept)):
            across = decode_across(
                X, asked.labels, asked.folds.folds, len(asked.labelled.names), train
            )
            for test, held in enumerate(across):
                scores[:, :, number, train, test] = scores_of(held, asked.labels)
    tested = permutation_test(scores.reshape(*scores.shape[:2], -1))
    dims = ("statistic", "layer", "train_position", "test_position")
    names = [own.name for own in kept]
    found = xr.Dataset(
        {
            name: (dims, getattr(tested, name).reshape(len(STATISTICS), *shape))
            for name in ("value", "p", "p_max", "null_mean", "null_upper")
        },
        coords={
            "statistic": list(STATISTICS),
            "layer": activity.layers,
            "train_position": names,
            "test_position": names,
        },
    )
    return found.assign(described(asked))


def decode_across(
    X: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[Fold],
    n_classes: int,
    train: int,
) -> list[HeldOut]:
    """Train at one position, and judge what folds hold out at all of them.

    Parameters
    ----------
    X : ndarray of shape (n_positions, n_trials, n_units)
        Activity; NaN of trials without a token.
    labels : ndarray of shape (n_labellings, n_trials), int64
        Labellings.
    folds : sequence of Fold
        The same at all positions: no trial is judged by a decoder that saw its carrier.
    n_classes : int
        Number of classes.
    train : int
        Position that is trained at.

    Returns
    -------
    list of HeldOut
        One for each position.
    """
    present = np.isfinite(X).all(axis=2)
    odds = np.full((len(X), *labels.shape, n_classes), np.nan)
    fold_of = np.full(present.shape, -1, dtype=np.int64)
    for number, fold in enumerate(folds):
        own = fold.train[present[train][fold.train]]
        if len(own) < 2:
            continue
        space = masked_space(X[train, own], None, COMPONENTS)
        made = Discriminants(space.transform(X[train, own]), labels[:, own], n_classes)
        rules = made.rules(np.full(len(labels), SHRINKAGE))
        for test in range(len(X)):
            rows = fold.test[present[test][fold.test]]
            if len(rows):
                odds[test][:, rows] = odds_of(space.transform(X[test, rows]), *rules)
                fold_of[test, rows] = number
    return [HeldOut(*pair) for pair in zip(odds, fold_of, strict=True)]


def _usable(activity: Activity, asked: Asked, position: Position, left_out: dict[str, str]) -> bool:
    try:
        for layer in activity.layers:
            X = activity.at(layer, position, asked.labelled.rows)
            check_cell(X, asked.labelled, f"layer {layer}, {position.name}")
    except EvidenceError as error:
        left_out[position.name] = str(error)
        return False
    return True
