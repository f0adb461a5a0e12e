"""Findings: the units a map selects, and everything validation needs, fixed beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from lmri.anatomy import Subject
from lmri.config import ClaimOptions, ConditionOptions, ContrastOptions, EvidenceOptions
from lmri.intervene import KINDS, Plan, Unit, feasible, modes_of
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
from lmri.localise.massive import massive_ratios
from lmri.localise.planning import calibrated_needs
from lmri.localise.rivals import rival_selections
from lmri.localise.row_space import DIRECTIONS, row_space_of
from lmri.localise.sham_doses import sham_doses
from lmri.localise.unit_values import switch_mode, unit_values
from lmri.localise.units import Units
from lmri.score import Scorer

EMPTY = "no unit survives the max-statistic: nothing to validate"

FEW_SHAMS = "the subject can be run without the units of {} sham maps only; {} were asked for"
NO_SHAM = "the subject can be run without the units of no sham map: too many experts of a layer"

UNENDED = (
    "{:.2f} of the intact responses end by themselves within {} tokens, and a response that is cut "
    "is not coherent: needed {:g}. Raise 'record.max_new_tokens'"
)

NO_SHAMS_ASKED = "a causal map is re-run for a hypothesis with 'localise.causal.shams' only"

OTHER_PHASE = "an exploratory map of another phase is looked at and not re-run"

REASONS = {
    ("hypothesis", False): EMPTY,
    ("exploratory", False): EMPTY,
    ("negative_control", False): "the map is empty, as it should be: nothing to validate",
    ("hypothesis", True): "not yet calibrated",
    ("exploratory", True): "an exploratory map decides nothing and is not validated",
    ("negative_control", True): "a false positive: nothing is there, yet the map is not empty",
}
"""Why a finding is not tested, by role and by whether its map selects anything."""

NO_UNITS = "the subject has no {}, so there is nothing to map"

ALWAYS_RUN = "the experts of the subject cannot be switched off: all of them run on every token"


class Selection(Protocol):
    """What a map selects, whatever it was made from."""

    @property
    def kind(self) -> str:
        """Kind of the units."""

    @property
    def method(self) -> str:
        """Name of the map without the kind."""

    @property
    def units(self) -> Units:
        """All units."""

    @property
    def strength(self) -> np.ndarray:
        """Scores by which units are ranked."""

    @property
    def load(self) -> np.ndarray:
        """How active each unit is, to match controls."""

    def selected(self, alpha: float) -> list[Unit]:
        """Units that survive the max-statistic, the best first."""

    def described(self, units: Sequence[Unit]) -> list[dict]:
        """Coordinates of units and their numbers, as a finding lists them."""

    def shams(
        self,
        trials: pd.DataFrame,
        condition: str | None,
        *,
        draws: int,
        most: int,
        seed: int,
        usable: Callable[[list[Unit]], bool],
    ) -> list[list[Unit]]:
        """Re-run the selection where nothing is, see :func:`lmri.localise.shams.sham_maps`."""


def unmapped_finding(
    subject: str,
    contrast: ContrastOptions,
    phase: str,
    role: str,
    kind: str,
    method: str,
    provenance: dict,
) -> dict:
    """Describe that a subject without units of a kind has no map of them.

    Parameters
    ----------
    subject : str
        Name of the subject.
    contrast : ContrastOptions
        The contrast.
    phase, role : str
        Phase of the map; hypothesis, exploratory or negative control.
    kind, method : str
        Kind of the units and name of the map.
    provenance : dict
        Where it comes from.

    Returns
    -------
    dict
        A finding with status ``not_testable`` and no units, to which no map belongs.
    """
    return {
        "stage": "localise",
        "subject": subject,
        "task": contrast.task,
        "contrast": contrast.name,
        "phase": phase,
        "kind": kind,
        "method": method,
        "role": role,
        "status": "not_testable",
        "reason": NO_UNITS.format(KINDS[kind].plural),
        "units": [],
        "provenance": provenance,
    }


def base_finding(
    subject: str,
    contrast: ContrastOptions,
    phase: str,
    role: str,
    result: Selection,
    evidence: EvidenceOptions,
    provenance: dict,
) -> dict:
    """Describe what a map selects; empty when no unit survives the max-statistic.

    Parameters
    ----------
    subject : str
        Name of the subject.
    contrast : ContrastOptions
        The contrast.
    phase, role : str
        Phase of the map; hypothesis, exploratory or negative control.
    result : Selection
        The map.
    evidence : EvidenceOptions
        Level and doses.
    provenance : dict
        Where it comes from.

    Returns
    -------
    dict
        The finding without an endpoint; status ``null`` or ``not_testable``.
    """
    units = result.selected(evidence.alpha)
    units = units[: max(evidence.doses_of(result.kind))]
    found = bool(units)
    return {
        **unmapped_finding(subject, contrast, phase, role, result.kind, result.method, provenance),
        "status": "not_testable" if found else "null",
        "reason": REASONS[role, found],
        "units": result.described(units),
    }


def primary_finding(
    finding: dict,
    subject: Subject,
    contrast: ContrastOptions,
    evidence: EvidenceOptions,
    result: Selection,
    *,
    selection: pd.DataFrame,
    recorded: pd.DataFrame,
    stimuli: dict[str, pd.DataFrame],
    claims: int,
    max_new_tokens: int,
    seed: int,
    asked: Sequence[ClaimOptions] = (),
    attribution: np.ndarray | None = None,
    scorers: Mapping[str, Scorer] | None = None,
) -> dict:
    """Add the endpoint, the claims and the control draws of a hypothesis.

    A finding of an exploratory phase gets everything but a primary endpoint, and fewer draws.

    Parameters
    ----------
    finding : dict
        From :func:`base_finding`, with units.
    subject : Subject
        The loaded subject, for calibration.
    contrast : ContrastOptions
        The contrast.
    evidence : EvidenceOptions
        The rule of the verdict.
    result : Selection
        The map.
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
    attribution : ndarray of the shape of the units, optional
        Direct attribution of every unit, for a rival selection.
    scorers : mapping of str to Scorer, optional
        Scorers that decide beside the scores of every response.

    Returns
    -------
    dict
        The complete finding.
    """
    primary = finding["role"] == "hypothesis"
    baseline, problem = baseline_check(recorded, contrast, evidence)
    problem = problem or size_check(stimuli, contrast, evidence)
    if problem:
        return {**finding, "baseline": baseline, "status": "not_testable", "reason": problem}
    ranked = result.selected(evidence.alpha)
    doses = _doses(evidence.doses_of(finding["kind"]), ranked)
    targets = _target_trials(stimuli, contrast, "calibration")
    speech = _speech_trials(targets, stimuli, contrast)
    limits, ended = coherence_limits(subject, speech, evidence, max_new_tokens)
    if primary and (share := ended[: len(targets)].mean()) < evidence.coherent_share:
        reason = UNENDED.format(share, max_new_tokens, evidence.coherent_share)
        return {**finding, "baseline": baseline, "status": "not_testable", "reason": reason}
    controls = selection[selection["condition"].isin(contrast.controls)].reset_index(drop=True)
    kind = finding["kind"]
    values = unit_values(subject, selection, contrast, kind, evidence, max_new_tokens, seed)
    mode = values.mode
    dose, calibration = calibrate_dose(
        subject,
        ranked,
        doses,
        targets,
        evidence,
        limits,
        max_new_tokens,
        kind=kind,
        mode=mode,
        values=values.of(ranked[: max(doses)]),
        scorers=scorers,
    )
    draws = evidence.sham_draws(claims) if primary else evidence.exploratory_shams
    shams = result.shams(
        selection,
        contrast.sham_condition,
        draws=draws,
        most=max(doses),
        seed=seed,
        # Whether units can be switched off does not depend on what they are set to.
        usable=lambda units: feasible(
            Plan(mode if kind == "expert" else "flip", tuple(units[:dose]), kind), subject.anatomy
        ),
    )
    if not shams:
        return {**finding, "baseline": baseline, "reason": NO_SHAM}
    complete = {
        **finding,
        "status": "testable",
        "reason": "" if len(shams) == draws else FEW_SHAMS.format(len(shams), draws),
        "baseline": baseline,
        "calibration": calibration,
        "secondary": {
            "doses": doses,
            "modes": _modes(kind, mode) if primary else [mode],
            "draws": evidence.exploratory_shams,
            "mode": mode,
            "dose": dose,
            "score": evidence.score,
            "max_new_tokens": max_new_tokens,
            "target": list(contrast.target),
            "controls": list(contrast.controls),
            "interaction": contrast.interaction,
        },
        "controls": {"sham": shams},
    }
    if primary:
        complete["primary_endpoint"] = _endpoint(
            finding, contrast, evidence, ranked[:dose], claims, draws, limits, max_new_tokens
        )
        if versions := {name: own.version for name, own in (scorers or {}).items()}:
            complete["scorers"] = versions
        complete["sham_doses"] = sham_doses(
            subject,
            shams,
            calibration,
            targets,
            evidence.score,
            target_effect=evidence.target_effect,
            limits=limits,
            max_new_tokens=max_new_tokens,
            kind=kind,
            mode=mode,
            values=values.of(sorted({unit for units in shams for unit in map(tuple, units)})),
            scorers=scorers,
        )
        complete["controls"] |= matched_draws(
            result.units, result.load, ranked, doses, evidence.matched_draws, seed
        )
        complete["controls"] |= rival_selections(result, doses, attribution)
        if kind == "residual":
            prompts = trial_prompts(subject, controls, max_new_tokens)
            massive = massive_ratios(subject, prompts, ROWS)[list(result.units.layers)]
            complete["controls"]["massive_matched"] = {
                str(d): massive_matched(
                    ranked[:d], massive, result.units, evidence.matched_draws, seed
                )
                for d in doses
            }
    if kind in DIRECTIONS:
        complete["row_space"] = row_space_of(
            *(subject, kind, ranked[:dose], targets, controls, evidence.score, max_new_tokens)
        )
    if primary:
        plan = Plan.of(mode, ranked[:dose], kind, values.of(ranked[:dose]))
        needed = calibrated_needs(subject, plan, contrast, stimuli, evidence, max_new_tokens)
        possible = [row["dose"] for row in calibration]
        about = ranked[: max(possible)], possible, dose, contrast, evidence, tuple(needed)
        complete["claims"] = state_claims(Stated(subject.name, kind, mode, *about), asked)
    return {**complete, **values.stored(_named(complete, ranked[: max(doses)]))}


def _modes(kind: str, mode: str) -> list[str]:
    """Modes that a hypothesis is re-run in."""
    return list(dict.fromkeys([*modes_of(kind, means=True), mode]))


def _named(finding: dict, ranked: list[Unit]) -> list[Unit]:
    """Every unit that the finding or one of its controls names."""
    used = set(ranked)
    for draws in finding["controls"].values():
        for sets in [draws] if isinstance(draws, list) else draws.values():
            used |= {tuple(unit) for units in sets for unit in units}
    return sorted(used)


def _doses(asked: Sequence[int], ranked: list[Unit]) -> list[int]:
    # Where the map selects fewer units than a dose asks for, the dose is all of them.
    return sorted({min(dose, len(ranked)) for dose in asked})


def _endpoint(
    finding: dict,
    contrast: ContrastOptions,
    evidence: EvidenceOptions,
    units: list[Unit],
    claims: int,
    draws: int,
    limits: dict[str, float],
    max_new_tokens: int,
) -> dict:
    return {
        "units": units,
        "phase": finding["phase"],
        "dose": len(units),
        "mode": switch_mode(finding["kind"], evidence),
        "score": evidence.score,
        "direction": "decrease",
        "split": "evaluation",
        "task": contrast.task,
        "target": list(contrast.target),
        "margin": evidence.margin,
        "alpha": evidence.alpha,
        "claims": claims,
        "minimum_trials": evidence.minimum_trials,
        "minimum_target_trials": evidence.minimum_target_trials,
        "shams": draws,
        **({} if evidence.stop_after is None else {"stop_after": evidence.stop_after}),
        "bystanders": [{**_condition(b), "score": "exact"} for b in contrast.bystanders],
        "transfer": None if contrast.transfer is None else _condition(contrast.transfer),
        "coherence": limits,
        "max_new_tokens": max_new_tokens,
    }


def _target_trials(
    stimuli: dict[str, pd.DataFrame], contrast: ContrastOptions, split: str
) -> pd.DataFrame:
    parts = [condition_trials(stimuli, contrast.task, c, split) for c in contrast.target]
    return pd.concat(parts, ignore_index=True)


def _speech_trials(
    targets: pd.DataFrame, stimuli: dict[str, pd.DataFrame], contrast: ContrastOptions
) -> pd.DataFrame:
    """Calibration trials that show how the intact subject speaks: target and bystanders."""
    bystanders = [
        condition_trials(stimuli, b.task, b.condition, "calibration") for b in contrast.bystanders
    ]
    return pd.concat([targets, *bystanders], ignore_index=True)


def _condition(part: ConditionOptions) -> dict:
    return {"task": part.task, "condition": part.condition}
