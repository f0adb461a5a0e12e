"""Control tasks: what an accuracy is worth beyond the memory of entities.

A decoder that has seen an entity may remember it. The control task gives every value of a carrier a
class at random, with the same classes, so that it can be learned by memory only. Selectivity is
what the label is decoded better than that, where entities are shared between training and test
(Hewitt and Liang 2019, arXiv:1909.03368). The profile, whose folds share no entity, needs no such
subtraction: there a control task is at chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lmri.decode.activity import Activity
from lmri.decode.folds import control_labels, shared_folds
from lmri.decode.labellings import decode_held_out
from lmri.decode.positions import Position
from lmri.decode.profile import CELL, Asked, check_cell, described
from lmri.decode.scoring import balanced_accuracy
from lmri.errors import EvidenceError

LEAST_REPEATS = 2
"""Trials of a value of a carrier, on average: an entity that is met once cannot be remembered."""


def selectivity(
    activity: Activity,
    asked: Asked,
    positions: Sequence[Position],
    left_out: dict[str, str],
    *,
    draws: int,
    seed: int,
) -> xr.Dataset:
    """Decode a label and control tasks with shared entities, in every layer at every position.

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
    draws : int
        Control tasks.
    seed : int
        Of the tasks and folds.

    Returns
    -------
    Dataset
        Balanced ``accuracy`` of the label, that of the ``control`` tasks (mean) with
        ``control_sd``, and their difference ``selectivity``, over (position, layer).

    Raises
    ------
    EvidenceError
        If labels differ within entities, these have too few trials for a control task, or no
        position can be decoded.
    """
    labelled = asked.labelled
    if labelled.table is None:
        # Folds that share a place would also tell what its held-out trial is not.
        raise EvidenceError(
            f"the control task of {labelled.question.owner} needs a label that a carrier carries. "
            f"Every {labelled.carriers[0].name} has several: there is none to be remembered of it."
        )
    repeats = len(labelled.rows) / max(len(own.classes) for own in labelled.carriers)
    if repeats < LEAST_REPEATS:
        raise EvidenceError(
            f"the control task of {labelled.question.owner} needs at least {LEAST_REPEATS} trials "
            f"of each {labelled.carriers[0].name}. Got {repeats:.1f}: what is met once cannot be "
            "remembered."
        )
    # As many folds as carriers have parts: the share that is trained on is the same.
    count = int(asked.folds.parts[0].max()) + 1
    folds = shared_folds(labelled, count, seed)
    labels = np.concatenate([labelled.codes[None], control_labels(labelled, draws, seed)])
    scores = np.full((len(labels), len(positions), len(activity.layers)), np.nan)
    for column, layer in enumerate(activity.layers):
        for row, position in enumerate(positions):
            X = activity.at(layer, position, labelled.rows)
            try:
                check_cell(X, labelled, f"layer {layer}, {position.name}")
                held = decode_held_out(X, labels, folds, len(labelled.names))
            except EvidenceError as error:
                left_out[position.name] = str(error)
                continue
            scores[:, row, column] = balanced_accuracy(held, labels)
    if not np.isfinite(scores).any():
        raise EvidenceError("; ".join(dict.fromkeys(left_out.values())) or "no position to decode")
    task, control = scores[0], scores[1:].mean(axis=0)
    found = xr.Dataset(
        {
            "accuracy": (CELL, task),
            "control": (CELL, control),
            "control_sd": (CELL, scores[1:].std(axis=0, ddof=1)),
            "selectivity": (CELL, task - control),
        },
        coords={
            "position": [position.name for position in positions],
            "layer": activity.layers,
        },
    )
    return found.assign(described(asked)).assign(control_draws=draws)
