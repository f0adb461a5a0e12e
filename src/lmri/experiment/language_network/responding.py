"""How units respond to sentences and to lists of words: read from recordings, and ranked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.errors import EvidenceError
from lmri.experiment.measuring import random_of
from lmri.experiment.outcome import Ground
from lmri.intervene import KINDS, Unit
from lmri.localise import STATISTICS, Sides, Units
from lmri.localise.streams import Choice, pooled_rows, statistics
from lmri.localise.study import open_shards

TARGET, SCRAMBLED, LISTS = "sentence", "shuffled", "nonwords"
"""Conditions of the task, see the probe of language."""

ACTIVITY = {"neuron": "neuron/activation", "residual": "residual/residual"}
"""What is recorded of each kind of units."""


@dataclass(frozen=True)
class Responses:
    """Activity of units in the content of trials.

    Attributes
    ----------
    conditions, carriers : ndarray of shape (n_trials,)
        Condition and sentence of every trial.
    values : ndarray of shape (n_trials, n_units), float64
        Absolute mean activity over the content.
    units : Units
        The units.
    """

    conditions: np.ndarray
    carriers: np.ndarray
    values: np.ndarray
    units: Units


def read_responses(ground: Ground, task: str, kind: str, split: str = "selection") -> Responses:
    """Read the activity of units in the trials of a split.

    Parameters
    ----------
    ground : Ground
        With the recordings.
    task : str
        The task of language.
    kind : str
        Kind of the units.
    split : str
        The split.

    Returns
    -------
    Responses
        One row for each trial.
    """
    shards, node = open_shards(ground.recordings / task), ACTIVITY[kind].split("/")[0]
    mean = statistics(shards[0], node)["mean"]
    tables, values = [], []
    for trials, phases, (own,) in pooled_rows(shards, Choice(split), f"pooled/{ACTIVITY[kind]}"):
        activity = own[:, phases["content"], mean]
        if kind == "residual":
            activity = activity[:, :, ground.subject.anatomy.places.index("after")]
        tables.append(trials)
        values.append(np.abs(activity.astype(np.float64)).reshape(len(trials), -1))
    if not tables:
        raise EvidenceError(f"The task '{task}' must have recorded trials of the split '{split}'.")
    table = pd.concat(tables, ignore_index=True)
    layers = KINDS[kind].layers(ground.subject.anatomy)
    units = Units.of(kind, layers, *KINDS[kind].shape(ground.subject.anatomy))
    columns = (table[name].to_numpy() for name in ("condition", "carrier_sentence"))
    return Responses(*columns, np.concatenate(values), units)


def response_scores(responses: Responses, target: str, control: str) -> np.ndarray:
    """Welch's t of every unit, larger where it responds more to the target.

    Parameters
    ----------
    responses : Responses
        Activity.
    target, control : str
        Conditions.

    Returns
    -------
    ndarray of shape (n_units,), float64
        Minus infinity for a unit that never varies.
    """
    labels = np.where(responses.conditions == target, 0, -1)
    labels = np.where(responses.conditions == control, 1, labels)
    return _t_scores(labels[None], responses.values)[0]


def _t_scores(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    scores = STATISTICS["welch_t"].evaluate(Sides(labels, np.array([1.0, -1.0])), values)
    return np.where(np.isfinite(scores), scores, -np.inf)


def sham_units(ground: Ground, responses: Responses, draws: int) -> list[list[Unit]]:
    """Make the same selection between random halves of the lists that mean nothing.

    Parameters
    ----------
    ground : Ground
        With the seed.
    responses : Responses
        Activity.
    draws : int
        Halvings.

    Returns
    -------
    list of list of tuple of int
        All units of every draw, the best first.
    """
    lists = np.flatnonzero(responses.conditions == LISTS)
    rng = random_of(ground, "language_network", "shams")
    labels = np.full((draws, len(responses.conditions)), -1)
    for own in labels:
        order = rng.permutation(lists)
        own[order[: len(order) // 2]], own[order[len(order) // 2 :]] = 0, 1
    scores = [_t_scores(own[None], responses.values)[0] for own in labels]
    return [responses.units.named(np.argsort(-own, kind="stable")) for own in scores]
