"""Sets of units: chosen by what tells a condition from others, and drawn at random beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmri.config import ContrastOptions, LocaliseOptions
from lmri.experiment.outcome import Ground
from lmri.intervene import KINDS, Plan, Unit, feasible
from lmri.localise import Sides, Units, contrast_design, layer_matched, parse_measure, ranked
from lmri.localise.activity import Block
from lmri.localise.contrast_map import activity_of
from lmri.localise.study import Study, open_shards, selection_trials, task_carriers

MEASURES = {
    "expert": "expert.resonance",
    "neuron": "neuron.average_precision",
    "expert_neuron": "expert_neuron.average_precision",
}
"""How units of a kind are ranked: by rate of choice, or as detectors of the condition by larger
activity."""

OFF = {"expert": "mask", "neuron": "zero", "expert_neuron": "zero"}
"""How they are switched off."""

RANDOM = "random sets with as many units of every layer"


def every_unit(ground: Ground, kind: str) -> Units:
    """Name all units of a kind.

    Parameters
    ----------
    ground : Ground
        With the subject.
    kind : str
        The kind.

    Returns
    -------
    Units
        The units.
    """
    anatomy = ground.subject.anatomy
    return Units.of(kind, KINDS[kind].layers(anatomy), *KINDS[kind].shape(anatomy))


def contrast_scores(
    ground: Ground, contrasts: Sequence[ContrastOptions], kind: str, phase: str
) -> tuple[Units, np.ndarray]:
    """Score every unit on the recorded selection trials, for several contrasts of one task.

    Parameters
    ----------
    ground : Ground
        With recordings and stimuli.
    contrasts : sequence of ContrastOptions
        The contrasts.
    kind : str
        One of :data:`MEASURES`.
    phase : str
        Tokens that count.

    Returns
    -------
    units : Units
        The units.
    scores : ndarray of shape (n_contrasts, n_units), float64
        One-sided: larger for units that respond more in the target.
    """
    task, measure = contrasts[0].task, parse_measure(MEASURES[kind])
    study = _study(ground, task)
    activity = activity_of(study, contrasts[0], phase, measure)
    trials, scores = selection_trials(study, contrasts[0]), []
    for contrast in contrasts:
        design = contrast_design(contrast, trials, study.carriers[task])
        sides = activity.sides(design.encode(activity.labels).own()[None], design.weights)
        found = np.full(activity.units.size, np.nan)
        for block in activity.blocks():
            own = block.scores(sides)[0] if measure.counted else _detection(block, sides)
            found[block.where] = own
        scores.append(found)
    return activity.units, np.stack(scores)


def _detection(block: Block, sides: Sides) -> np.ndarray:
    # Published one-sided: a unit that is silent in the target is no detector of it.
    return block.describe(sides)["average_precision_up"]


def _study(ground: Ground, task: str) -> Study:
    table = ground.stimuli[task]
    return Study(
        subject=ground.subject,
        stimuli={task: table},
        recordings={task: open_shards(Path(ground.recordings) / task)},
        carriers={task: task_carriers(table)},
        options=LocaliseOptions(),
        evidence=ground.evidence,
        claims=1,
        seed=ground.seed,
        provenance={},
    )


def leading(units: Units, scores: np.ndarray, count: int) -> list[Unit]:
    """Name the units with the largest scores.

    Parameters
    ----------
    units : Units
        All units.
    scores : ndarray of shape (n_units,)
        Their scores.
    count : int
        How many.

    Returns
    -------
    list of tuple of int
        From the best.
    """
    return units.named(ranked(scores)[:count])


def random_sets(
    ground: Ground, units: Units, chosen: Sequence[Unit], draws: int, stream: int, mode: str
) -> list[list[Unit]]:
    """Draw sets with as many units of every layer as a set has, and none of its own.

    Parameters
    ----------
    ground : Ground
        With the subject and the seed.
    units : Units
        All units of the kind.
    chosen : sequence of tuple of int
        The set.
    draws : int
        Sets asked for; fewer where no more exist.
    stream : int
        Number of the set, so that others are drawn beside another.
    mode : str
        What is done to them: sets that the subject cannot run so are left out.

    Returns
    -------
    list of list of tuple of int
        Distinct sets.
    """
    seed = int(np.random.SeedSequence([ground.seed, 62, stream]).generate_state(1)[0])
    found = layer_matched(list(chosen), units, draws, seed)
    if mode not in {"mask", "force"}:
        return found
    anatomy = ground.subject.anatomy
    return [own for own in found if feasible(Plan(mode, tuple(own), units.kind), anatomy)]


def nested(drawn: Sequence[Unit], chosen: Sequence[Unit]) -> list[Unit]:
    """Keep as many units of every layer of a random set as some chosen ones have.

    Parameters
    ----------
    drawn : sequence of tuple of int
        A random set.
    chosen : sequence of tuple of int
        Units with at most as many in each layer.

    Returns
    -------
    list of tuple of int
        The first drawn of every layer.
    """
    left = Counter(layer for layer, *_ in chosen)
    kept = []
    for unit in drawn:
        if left[unit[0]]:
            left[unit[0]] -= 1
            kept.append(unit)
    return kept
