"""What claims are tested on: trials of a subject, run under plans, each once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmri.anatomy import Subject
from lmri.config import ValidateOptions
from lmri.errors import EvidenceError
from lmri.intervene import INTACT, Plan, Unit
from lmri.score import Scorer, carrier_columns
from lmri.store.claims import Claim, Where
from lmri.validate.arms import Arm, Bench, Part
from lmri.validate.change import Carriers, Change
from lmri.validate.parts import named_part
from lmri.validate.rerun import LOGITS
from lmri.validate.trials import TrialScores


@dataclass
class Ground:
    """Trials and runs of the claims of one finding.

    Attributes
    ----------
    subject : Subject
        The finding's subject, loaded.
    finding : dict
        The finding.
    stimuli : Path
        Folder with ``<task>.parquet``.
    options : ValidateOptions
        Resamples and sizes.
    seed : int
        Seed of the study.
    trials : TrialScores
        What the re-run of the primary endpoint scored: it is not run again.
    other : callable
        Loads another subject by its name.
    scorers : mapping of str to Scorer
        Scorers that decide beside the scores of every response.
    """

    subject: Subject
    finding: dict
    stimuli: Path
    options: ValidateOptions
    seed: int
    trials: TrialScores
    other: Callable[[str], Subject]
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    _parts: dict[tuple, Part] = field(default_factory=dict)
    _intact: dict[tuple, np.ndarray] = field(default_factory=dict)
    _carriers: dict[tuple, Carriers] = field(default_factory=dict)

    def part(self, where: Where, split: str) -> Part:
        """Trials of some conditions in a split."""
        key = where, split
        if key not in self._parts:
            self._parts[key] = named_part(where.task, where.conditions, self.stimuli, split)
        return self._parts[key]

    def values(
        self, claim: Claim, plans: Sequence[Plan], subject: Subject | None = None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Score trials of a claim intact and under plans.

        Parameters
        ----------
        claim : Claim
            Says which trials and which score.
        plans : sequence of Plan
            The plans.
        subject : Subject, optional
            By default the finding's.

        Returns
        -------
        intact : ndarray of shape (n_trials,), float64
            Scores of the intact subject.
        values : list of ndarray of shape (n_trials,), float64
            Scores under every plan.
        """
        subject = subject or self.subject
        part = self.part(claim.trials, claim.split)
        bench = self._bench(subject)
        key = subject.name, claim.trials, claim.split, claim.score
        if key not in self._intact:
            arm = Arm("intact", "none", plan=INTACT)
            (self._intact[key],) = bench.quick([arm], part.trials, claim.score)
        values, arms = (
            [],
            [Arm(claim.name, plan.mode, len(plan.units), plan=plan) for plan in plans],
        )
        if arms:
            values = bench.quick(arms, part.trials, claim.score)
        return self._intact[key], values

    def change(self, claim: Claim, differences: np.ndarray, where: Where | None = None) -> Change:
        """Differences on the trials of a claim, or on others, with their bootstrap."""
        where = where or claim.trials
        key = where, claim.split
        if key not in self._carriers:
            columns = carrier_columns(self.part(where, claim.split).trials)
            self._carriers[key] = Carriers(columns, self.options.bootstrap, self.seed)
        return Change(differences, self._carriers[key], 1 - claim.alpha, claim.score != LOGITS)

    def sham_units(self, count: int) -> list[list[Unit]]:
        """Leading units of every sham map, in their order.

        Parameters
        ----------
        count : int
            Units of the finding's dose, for findings whose sham maps have none of their own.

        Returns
        -------
        list of list of tuple of int
            As many of each as were chosen for it, as the finding's dose was: a dose that is chosen
            for one map alone flatters that map.
        """
        shams = self.finding["controls"]["sham"]
        doses = self.finding.get("sham_doses") or [count] * len(shams)
        return [
            [tuple(unit) for unit in units[:dose]] for units, dose in zip(shams, doses, strict=True)
        ]

    def plan(self, claim: Claim, units: Sequence[Unit], values: dict | None = None) -> Plan:
        """What a claim does to units; by default with the numbers that the finding has of them."""
        if values is None:
            name = "means" if claim.mode == "mean" else "values"
            values = {tuple(unit): own for unit, own in self.finding.get(name, [])}
        return Plan.of(claim.mode, units, claim.unit_kind, values)

    def target(self, claim: Claim) -> Subject:
        """Subject that a claim is about; another must have the same anatomy.

        Parameters
        ----------
        claim : Claim
            The claim.

        Returns
        -------
        Subject
            The subject.

        Raises
        ------
        EvidenceError
            If the anatomies differ: a place in one is none in the other.
        """
        name = getattr(claim, "subject", self.subject.name)
        if name == self.subject.name:
            return self.subject
        other = self.other(name)
        if other.anatomy != self.subject.anatomy:
            raise EvidenceError(
                f"The claim '{claim.name}' matches units of '{self.subject.name}' and '{name}' by "
                "their places, so both must have the same anatomy. Got "
                f"{self.subject.anatomy.architecture} and {other.anatomy.architecture} of other "
                "sizes: name a subject of the same base."
            )
        return other

    def _bench(self, subject: Subject) -> Bench:
        secondary = self.finding["secondary"]
        limits = self.finding["primary_endpoint"]["coherence"]
        sizes = self.options.rows, secondary["max_new_tokens"]
        return Bench(subject, *sizes, limits, self.scorers)
