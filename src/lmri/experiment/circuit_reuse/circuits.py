"""Circuits of behaviours: the units whose absence, one at a time, costs most; what they share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd

from lmri.checks import check_choice
from lmri.config import CircuitReuseOptions
from lmri.errors import EvidenceError
from lmri.experiment.answers import Asked, name_of
from lmri.experiment.measuring import random_of, trials_of
from lmri.experiment.outcome import Ground, Statement
from lmri.experiment.unit_sets import RANDOM, every_unit, leading, random_sets
from lmri.intervene import KINDS, Plan, Unit, means_of
from lmri.localise import Units
from lmri.localise.overlap import overlap, overlap_table
from lmri.validate.statistics import rank_p

OFF = {"expert": "mask", "head": "zero", "neuron": "zero"}
ON = {"expert": "force", "head": "clamp", "neuron": "clamp"}
"""How units are switched off, and on: experts forced, others at their mean where they belong."""

FLOOR = 1e-12
"""Probability below which answers are not told apart."""


@dataclass
class Behaviours:
    """What is asked, and the circuits.

    Attributes
    ----------
    ground : Ground
        The subject.
    options : CircuitReuseOptions
        The options.
    names : tuple of str
        Of the behaviours.
    asked : dict of (str, str) to Asked
        Trials by split and behaviour: as many as the options say, and all under "all <split>".
    drops : list of ndarray of shape (n_units, n_trials)
        Fall of the log-probability of right answers on selection trials without each unit.
    """

    ground: Ground
    options: CircuitReuseOptions
    names: tuple[str, ...]
    asked: dict[tuple[str, str], Asked]
    drops: list[np.ndarray] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Kind of the units."""
        return self.options.kind

    @property
    def units(self) -> Units:
        """All units."""
        return every_unit(self.ground, self.kind)

    @cached_property
    def circuits(self) -> list[list[Unit]]:
        """Units of every behaviour, from the one that costs most."""
        return [leading(self.units, own.mean(axis=1), self.options.units) for own in self.drops]

    def off(self, units: Sequence[Unit]) -> Plan:
        """The plan that switches units off."""
        return Plan(OFF[self.kind], tuple(units), self.kind)

    def on(self, units: Sequence[Unit], means: Mapping[int, np.ndarray] | None) -> Plan:
        """The plan that switches units on: experts forced, heads at what they write elsewhere."""
        values = None if means is None else means_of(means, units)
        return Plan.of(ON[self.kind], units, self.kind, values)

    def random(self, number: int, chosen: Sequence[Unit], mode: str) -> list[list[Unit]]:
        """Random sets beside a circuit."""
        return random_sets(self.ground, self.units, chosen, self.options.draws, number, mode)


def find_circuits(ground: Ground, options: CircuitReuseOptions) -> Behaviours:
    """Rank the units of every behaviour by what their absence costs, one at a time.

    Parameters
    ----------
    ground : Ground
        The subject.
    options : CircuitReuseOptions
        Behaviours and kind of units.

    Returns
    -------
    Behaviours
        With their circuits.

    Raises
    ------
    EvidenceError
        If a task or condition is unknown, a split has no trial of a behaviour, or the subject has
        no more units than a circuit.
    """
    found = _asked(ground, options)
    every = found.units.named(np.arange(found.units.size))
    plans = [found.off([unit]) for unit in every]
    for name in found.names:
        asked = found.asked["selection", name]
        likely = np.log(np.maximum(asked.under(plans).probability, FLOOR))
        found.drops.append(np.log(np.maximum(asked.intact.probability, FLOOR)) - likely)
    return found


def _asked(ground: Ground, options: CircuitReuseOptions) -> Behaviours:
    owner, asked = "experiment 'circuit_reuse'", {}
    names = tuple(name_of(own) for own in options.behaviours)
    size = every_unit(ground, options.kind).size
    if size <= options.units:
        raise EvidenceError(
            f"The 'kind' of {owner} must be one of which the subject has more than 'units' "
            f"({options.units}). Got '{options.kind}', of which '{ground.subject.name}' has {size}."
        )
    for own, name in zip(options.behaviours, names, strict=True):
        check_choice(own.task, ground.stimuli, "task", owner, EvidenceError)
        conditions = () if own.condition is None else (own.condition,)
        for condition in conditions:
            known = set(ground.stimuli[own.task]["condition"])
            check_choice(condition, known, "condition", owner, EvidenceError)
        for split in ("selection", "calibration", "evaluation"):
            every = trials_of(ground, own.task, split, conditions)
            if every.empty:
                raise EvidenceError(
                    f"The behaviour '{name}' of {owner} must have trials in the split '{split}'. "
                    "Got none."
                )
            asked[f"all {split}", name] = Asked(ground, every)
            few = trials_of(ground, own.task, split, conditions, options.trials)
            asked[split, name] = Asked(ground, few)
    return Behaviours(ground, options, names, asked)


def _coefficients(sets: Sequence[Sequence[Unit]], universe: int) -> float:
    """Mean overlap coefficient of all pairs."""
    pairs = list(combinations(sets, 2))
    return float(np.mean([overlap(a, b, universe)["coefficient"] for a, b in pairs]))


def overlap_statement(found: Behaviours, needed: int) -> Statement:
    """State that circuits share more units than random ones of the same layers.

    Parameters
    ----------
    found : Behaviours
        With their circuits.
    needed : int
        Random draws, at least.

    Returns
    -------
    Statement
        Of the mean overlap coefficient of all pairs beyond what is expected; its interval is over
        carriers, in which circuits are found again.
    """
    circuits, size = found.circuits, found.units.size
    observed = _coefficients(circuits, size)
    rng = random_of(found.ground, "circuit_reuse", "overlap")
    random = [
        _coefficients([_shuffled(found, own, rng) for own in circuits], size)
        for _ in range(max(found.options.draws, needed))
    ]
    expected = float(np.mean(random))
    resampled = np.array(_resampled(found)) - expected
    alpha = found.ground.evidence.alpha
    low, high = np.quantile(resampled, [alpha / 2, 1 - alpha / 2])
    tail = 2 * (1 + int((resampled <= 0).sum())) / (1 + len(resampled))
    pairs = len(found.names) * (len(found.names) - 1) // 2
    asked = [found.asked["selection", name] for name in found.names]
    return Statement(
        claim="overlap",
        statement=(
            f"circuits of {found.options.units} {KINDS[found.kind].plural} share more than random "
            "ones do"
        ),
        effect=observed - expected,
        low=float(low),
        high=float(high),
        threshold=0.0,
        p=max(min(1.0, tail), rank_p(observed, random)),
        n=pairs,
        n_carriers=min(own.change(np.zeros(len(own.trials))).effect.n_carriers for own in asked),
        controls=f"{len(random)} {RANDOM}",
        score="overlap coefficient",
        split="selection",
    )


def _shuffled(found: Behaviours, circuit: Sequence[Unit], rng: np.random.Generator) -> list[Unit]:
    """As many units of every layer, any of them."""
    units = found.units
    counts = np.bincount(units.positions(circuit) // units.per_layer, minlength=len(units.layers))
    picks = [
        layer * units.per_layer + rng.choice(units.per_layer, size=count, replace=False)
        for layer, count in enumerate(counts)
    ]
    return units.named(np.concatenate(picks))


def _resampled(found: Behaviours) -> list[float]:
    """Overlap of circuits found again in resampled carriers."""
    scores = [
        found.asked["selection", name].carriers.weights @ drops.T  # (n_draws, n_units)
        for name, drops in zip(found.names, found.drops, strict=True)
    ]
    draws = min(map(len, scores))
    return [
        _coefficients(
            [leading(found.units, own[i], found.options.units) for own in scores], found.units.size
        )
        for i in range(min(draws, OVERLAPS))
    ]


OVERLAPS = 500
"""Resamples in which circuits are found again."""


def overlaps(found: Behaviours) -> pd.DataFrame:
    """Tabulate what every pair of circuits shares.

    Parameters
    ----------
    found : Behaviours
        With their circuits.

    Returns
    -------
    DataFrame
        See :func:`lmri.localise.overlap.overlap_table`.
    """
    sets = dict(zip(found.names, found.circuits, strict=True))
    return overlap_table(sets, found.units.size)


def circuit_units(found: Behaviours) -> pd.DataFrame:
    """Tabulate the units of every circuit with what the absence of each costs.

    Parameters
    ----------
    found : Behaviours
        With their circuits.

    Returns
    -------
    DataFrame
        ``behaviour``, ``rank``, ``unit`` and ``cost`` (nats).
    """
    rows = []
    for number, name in enumerate(found.names):
        costs = found.drops[number].mean(axis=1)
        for rank, unit in enumerate(found.circuits[number]):
            cost = float(costs[found.units.positions([unit])[0]])
            rows.append(
                {"behaviour": name, "rank": rank, "unit": json.dumps(list(unit)), "cost": cost}
            )
    return pd.DataFrame(rows)
