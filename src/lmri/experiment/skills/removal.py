"""One skill removed in three ways: what is forgotten, and what else is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lmri.config import ConditionOptions, SkillsOptions
from lmri.experiment.answers import Answers
from lmri.experiment.deciding import PROBABILITY, Kept, all_stay, beyond_random
from lmri.experiment.measuring import change_of, stated
from lmri.experiment.outcome import Ground, Statement
from lmri.experiment.skills.neurons import Skill, neuron_kind, skill_neurons, skill_of
from lmri.experiment.unit_sets import RANDOM, every_unit, random_sets
from lmri.intervene import KINDS, Hypercube, last_keys
from lmri.validate.change import Change

METHODS = ("zero", "adjust", "key_space")


class Removal:
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
            skill_of(ground, options, forget, split)
            for split in ("selection", "calibration", "evaluation")
        )
        size = every_unit(ground, neuron_kind(ground)).size
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

    @property
    def slug(self) -> str:
        """Name of the skill in names of claims and tables."""
        return re.sub(r"[^a-z0-9]+", "_", self.skill.name.lower()).strip("_")

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
        slug, name = self.slug, f"'{skill.name}'"
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
        """State that what is retained loses less than the margin where the skill is lost."""
        fall, skill = self._fall(method), self.skill
        intact = skill.asked.intact.probability[0]
        kept = {}
        for part, name in enumerate(skill.parts[1:], start=1):
            rows = np.flatnonzero(skill.part == part)
            kept[name] = Kept(intact[rows], skill.asked.change(-fall[rows], rows))
        way = {"adjust": "neurons are moved", "key_space": "prompts in the cube are not answered"}
        sentence = (
            f"nothing that is retained loses the margin where {way[method]} to remove "
            f"'{skill.name}'"
        )
        given = f"{self.slug}_{method}_forgets"
        return all_stay(claim, sentence, kept, margin, PROBABILITY, given)

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

    def _doses(self) -> Iterator[tuple[str, float, bool, np.ndarray, np.ndarray]]:
        """Method, dose, whether it was chosen, falls of the probability and of exact answers."""
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
