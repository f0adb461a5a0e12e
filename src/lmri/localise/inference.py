"""Inference on maps: permutation of the carriers, max-statistic, false discovery rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from lmri.errors import EvidenceError
from lmri.localise.activity import UNITS_AT_ONCE, Activity, Block
from lmri.localise.design import Design
from lmri.localise.labelling import Labelling
from lmri.localise.max_statistic import MaxStatistic

BATCH = 250
"""Relabellings computed at once."""

TRIES = 20
"""Batches drawn for each that is needed, at most."""


@dataclass(frozen=True)
class Inference:
    """p-values of a map: for larger scores, or for larger absolute scores if it is two-sided.

    Attributes
    ----------
    p : ndarray of the shape of the units
        ``(1 + relabellings with a score as large) / (1 + relabellings)`` of each unit.
    p_max : ndarray of the shape of the units
        The same against the largest score of any unit: family-wise.
    q : ndarray of the shape of the units
        Benjamini-Hochberg over ``p``.
    """

    p: np.ndarray
    p_max: np.ndarray
    q: np.ndarray


def permutation_test(
    activity: Activity, design: Design, permutations: int, seed: int
) -> tuple[np.ndarray, Inference]:
    """Score every unit and test it by exchanging the carriers.

    Blocks of units are scored one after another and only the maxima are kept: memory depends
    neither on the number of units nor of trials.

    Parameters
    ----------
    activity : Activity
        Rows, units and their scores.
    design : Design
        The design.
    permutations : int
        Relabellings.
    seed : int
        Seed of the relabellings.

    Returns
    -------
    observed : ndarray of the shape of the units, float64
        The scores; NaN for a unit without one.
    inference : Inference
        The p-values.
    """
    labelling = design.encode(activity.labels)
    own = activity.sides(labelling.own()[None], design.weights)
    labels = relabellings(labelling, permutations, np.random.default_rng([seed, 4]))
    tested = MaxStatistic(permutations, two_sided=activity.two_sided)
    observed, p = np.full(activity.units.size, np.nan), np.ones(activity.units.size)
    for block in activity.blocks():
        for part in block.parts(UNITS_AT_ONCE):
            observed[part.where] = part.scores(own)[0]
            null = _null(activity, part, labels, design)
            p[part.where] = tested.add(observed[part.where], null)
    shape = activity.units.shape
    q = false_discovery_control(p)
    p_max = tested.p_max(observed)
    return observed.reshape(shape), Inference(*(x.reshape(shape) for x in (p, p_max, q)))


def relabellings(labelling: Labelling, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw relabellings of the rows, a batch at a time.

    Parameters
    ----------
    labelling : Labelling
        Of the rows.
    count : int
        How many.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    ndarray of shape (count, n_rows), int16
        Condition of every row; -1 is none. Each has rows of every condition that there is.

    Raises
    ------
    EvidenceError
        If hardly any relabelling has.
    """
    used = np.unique(labelling.own())
    used = used[used >= 0]
    kept: list[np.ndarray] = []
    missing = count
    for _ in range(TRIES * -(-count // BATCH)):
        if missing == 0:
            return np.concatenate(kept)
        drawn = labelling.exchanged(rng, min(BATCH, missing)).astype(np.int16)
        # On an incomplete grid a relabelling may leave a condition without a trial.
        complete = (drawn[:, None, :] == used[:, None]).any(axis=2).all(axis=1)
        kept.append(drawn[complete])
        missing -= int(complete.sum())
    if missing == 0:
        return np.concatenate(kept)
    raise EvidenceError(
        "Exchange of the carriers nearly always leaves a condition without a trial: give the task "
        "trials of more combinations of its carriers."
    )


def _null(activity: Activity, part: Block, labels: np.ndarray, design: Design) -> np.ndarray:
    parts = []
    for start in range(0, len(labels), BATCH):
        sides = activity.sides(labels[start : start + BATCH], design.weights)
        parts.append(part.scores(sides))
    return np.concatenate(parts)


def check_resolution(
    design: Design, trials: pd.DataFrame, alpha: float, owner: str, *, two_sided: bool = False
) -> None:
    """Refuse a test that could not reach its level with any data.

    Parameters
    ----------
    design : Design
        The design.
    trials : DataFrame
        Selection trials.
    alpha : float
        Level of the test.
    owner : str
        The contrast, for the error.
    two_sided : bool
        Whether a score counts by its absolute value: a labelling and the one with the sides
        exchanged then count alike, and p is at least ``2 / relabellings``.

    Raises
    ------
    EvidenceError
        If the carriers allow fewer than ``1 / alpha`` different relabellings, or ``2 / alpha``.
    """
    count, alike = design.relabellings(trials), 2 if two_sided else 1
    needed = math.ceil(alike / alpha)
    if count < needed:  # which may be a whole number beyond all floats
        sizes = ", ".join(
            f"{len(kind)} of '{name}'"
            for name, kind in zip(design.carriers, design.classes, strict=True)
        )
        raise EvidenceError(
            f"{owner}: the carriers in the selection split ({sizes}) allow {count} relabellings; "
            f"a {'two-sided ' if two_sided else ''}test at {alpha} needs at least "
            f"{needed}. Add carriers or enlarge "
            "the share of 'splits.selection'."
        )
