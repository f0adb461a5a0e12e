"""Removing a skill: neurons moved to where they are elsewhere, or prompts that are not answered.

Three ways are compared on the trials to forget and on those to retain. ``zero`` switches off the
neurons whose preactivations are larger on texts of the skill; ``adjust`` maps the same neurons to
their distribution on other texts (Neuron Adjust); ``key_space`` answers nothing whose keys in the
last layer lie in the hypercube of the skill's.

Source: Li et al. 2025, Effective skill unlearning (arXiv 2503.21730). The released code takes the
variance for the standard deviation, fits it on outputs of the activation function, and draws one
number for all neurons; :mod:`lmri.intervene` does not. Neurons of experts count 0 where their
expert reads no token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.checks import check_choice
from lmri.config import ConditionOptions, SkillsOptions
from lmri.errors import EvidenceError
from lmri.experiment.answers import Answers, Asked, name_of
from lmri.experiment.deciding import PROBABILITY, beyond_random, needed_draws
from lmri.experiment.measuring import change_of, stated, trials_of
from lmri.experiment.outcome import Drawn, Ground, Outcome, Statement
from lmri.experiment.unit_sets import RANDOM, every_unit, leading, random_sets
from lmri.intervene import (
    KINDS,
    Hypercube,
    Plan,
    Unit,
    last_keys,
    preactivation_statistics,
)
from lmri.localise.unit_values import LEAST_DEVIATION
from lmri.validate.change import Change

METHODS = ("zero", "adjust", "key_space")
STATEMENTS = 5
"""Of every skill."""


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


def run(ground: Ground, options: SkillsOptions) -> Outcome:
    """Remove every skill in three ways, and see what else goes.

    Parameters
    ----------
    ground : Ground
        What may be read.
    options : SkillsOptions
        Skills, what must stay, shares of neurons and sizes of the cube.

    Returns
    -------
    Outcome
        Five statements of every skill; tables ``curves`` and ``parts``.

    Raises
    ------
    EvidenceError
        If a task or condition is unknown, or a part has no trial in a split.
    """
    for own in (*options.forget, *options.retain):
        _check(ground, own)
    needed = needed_draws(STATEMENTS * len(options.forget), ground.evidence.alpha)
    statements, notes, curves, parts = [], [], [], []
    for number, skill in enumerate(options.forget):
        removed = _Removal(ground, options, skill, number)
        statements += removed.statements(needed)
        curves.append(removed.curve())
        parts.append(removed.parts())
        notes.append(removed.note())
    tables = {
        "curves": pd.concat(curves, ignore_index=True),
        "parts": pd.concat(parts, ignore_index=True),
    }
    return Outcome(statements, tables, CAPTIONS, FIGURES, notes)


def _check(ground: Ground, own: ConditionOptions) -> None:
    owner = "experiment 'skills'"
    check_choice(own.task, ground.stimuli, "task", owner, EvidenceError)
    if own.condition is not None:
        known = set(ground.stimuli[own.task]["condition"])
        check_choice(own.condition, known, "condition", owner, EvidenceError)


def _skill(ground: Ground, options: SkillsOptions, forget: ConditionOptions, split: str) -> Skill:
    """Trials to forget and to retain; what is forgotten is in no part that is retained."""
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
    kind = "neuron" if ground.subject.anatomy.dense_layers else "expert_neuron"
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


class _Removal:
    """One skill, removed in three ways.

    Parameters
    ----------
    ground : Ground
        The subject.
    options : SkillsOptions
        The options.
    forget : ConditionOptions
        The skill.
    number : int
        Its number, for draws of its own.
    """

    def __init__(
        self, ground: Ground, options: SkillsOptions, forget: ConditionOptions, number: int
    ) -> None:
        self.ground, self.options, self.number = ground, options, number
        selection, calibration, self.skill = (
            _skill(ground, options, forget, split)
            for split in ("selection", "calibration", "evaluation")
        )
        size = every_unit(
            ground, "neuron" if ground.subject.anatomy.dense_layers else "expert_neuron"
        ).size
        self.counts = [max(1, round(share * size)) for share in options.shares]
        self.neurons = skill_neurons(ground, selection, max(self.counts))
        self.layer = KINDS[self.neurons.kind].layers(ground.subject.anatomy)[-1]
        forgotten = [
            prompt
            for prompt, part in zip(selection.asked.prompts, selection.part, strict=True)
            if part == 0
        ]
        self.cube = Hypercube.fit(self._keys(forgotten))
        self.chosen = {m: self._best(calibration, self._falls(calibration, m)) for m in METHODS}
        self.falls = {m: self._falls(self.skill, m) for m in METHODS}

    def _keys(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        return last_keys(
            self.ground.subject, prompts, self.neurons.kind, self.layer, self.ground.rows
        )

    def _falls(self, skill: Skill, method: str) -> Answers:
        """Fall of probability and exact answers at every dose, (n_doses, n_trials)."""
        intact = skill.asked.intact
        if method == "key_space":
            keys = self._keys(skill.asked.prompts)
            is_closed = self.neurons.kind == "expert_neuron"
            inside = np.stack(
                [self.cube.holds(keys, scale, is_closed=is_closed) for scale in self.options.scales]
            )
            # What lies in the cube gets the fixed answer, which is never the right one.
            return Answers(inside * intact.probability, inside * intact.exact)
        plans = [self.neurons.plan(method, self.neurons.ranked[:n]) for n in self.counts]
        found = skill.asked.under(plans)
        return Answers(intact.probability - found.probability, intact.exact - found.exact)

    def _best(self, skill: Skill, falls: Answers) -> int:
        """The dose that takes most from the skill beyond what the part most harmed loses."""
        losses = [skill.losses(fall) for fall in falls.probability]
        return int(np.argmax([own[0] - own[1:].max() for own in losses]))

    def _fall(self, method: str) -> np.ndarray:
        return self.falls[method].probability[self.chosen[method]]

    def statements(self, needed: int) -> list[Statement]:
        """What is claimed of the skill."""
        skill, margin = self.skill, self.ground.evidence.margin
        rows = np.flatnonzero(skill.part == 0)
        slug, name = skill.name.replace(", ", "_"), f"'{skill.name}'"
        adjust, zero = self._fall("adjust"), self._fall("zero")
        units = self.counts[self.chosen["adjust"]]
        found = [
            beyond_random(
                f"{slug}_adjust_forgets",
                f"{name} is lost where {units} neurons are moved to where they are elsewhere",
                skill.asked.change(adjust[rows], rows),
                margin,
                self._random(rows),
                RANDOM,
                needed,
            ),
            stated(
                f"{slug}_key_space_forgets",
                f"{name} is not answered where prompts in its hypercube are not",
                skill.asked.change(self._fall("key_space")[rows], rows),
                threshold=margin,
                score=PROBABILITY,
            ),
            stated(
                f"{slug}_adjust_spares",
                f"moving the neurons of {name} takes more from it, beyond what it takes elsewhere, "
                "than zeroing does",
                self._difference(adjust, zero),
                threshold=margin,
                score=PROBABILITY,
            ),
        ]
        return found + [
            self._retains(f"{slug}_{method}_retains", method, margin)
            for method in ("adjust", "key_space")
        ]

    def _difference(self, first: np.ndarray, second: np.ndarray) -> Change:
        own = self.skill.selectivity(first) - self.skill.selectivity(second)
        # A weighed difference is no rate: without any variation it has no interval.
        return change_of(self.ground, self.skill.asked.carriers, own, is_rate=False)

    def _retains(self, claim: str, method: str, margin: float) -> Statement:
        """State that what is retained loses less than the margin: the part that loses most."""
        fall, skill = self._fall(method), self.skill
        worst = 1 + int(np.argmax(skill.losses(fall)[1:]))
        rows = np.flatnonzero(skill.part == worst)
        way = {"adjust": "neurons are moved", "key_space": "prompts in the cube are not answered"}
        sentence = (
            f"nothing that is retained loses the margin where {way[method]} to remove "
            f"'{skill.name}' (most: '{skill.parts[worst]}')"
        )
        change = skill.asked.change(-fall[rows], rows)
        return stated(claim, sentence, change, threshold=-margin, score=PROBABILITY)

    def _random(self, rows: np.ndarray) -> np.ndarray:
        """Mean fall of the skill where random neurons are moved, (n_draws,)."""
        neurons, count = self.neurons, self.counts[self.chosen["adjust"]]
        sets = random_sets(
            self.ground,
            every_unit(self.ground, neurons.kind),
            neurons.ranked[:count],
            self.options.draws,
            self.number,
            "adjust",
        )
        plans = [neurons.plan("adjust", own) for own in sets]
        intact = self.skill.asked.intact.probability[:, rows]
        return (intact - self.skill.asked.under(plans, rows).probability).mean(axis=1)

    def curve(self) -> pd.DataFrame:
        """What is forgotten against the retained part that loses most, at every dose."""
        rows = []
        for method, dose, is_chosen, fall, exact in self._doses():
            losses, correct = self.skill.losses(fall), self.skill.losses(exact)
            forgotten = np.flatnonzero(self.skill.part == 0)
            effect = self.skill.asked.change(fall[forgotten], forgotten).effect
            rows.append(
                {
                    "skill": self.skill.name,
                    "method": method,
                    "dose": dose,
                    "chosen": is_chosen,
                    "forgotten": losses[0],
                    "low": effect.low,
                    "high": effect.high,
                    "retained_loss": losses[1:].max(),
                    "most_harmed": self.skill.parts[1 + int(losses[1:].argmax())],
                    "exact_forgotten": correct[0],
                    "exact_retained_loss": correct[1:].max(),
                    "n": effect.n,
                    "n_carriers": effect.n_carriers,
                }
            )
        return pd.DataFrame(rows)

    def parts(self) -> pd.DataFrame:
        """What every part loses at the dose that was chosen."""
        rows = []
        intact = self.skill.asked.intact
        for method, dose, is_chosen, fall, exact in self._doses():
            for number, name in enumerate(self.skill.parts if is_chosen else ()):
                at = np.flatnonzero(self.skill.part == number)
                effect = self.skill.asked.change(fall[at], at).effect
                rows.append(
                    {
                        "skill": self.skill.name,
                        "method": method,
                        "dose": dose,
                        "part": name,
                        "role": "retained" if number else "forgotten",
                        "intact": intact.probability[0, at].mean(),
                        "loss": effect.mean,
                        "low": effect.low,
                        "high": effect.high,
                        "exact_intact": intact.exact[0, at].mean(),
                        "exact_loss": exact[at].mean(),
                        "n": effect.n,
                        "n_carriers": effect.n_carriers,
                    }
                )
        return pd.DataFrame(rows)

    def _doses(self):
        for method in METHODS:
            doses = self.options.scales if method == "key_space" else self.options.shares
            falls = self.falls[method]
            for at, dose in enumerate(doses):
                yield (
                    method,
                    dose,
                    at == self.chosen[method],
                    falls.probability[at],
                    falls.exact[at],
                )

    def note(self) -> str:
        """What calibration settled."""
        doses = {
            method: (self.options.scales if method == "key_space" else self.options.shares)[at]
            for method, at in self.chosen.items()
        }
        told = ", ".join(f"{method} {dose:g}" for method, dose in doses.items())
        return f"'{self.skill.name}': doses chosen on calibration trials: {told}."


CAPTIONS = {
    "curves": (
        "Fall of the probability of right answers on evaluation trials: of the skill (forgotten, "
        "with its interval over carriers), and of the retained part that loses most. The dose is "
        "the share of neurons, or the factor of the cube's size; the chosen one did most on "
        "calibration trials beyond what the most harmed part lost."
    ),
    "parts": "Every part at the chosen dose, with exact answers beside the probability.",
}

FIGURES = [
    Drawn(
        table="curves",
        kind="line",
        x="retained_loss",
        y="forgotten",
        low="low",
        high="high",
        series="method",
        title="What is forgotten against what else is lost",
        caption=(
            "Good removal runs up along the left edge. A line along the diagonal takes as much "
            "from what should stay."
        ),
    ),
    Drawn(
        table="parts",
        kind="bars",
        x="part",
        y="loss",
        low="low",
        high="high",
        series="method",
        title="What every part loses",
        caption=(
            "At the doses that calibration chose: the first bars should be high and all others "
            "near 0."
        ),
    ),
]
