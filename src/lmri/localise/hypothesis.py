"""Hypotheses: a finding with everything its validation needs, fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from lmri.anatomy import Subject
from lmri.config import ClaimOptions, ConditionOptions, ContrastOptions, EvidenceOptions
from lmri.intervene import Plan, Unit, feasible, modes_of
from lmri.localise.claims import Stated, state_claims
from lmri.localise.draws import massive_matched, matched_draws
from lmri.localise.endpoint import (
    ROWS,
    baseline_check,
    calibrate_dose,
    coherence_limits,
    condition_trials,
    size_check,
    trial_prompts,
)
from lmri.localise.findings import Selection
from lmri.localise.massive import massive_ratios
from lmri.localise.planning import calibrated_needs
from lmri.localise.rivals import rival_selections
from lmri.localise.row_space import DIRECTIONS, row_space_of
from lmri.localise.sham_doses import sham_doses
from lmri.localise.unit_values import UnitValues, switch_mode, unit_values
from lmri.score import Scorer

FEW_SHAMS = "the subject can be run without the units of {} sham maps only; {} were asked for"
NO_SHAM = "the subject can be run without the units of no sham map: too many experts of a layer"

UNENDED = (
    "{:.2f} of the intact responses end by themselves within {} tokens, and a response that is cut "
    "is not coherent: needed {:g}. Raise 'record.max_new_tokens'"
)


@dataclass(frozen=True)
class Ground:
    """What the findings of one contrast are put to their test with.

    Attributes
    ----------
    subject : Subject
        The loaded subject, for calibration.
    contrast : ContrastOptions
        The contrast.
    evidence : EvidenceOptions
        The rule of the verdict.
    selection : DataFrame
        Selection trials of the task.
    recorded : DataFrame
        Recorded trials of the task with scores.
    stimuli : dict of str to DataFrame
        Stimuli of every task.
    claims : int
        Primary claims of the study.
    max_new_tokens : int
        Limit of the responses, as recorded.
    seed : int
        Seed of the study.
    asked : sequence of ClaimOptions
        Claims beside the primary one.
    scorers : mapping of str to Scorer
        Scorers that decide beside the scores of every response.
    """

    subject: Subject
    contrast: ContrastOptions
    evidence: EvidenceOptions
    selection: pd.DataFrame
    recorded: pd.DataFrame
    stimuli: dict[str, pd.DataFrame]
    claims: int
    max_new_tokens: int
    seed: int
    asked: Sequence[ClaimOptions] = ()
    scorers: Mapping[str, Scorer] = field(default_factory=dict)

    @cached_property
    def targets(self) -> pd.DataFrame:
        """Calibration trials of the behaviour."""
        conditions = self.contrast.target
        parts = [self._calibration(ConditionOptions(self.contrast.task, c)) for c in conditions]
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def speech(self) -> pd.DataFrame:
        """Calibration trials that show how the intact subject speaks: target and bystanders."""
        bystanders = [self._calibration(place) for place in self.contrast.bystanders]
        return pd.concat([self.targets, *bystanders], ignore_index=True)

    @cached_property
    def controls(self) -> pd.DataFrame:
        """Selection trials of the conditions that the target is contrasted with."""
        chosen = self.selection["condition"].isin(self.contrast.controls)
        return self.selection[chosen].reset_index(drop=True)

    def _calibration(self, place: ConditionOptions) -> pd.DataFrame:
        return condition_trials(self.stimuli, place.task, place.condition, "calibration")


def primary_finding(
    finding: dict, result: Selection, ground: Ground, attribution: np.ndarray | None = None
) -> dict:
    """Add the endpoint, the claims and the control draws of a hypothesis.

    A finding of an exploratory phase gets everything but a primary endpoint, and fewer draws.

    Parameters
    ----------
    finding : dict
        From :func:`lmri.localise.findings.base_finding`, with units.
    result : Selection
        The map.
    ground : Ground
        What it is put to the test with.
    attribution : ndarray of the shape of the units, optional
        Direct attribution of every unit, for a rival selection.

    Returns
    -------
    dict
        The complete finding.
    """
    contrast, evidence = ground.contrast, ground.evidence
    baseline, problem = baseline_check(ground.recorded, contrast, evidence)
    finding = {**finding, "baseline": baseline}
    if problem := problem or size_check(ground.stimuli, contrast, evidence):
        return {**finding, "status": "not_testable", "reason": problem}
    limits, ended = coherence_limits(ground.subject, ground.speech, evidence, ground.max_new_tokens)
    primary = finding["role"] == "hypothesis"
    if primary and (share := ended[: len(ground.targets)].mean()) < evidence.coherent_share:
        reason = UNENDED.format(share, ground.max_new_tokens, evidence.coherent_share)
        return {**finding, "status": "not_testable", "reason": reason}
    calibrated = _calibrate(finding["kind"], result, ground, limits)
    draws = evidence.sham_draws(ground.claims) if primary else evidence.exploratory_shams
    shams = calibrated.shams(draws)
    if not shams:
        return {**finding, "reason": NO_SHAM}
    complete = {
        **finding,
        "status": "testable",
        "reason": "" if len(shams) == draws else FEW_SHAMS.format(len(shams), draws),
        "calibration": calibrated.rows,
        "secondary": calibrated.secondary(primary),
        "controls": {"sham": shams},
    }
    if primary:
        complete |= {
            "primary_endpoint": calibrated.endpoint(finding["phase"], draws),
            "sham_doses": calibrated.sham_doses(shams),
            "controls": {"sham": shams, **calibrated.draws(attribution)},
            "claims": calibrated.claims(),
        }
        if versions := {name: own.version for name, own in ground.scorers.items()}:
            complete["scorers"] = versions
    if row_space := calibrated.row_space():
        complete["row_space"] = row_space
    return {**complete, **calibrated.stored_values(complete["controls"])}


def _calibrate(
    kind: str, result: Selection, ground: Ground, limits: dict[str, float]
) -> _Calibrated:
    """Choose the dose of a finding on calibration trials."""
    evidence, subject, most = ground.evidence, ground.subject, ground.max_new_tokens
    ranked = result.selected(evidence.alpha)
    # Where the map selects fewer units than a dose asks for, the dose is all of them.
    doses = sorted({min(dose, len(ranked)) for dose in evidence.doses_of(kind)})
    ranked = ranked[: max(doses)]
    values = unit_values(
        subject, ground.selection, ground.contrast, kind, evidence, most, ground.seed
    )
    dose, rows = calibrate_dose(
        *(subject, ranked, doses, ground.targets, evidence, limits, most),
        kind=kind,
        mode=values.mode,
        values=values.of(ranked),
        scorers=ground.scorers,
    )
    return _Calibrated(kind, result, ground, limits, ranked, doses, values, dose, rows)


@dataclass(frozen=True)
class _Calibrated:
    """A finding whose dose is chosen.

    ``ranked`` are the units of the largest of ``doses``, from the best; ``rows`` is what was found
    at each dose.
    """

    kind: str
    result: Selection
    ground: Ground
    limits: dict[str, float]
    ranked: list[Unit]
    doses: list[int]
    values: UnitValues
    dose: int
    rows: list[dict]

    @property
    def units(self) -> list[Unit]:
        """Units at the chosen dose."""
        return self.ranked[: self.dose]

    def shams(self, draws: int) -> list[list[Unit]]:
        """Units of sham maps that the subject can be run without."""
        anatomy = self.ground.subject.anatomy
        # Whether units can be switched off does not depend on what they are set to.
        mode = self.values.mode if self.kind == "expert" else "flip"
        return self.result.shams(
            self.ground.selection,
            self.ground.contrast.sham_condition,
            draws=draws,
            most=max(self.doses),
            seed=self.ground.seed,
            usable=lambda units: feasible(
                Plan(mode, tuple(units[: self.dose]), self.kind), anatomy
            ),
        )

    def secondary(self, primary: bool) -> dict:
        """What is re-run beside the primary endpoint."""
        contrast, evidence, mode = self.ground.contrast, self.ground.evidence, self.values.mode
        modes = dict.fromkeys([*modes_of(self.kind, means=True), mode])
        return {
            "doses": self.doses,
            "modes": list(modes) if primary else [mode],
            "draws": evidence.exploratory_shams,
            "mode": mode,
            "dose": self.dose,
            "score": evidence.score,
            "max_new_tokens": self.ground.max_new_tokens,
            "target": list(contrast.target),
            "controls": list(contrast.controls),
            "interaction": contrast.interaction,
        }

    def endpoint(self, phase: str, draws: int) -> dict:
        """The one endpoint that decides."""
        contrast, evidence = self.ground.contrast, self.ground.evidence
        return {
            "units": self.units,
            "phase": phase,
            "dose": len(self.units),
            "mode": switch_mode(self.kind, evidence),
            "score": evidence.score,
            "direction": "decrease",
            "split": "evaluation",
            "task": contrast.task,
            "target": list(contrast.target),
            "margin": evidence.margin,
            "alpha": evidence.alpha,
            "claims": self.ground.claims,
            "minimum_trials": evidence.minimum_trials,
            "minimum_target_trials": evidence.minimum_target_trials,
            "shams": draws,
            **({} if evidence.stop_after is None else {"stop_after": evidence.stop_after}),
            "bystanders": [{**_condition(b), "score": "exact"} for b in contrast.bystanders],
            "transfer": None if contrast.transfer is None else _condition(contrast.transfer),
            "coherence": self.limits,
            "max_new_tokens": self.ground.max_new_tokens,
        }

    def sham_doses(self, shams: list[list[Unit]]) -> list[int]:
        """The dose of every sham map."""
        ground, evidence = self.ground, self.ground.evidence
        return sham_doses(
            *(ground.subject, shams, self.rows, ground.targets, evidence.score),
            target_effect=evidence.target_effect,
            limits=self.limits,
            max_new_tokens=ground.max_new_tokens,
            kind=self.kind,
            mode=self.values.mode,
            values=self.values.of(sorted({unit for units in shams for unit in map(tuple, units)})),
            scorers=ground.scorers,
        )

    def draws(self, attribution: np.ndarray | None) -> dict:
        """Units of every control but the sham maps, by its name."""
        result, ranked, doses = self.result, self.ranked, self.doses
        number, seed = self.ground.evidence.matched_draws, self.ground.seed
        drawn = matched_draws(result.units, result.load, ranked, doses, number, seed)
        drawn |= rival_selections(result, doses, attribution)
        if self.kind == "residual":
            subject, most = self.ground.subject, self.ground.max_new_tokens
            prompts = trial_prompts(subject, self.ground.controls, most)
            massive = massive_ratios(subject, prompts, ROWS)[list(result.units.layers)]
            drawn["massive_matched"] = {
                str(d): massive_matched(ranked[:d], massive, result.units, number, seed)
                for d in doses
            }
        return drawn

    def claims(self) -> list[dict]:
        """What is claimed of the units."""
        ground, evidence, mode = self.ground, self.ground.evidence, self.values.mode
        subject, contrast = ground.subject, ground.contrast
        plan = Plan.of(mode, self.units, self.kind, self.values.of(self.units))
        needed = calibrated_needs(
            subject, plan, contrast, ground.stimuli, evidence, ground.max_new_tokens
        )
        possible = [row["dose"] for row in self.rows]
        ranked = self.ranked[: max(possible)]
        about = ranked, possible, self.dose, contrast, evidence, tuple(needed)
        return state_claims(Stated(subject.name, self.kind, mode, *about), ground.asked)

    def row_space(self) -> dict:
        """What reads the directions of the units; empty for units without one."""
        if self.kind not in DIRECTIONS:
            return {}
        ground, score = self.ground, self.ground.evidence.score
        trials = ground.targets, ground.controls
        return row_space_of(
            ground.subject, self.kind, self.units, *trials, score, ground.max_new_tokens
        )

    def stored_values(self, controls: dict) -> dict:
        """Numbers of every unit that the finding or one of its controls names."""
        used = set(self.ranked)
        for draws in controls.values():
            for sets in [draws] if isinstance(draws, list) else draws.values():
                used |= {tuple(unit) for units in sets for unit in units}
        return self.values.stored(sorted(used))


def _condition(part: ConditionOptions) -> dict:
    return {"task": part.task, "condition": part.condition}
