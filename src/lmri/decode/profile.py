"""Profiles: how well each label is decoded in every layer at every position, beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from lmri.decode.activity import Activity
from lmri.decode.folds import Folds, carrier_folds, exchanged_labels
from lmri.decode.intervals import accuracy_interval
from lmri.decode.labellings import decode_held_out
from lmri.decode.positions import Position
from lmri.decode.questions import Labelled
from lmri.decode.scoring import STATISTICS, permutation_test, scores_of
from lmri.errors import EvidenceError

CELL = ("position", "layer")

FEWEST = 0.5
"""Share of the trials that must have a token at a position, or it is left out."""


@dataclass(frozen=True)
class Asked:
    """A label with its folds and labellings, the same for all analyses.

    Attributes
    ----------
    labelled : Labelled
        Trials and labels.
    folds : Folds
        Folds over what carries them.
    labels : ndarray of shape (1 + draws, n), int64
        Labels, and exchanged ones.
    """

    labelled: Labelled
    folds: Folds
    labels: np.ndarray


def ask(labelled: Labelled, *, folds: int, draws: int, seed: int) -> Asked:
    """Prepare the folds and the exchanged labels of a question.

    Parameters
    ----------
    labelled : Labelled
        Trials and labels.
    folds : int
        Parts of every carrier.
    draws, seed : int
        Of the null.

    Returns
    -------
    Asked
        The question, ready to be decoded.

    Raises
    ------
    EvidenceError
        As :func:`lmri.decode.folds.carrier_folds`.
    """
    made = carrier_folds(labelled, folds, seed)
    return Asked(labelled, made, exchanged_labels(labelled, made, draws, seed))


def check_cell(X: np.ndarray, labelled: Labelled, where: str) -> None:
    """Refuse activity that cannot be decoded.

    Parameters
    ----------
    X : ndarray of shape (n_trials, n_units)
        Activity; NaN of trials without a token.
    labelled : Labelled
        The trials.
    where : str
        Layer and position, for the message.

    Raises
    ------
    EvidenceError
        If fewer than :data:`FEWEST` of the trials have a token, or no unit varies.
    """
    present = np.isfinite(X).all(axis=1)
    owner, needed = labelled.question.owner, int(np.ceil(FEWEST * len(X)))
    if present.sum() < needed:
        raise EvidenceError(
            f"{owner} at {where} needs a token there in at least {needed} of {len(X)} trials. Got "
            f"{int(present.sum())}."
        )
    if not (np.ptp(X[present], axis=0) > 0).any():
        raise EvidenceError(
            f"{owner} at {where} needs at least 1 unit that varies. All {X.shape[1]} are constant "
            f"over {int(present.sum())} trials."
        )


def profile(
    activity: Activity,
    asked: Asked,
    positions: Sequence[Position],
    left_out: dict[str, str],
    seed: int = 0,
) -> xr.Dataset:
    """Decode a label in every layer at every position.

    Parameters
    ----------
    activity : Activity
        Activity of the task.
    asked : Asked
        What is decoded.
    positions : sequence of Position
        Where.
    left_out : dict of str to str
        Takes why a position is not there, under its name.
    seed : int
        Of the intervals.

    Returns
    -------
    Dataset
        ``value``, ``p``, ``p_max`` (over layers and positions), ``null_mean`` and ``null_upper``
        (95 %) over (statistic, position, layer); ``low`` and ``high``, the 95 % interval over
        carriers of the balanced accuracy, and ``n`` trials, over (position, layer).

    Raises
    ------
    EvidenceError
        If no position can be decoded.
    """
    labelled, labels = asked.labelled, asked.labels
    shape = (len(positions), len(activity.layers))
    scores = np.full((len(STATISTICS), len(labels), *shape), np.nan)
    bounds = np.full((2, *shape), np.nan)
    counts = np.zeros(shape, dtype=np.int64)
    for column, layer in enumerate(activity.layers):
        for row, position in enumerate(positions):
            X = activity.at(layer, position, labelled.rows)
            try:
                check_cell(X, labelled, f"layer {layer}, {position.name}")
                held = decode_held_out(X, labels, asked.folds.folds, len(labelled.names))
            except EvidenceError as error:
                left_out[position.name] = str(error)
                continue
            scores[:, :, row, column] = scores_of(held, labels)
            bounds[:, row, column] = accuracy_interval(held, labelled, seed)
            counts[row, column] = int((held.fold >= 0).sum())
    if not counts.any():
        raise EvidenceError("; ".join(dict.fromkeys(left_out.values())) or "no position to decode")
    tested = permutation_test(scores.reshape(*scores.shape[:2], -1))
    of_statistic = ("statistic", *CELL)
    variables = {
        name: (of_statistic, getattr(tested, name).reshape(len(STATISTICS), *shape))
        for name in ("value", "p", "p_max", "null_mean", "null_upper")
    }
    found = xr.Dataset(
        {**variables, "low": (CELL, bounds[0]), "high": (CELL, bounds[1]), "n": (CELL, counts)},
        coords={
            "statistic": list(STATISTICS),
            "position": [position.name for position in positions],
            "layer": activity.layers,
        },
    )
    return found.assign(described(asked))


def described(asked: Asked) -> dict[str, tuple[tuple[str, ...], object]]:
    """Say what was decoded: variables without dimensions, for a dataset of any analysis.

    Parameters
    ----------
    asked : Asked
        What was decoded.

    Returns
    -------
    dict
        ``classes`` (with their trials), ``exchanged`` (what the null exchanges), ``chance``,
        ``carriers`` (values of the carrier with the fewest), ``folds`` and ``draws``.
    """
    own = asked.labelled
    pairs = zip(own.names, own.counts, strict=True)
    return {
        "classes": ((), ", ".join(f"{name} ({count})" for name, count in pairs)),
        "exchanged": ((), own.exchanged),
        "chance": ((), 1 / len(own.names)),
        "carriers": ((), min(len(carrier.classes) for carrier in own.carriers)),
        "folds": ((), len(asked.folds.folds)),
        "draws": ((), len(asked.labels) - 1),
    }
