"""Every claim of a finding put to its test: what is run for each kind, and its rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lmri.anatomy import Anatomy, Subject, prompt_room, render_trials
from lmri.intervene import KINDS, Plan, Unit, feasible, mean_activity, means_of, most_new_tokens
from lmri.store.claims import (
    Claim,
    Cumulativity,
    Dose,
    Interference,
    Jointness,
    Necessity,
    Repair,
    Specificity,
    Sufficiency,
    Transfer,
)
from lmri.validate.change import Change
from lmri.validate.claims import rules
from lmri.validate.claims.ground import Ground
from lmri.validate.claims.judging import Judged, Outcome, outcomes, untestable
from lmri.validate.parts import Part
from lmri.validate.statistics import nothing_to_lose
from lmri.validate.verdict import Evidence, Verdict

MOST_KEPT_OF = 20_000
"""Units of a kind up to which all but a few are switched off by name."""

KEEPABLE = ("expert", "neuron", "shared_neuron", "expert_neuron", "head", "layer")
"""Kinds of which nothing but some units can be kept: without the rest the residual still flows."""


@dataclass(frozen=True)
class Primary:
    """What the primary endpoint gave.

    Attributes
    ----------
    verdict : Verdict
        By the rule alone.
    evidence : Evidence
        What it was applied to.
    parts : list of Part
        What was run: the target first, then the bystanders.
    """

    verdict: Verdict
    evidence: Evidence
    parts: Sequence[Part]


def judge_claims(claims: Sequence[Claim], ground: Ground, primary: Primary) -> list[Outcome]:
    """Test all claims of a finding.

    Parameters
    ----------
    claims : sequence of Claim
        As the finding states them.
    ground : Ground
        What they are tested on.
    primary : Primary
        What the primary endpoint gave.

    Returns
    -------
    list of Outcome
        In the same order.
    """
    findings = ground.finding["primary_endpoint"]["claims"]
    judged = []
    for claim in claims:
        if isinstance(claim, Necessity):
            judged.append(rules.judge_necessity(claim, primary.verdict, primary.evidence))
        elif isinstance(claim, Specificity):
            judged.append(_specificity(claim, ground, primary.parts))
        else:
            judged.append(_TESTS[type(claim)](claim, ground))
    return outcomes(judged, findings)


def _specificity(claim: Specificity, ground: Ground, parts: Sequence[Part]) -> Judged:
    changes, absent = {}, set()
    for part, where in zip(
        (part for part in parts if part.role == "bystander"), claim.bystanders, strict=True
    ):
        off, intact = (ground.trials.of(part, claim.score, arm) for arm in ("finding", "intact"))
        changes[where.name] = ground.change(claim, off - intact, where)
        if nothing_to_lose(intact, claim.margin):
            absent.add(where.name)
    return rules.judge_specificity(claim, changes, absent)


def _sufficiency(claim: Sufficiency, ground: Ground) -> Judged:
    anatomy = ground.subject.anatomy
    if claim.unit_kind not in KEEPABLE:
        return untestable(claim, f"a subject cannot run with some {claim.unit_kind}s only")
    every = _all_units(claim.unit_kind, anatomy)
    if len(every) > MOST_KEPT_OF:
        return untestable(
            claim, f"{len(every)} units of the kind; at most {MOST_KEPT_OF} are switched off"
        )

    def only(units: Sequence[Unit]) -> Plan:
        kept = set(units)
        return Plan(claim.mode, tuple(unit for unit in every if unit not in kept), claim.unit_kind)

    plans = [only(units) for units in ground.sham_units(len(claim.units))]
    intact, (kept, *shams) = ground.values(claim, [only(claim.units), *plans])
    lost = ground.change(claim, intact - kept)
    means = [float(own.mean()) for own in shams]
    return _with_controls(
        rules.judge_sufficiency(claim, lost, float(kept.mean()), float(intact.mean()), means),
        ground,
        len(shams),
    )


def _dose(claim: Dose, ground: Ground) -> Judged:
    plans = [ground.plan(claim, claim.units[:dose]) for dose in claim.doses]
    intact, values = ground.values(claim, plans)
    changes = [ground.change(claim, intact - own) for own in values]
    return rules.judge_dose(claim, changes, [float(own.mean()) for own in values])


def _drops(claim: Claim, ground: Ground, sets: Iterable[Sequence[Unit]]) -> list[Change]:
    """Decrease with each set of units off."""
    intact, values = ground.values(claim, [ground.plan(claim, units) for units in sets])
    return [ground.change(claim, intact - own) for own in values]


def _cumulativity(claim: Cumulativity, ground: Ground) -> Judged:
    whole, *parts = _drops(claim, ground, [claim.units, *claim.parts])
    return rules.judge_cumulativity(claim, whole, parts)


def _jointness(claim: Jointness, ground: Ground) -> Judged:
    together, *alone = _drops(claim, ground, [claim.units, *claim.parts])
    return rules.judge_jointness(claim, together, alone)


def _interference(claim: Interference, ground: Ground) -> Judged:
    (drop,) = _drops(claim, ground, [claim.units])
    intact, _ = ground.values(claim, [])
    rise = ground.change(claim, -drop.differences)
    return _with_size(rules.judge_interference(claim, rise, float(intact.mean())), len(intact))


def _transfer(claim: Transfer, ground: Ground) -> Judged:
    subject = ground.target(claim)
    sets = [claim.units, *ground.sham_units(len(claim.units))]
    plans = [ground.plan(claim, units) for units in sets]
    return _against_shams(claim, ground, subject, plans, -1, rules.judge_transfer)


def _repair(claim: Repair, ground: Ground) -> Judged:
    subject = ground.target(claim)
    anatomy, shams = subject.anatomy, ground.sham_units(len(claim.units))
    sets = [claim.units, *(_most_feasible(claim, units, anatomy) for units in shams)]
    values = {}
    if claim.mode != "force":
        # Of the finding's subject where the behaviour is, whoever is mended.
        trials = ground.part(claim.source_trials, "selection").trials
        most = most_new_tokens(ground.subject, ground.finding["secondary"]["max_new_tokens"])
        room = prompt_room(ground.subject.model.config, most)
        prompts = [own.ids for own in render_trials(ground.subject.tokenizer, trials, room)]
        found = mean_activity(ground.subject, prompts, claim.unit_kind, ground.options.rows)
        values = means_of(found, sorted({unit for units in sets for unit in units}))
    plans = [ground.plan(claim, units, values) for units in sets]
    return _against_shams(claim, ground, subject, plans, 1, rules.judge_repair)


def _most_feasible(claim: Repair, units: Sequence[Unit], anatomy: Anatomy) -> Sequence[Unit]:
    """As many leading units as can be forced on at once: no token takes more than its experts."""
    if claim.mode != "force":
        return units
    prefixes = (units[:count] for count in range(len(units), 1, -1))
    fitting = (own for own in prefixes if feasible(Plan("force", tuple(own), "expert"), anatomy))
    return next(fitting, units[:1])


def _against_shams(
    claim: Transfer | Repair,
    ground: Ground,
    subject: Subject,
    plans: Sequence[Plan],
    sign: int,
    rule: Callable[..., Judged],
) -> Judged:
    """Run the finding's plan and those of sham maps, and apply a rule to the effects."""
    own, *rest = plans
    if not feasible(own, subject.anatomy):
        return untestable(claim, f"the subject cannot be run so ({len(own.units)} units at once)")
    usable = [plan for plan in rest if feasible(plan, subject.anatomy)]
    intact, (value, *shams) = ground.values(claim, [own, *usable], subject)
    known = np.isfinite(intact) & np.isfinite(value)
    if not known.all():
        return untestable(claim, f"{int((~known).sum())} trials have no {claim.score}")
    change = ground.change(claim, sign * (value - intact))
    effects = [float((sign * (sham - intact)).mean()) for sham in shams]
    judged = rule(claim, change, float(intact.mean()), effects)
    return _with_controls(judged, ground, len(shams))


def _with_controls(judged: Judged, ground: Ground, controls: int) -> Judged:
    """Too few control draws for p to reach alpha even as the only claim test nothing."""
    claim, findings = judged.claim, ground.finding["primary_endpoint"]["claims"]
    if not judged.untestable and findings / (1 + controls) > claim.alpha + 1e-12:
        return untestable(
            claim,
            f"{controls} sham maps give a p of at least {1 / (1 + controls):.2g}, too few for "
            f"{claim.alpha:g} over {findings} findings",
        )
    return _with_size(judged, 0 if judged.effect is None else judged.effect.n)


def _with_size(judged: Judged, trials: int) -> Judged:
    claim = judged.claim
    if judged.untestable or trials >= claim.least:
        return judged
    return untestable(claim, f"{trials} trials of {claim.trials.name}; needed are {claim.least}")


def _all_units(kind: str, anatomy: Anatomy) -> list[Unit]:
    units: list[Unit] = [(layer,) for layer in KINDS[kind].layers(anatomy)]
    for size in KINDS[kind].shape(anatomy):
        units = [(*unit, number) for unit in units for number in range(size)]
    return units


_TESTS: dict[type[Claim], Callable[..., Judged]] = {
    Sufficiency: _sufficiency,
    Dose: _dose,
    Cumulativity: _cumulativity,
    Jointness: _jointness,
    Interference: _interference,
    Transfer: _transfer,
    Repair: _repair,
}
