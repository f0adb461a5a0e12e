"""Skills: their trials, and the neurons whose preactivations rise on their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.config import ConditionOptions, SkillsOptions
from lmri.errors import EvidenceError
from lmri.experiment.answers import Asked, name_of
from lmri.experiment.measuring import trials_of
from lmri.experiment.outcome import Ground
from lmri.experiment.unit_sets import every_unit, leading
from lmri.intervene import Plan, Unit, preactivation_statistics
from lmri.localise.unit_values import LEAST_DEVIATION


@dataclass(frozen=True)
class Skill:
    """A skill to remove, in one split.

    Attributes
    ----------
    name : str
        Task, and condition if there is one.
    asked : Asked
        Trials to forget, then those to retain.
    part : ndarray of shape (n_trials,), int64
        0 of what is forgotten; from 1 on the parts that are retained.
    parts : tuple of str
        Their names.
    """

    name: str
    asked: Asked
    part: np.ndarray
    parts: tuple[str, ...]

    def losses(self, fall: np.ndarray) -> np.ndarray:
        """Mean fall of every part, (n_parts,)."""
        return np.array([fall[self.part == i].mean() for i in range(len(self.parts))])

    def selectivity(self, fall: np.ndarray) -> np.ndarray:
        """Weigh falls so that their mean is that of what is forgotten less that of the rest.

        Parameters
        ----------
        fall : ndarray of shape (n_trials,)
            Fall of every trial.

        Returns
        -------
        ndarray of shape (n_trials,)
            Every retained part counts alike.
        """
        counts = np.bincount(self.part)
        weights = np.full(len(counts), -1 / (len(counts) - 1))
        weights[0] = 1.0
        return fall * (weights * len(fall) / counts)[self.part]


@dataclass(frozen=True)
class Neurons:
    """What the texts of a skill do to neurons.

    Attributes
    ----------
    kind : str
        ``neuron`` of dense MLPs, or ``expert_neuron`` where there are none.
    ranked : list of tuple of int
        Neurons whose mean preactivation rises most on texts of the skill, from the first.
    numbers : dict of int to ndarray of shape (units of a layer ..., 4)
        Mean and deviation on texts of the skill, and on others.
    """

    kind: str
    ranked: list[Unit]
    numbers: Mapping[int, np.ndarray]

    def plan(self, mode: str, units: Sequence[Unit]) -> Plan:
        """The plan that switches units off (``zero``) or moves them (``adjust``)."""
        if mode == "zero":
            return Plan(mode, tuple(units), self.kind)
        own = {unit: self.numbers[unit[0]][unit[1:]].tolist() for unit in units}
        return Plan.of(mode, units, self.kind, own)


def skill_of(ground: Ground, options: SkillsOptions, forget: ConditionOptions, split: str) -> Skill:
    """Trials to forget and to retain in a split; what is forgotten is in no part that is retained.

    Parameters
    ----------
    ground : Ground
        The stimuli.
    options : SkillsOptions
        What must stay.
    forget : ConditionOptions
        The skill.
    split : str
        The split.

    Returns
    -------
    Skill
        The trials.

    Raises
    ------
    EvidenceError
        If there is nothing to forget or to retain.
    """
    named, tables = [name_of(forget)], []
    tables.append(_trials(ground, forget, split, options.trials))
    for own in options.retain:
        table = _trials(ground, own, split, options.trials)
        if own.task == forget.task:
            forgotten = forget.condition is None or table["condition"] == forget.condition
            table = table[~(table["condition"].notna() & forgotten)]
        if len(table):
            named.append(name_of(own))
            tables.append(table)
    if len(tables) == 1 or tables[0].empty:
        raise EvidenceError(
            "The experiment 'skills' must have trials to forget and to retain in the split "
            f"'{split}'. Got {len(tables[0])} of '{named[0]}' and {len(tables) - 1} parts to "
            "retain."
        )
    part = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    asked = Asked(ground, pd.concat(tables, ignore_index=True))
    return Skill(named[0], asked, part, tuple(named))


def _trials(ground: Ground, own: ConditionOptions, split: str, most: int) -> pd.DataFrame:
    conditions = () if own.condition is None else (own.condition,)
    return trials_of(ground, own.task, split, conditions, most)


def neuron_kind(ground: Ground) -> str:
    """Neurons of dense MLPs, or of experts where a subject has none."""
    return "neuron" if ground.subject.anatomy.dense_layers else "expert_neuron"


def skill_neurons(ground: Ground, skill: Skill, most: int) -> Neurons:
    """Rank neurons by how much their mean preactivation rises on texts of a skill.

    ``score = sum over the skill's tokens / tokens - sum over others' / tokens``, one-sided as
    published; tokens that the expert of a neuron does not read count 0.

    Parameters
    ----------
    ground : Ground
        The subject.
    skill : Skill
        Selection trials; prompts with their right answers are the texts.
    most : int
        Neurons that are ranked.

    Returns
    -------
    Neurons
        With their distributions.
    """
    kind = neuron_kind(ground)
    texts = [[*p, *r] for p, r in zip(skill.asked.prompts, skill.asked.references, strict=True)]
    sides, means = [], []
    for is_skill in (True, False):
        own = [t for t, part in zip(texts, skill.part, strict=True) if (part == 0) == is_skill]
        found = preactivation_statistics(ground.subject, own, ground.rows, kind)
        sides.append(found)
        tokens = sum(map(len, own))
        means.append(
            np.concatenate([(f[..., 0] * f[..., 2] / tokens).reshape(-1) for f in found.values()])
        )
    numbers = {
        layer: np.concatenate([_floored(side[layer]) for side in sides], axis=-1)
        for layer in sides[0]
    }
    ranked = leading(every_unit(ground, kind), means[0] - means[1], most)
    return Neurons(kind, ranked, numbers)


def _floored(found: np.ndarray) -> np.ndarray:
    """Mean and deviation; a neuron that does not vary gets a density all the same."""
    return np.stack([found[..., 0], np.maximum(found[..., 1], LEAST_DEVIATION)], axis=-1)
