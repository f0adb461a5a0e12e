"""Relation-specific units: whether they add up, serve other relations, or stand in their way.

Units are ranked for every relation by how well they tell it from the others asked of the same
places. The first of them are switched off, and every relation is asked.

Source: Liu et al. 2025, On relation-specific neurons in large language models (arXiv 2502.17355),
who name cumulativity, versatility and interference. Here the numbers of units, and the pairs of
relations that the last two are about, are chosen on calibration trials, and random sets decide.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lmri.checks import check_choice
from lmri.config import RelationsOptions, needed_draws
from lmri.errors import EvidenceError
from lmri.experiment.deciding import PROBABILITY, beyond_random
from lmri.experiment.outcome import Ground, Outcome, Statement
from lmri.experiment.relations.losses import Chosen, Losses, Setting, evaluate, settle
from lmri.experiment.relations.tables import (
    relation_captions,
    relation_figures,
    relation_tables,
)
from lmri.experiment.unit_sets import RANDOM, every_unit
from lmri.intervene import KINDS

STATEMENTS = 5
"""Of every kind of unit."""


def run(ground: Ground, options: RelationsOptions) -> Outcome:
    """Switch off the units of every relation and ask all relations.

    Parameters
    ----------
    ground : Ground
        What may be read.
    options : RelationsOptions
        Task, carrier, kinds, phase and draws.

    Returns
    -------
    Outcome
        Five statements and four tables of every kind that the subject has.

    Raises
    ------
    EvidenceError
        If the task is not one of the study, has fewer than three conditions, or a split without
        trials.
    """
    owner = "experiment 'relations'"
    check_choice(options.task, ground.stimuli, "task", owner, EvidenceError)
    relations = tuple(sorted(ground.stimuli[options.task]["condition"].unique()))
    if len(relations) < 3:
        raise EvidenceError(
            f"The 'task' of {owner} must have at least 3 conditions to compare. Got "
            f"{len(relations)} in '{options.task}'."
        )
    kinds = [kind for kind in options.kinds if every_unit(ground, kind).size]
    missing = [own for own in options.kinds if own not in kinds]
    notes = [f"The subject has no {KINDS[own].plural}." for own in missing]
    found = Outcome([], notes=notes)
    needed = needed_draws(STATEMENTS * len(kinds), ground.evidence.alpha)
    for kind in kinds:
        setting, chosen = settle(ground, options, kind, relations)
        losses = evaluate(setting, chosen)
        found.statements.extend(_statements(setting, chosen, losses, needed))
        found.tables.update(relation_tables(setting, chosen, losses))
        found.captions.update(relation_captions(kind))
        found.figures.extend(relation_figures(kind))
        found.notes.append(_note(setting, chosen))
    return replace(found)  # checked as a whole


def _statements(setting: Setting, chosen: Chosen, losses: Losses, needed: int) -> list[Statement]:
    evidence, kind, asked = setting.ground.evidence, setting.kind, losses.asked
    dose, first, last = chosen.dose, setting.doses[0], setting.doses[-1]
    shared = RANDOM, needed
    margin, units = evidence.margin, KINDS[kind].plural
    own, others = losses.own(dose), losses.others(dose)
    growth = losses.own(last) - losses.own(first)
    return [
        beyond_random(
            f"{kind}_own",
            f"a relation loses its answers without its own {dose} {units}",
            asked.change(own),
            margin,
            losses.random_own(dose),
            *shared,
        ),
        beyond_random(
            f"{kind}_selectivity",
            f"a relation loses more without its own {dose} {units} than without those of others",
            asked.change(own - others),
            margin,
            losses.random_selectivity(dose),
            *shared,
        ),
        beyond_random(
            f"{kind}_cumulativity",
            f"a relation loses more without {last} of its own {units} than without {first}",
            asked.change(growth),
            margin,
            losses.random_own(last) - losses.random_own(first),
            *shared,
        ),
        _of_pair("versatility", setting, chosen, losses, needed),
        _of_pair("interference", setting, chosen, losses, needed),
    ]


def _of_pair(name: str, setting: Setting, chosen: Chosen, losses: Losses, needed: int) -> Statement:
    """State that units of one relation harm, or improve, another: the pair from calibration."""
    harms, margin = name == "versatility", setting.ground.evidence.margin
    owner, other = chosen.harmed if harms else chosen.improved
    sign, verb = (1, "loses") if harms else (-1, "improves")
    whose, asked = setting.relations[owner], setting.relations[other]
    units = KINDS[setting.kind].plural
    claim = f"{setting.kind}_{name}"
    sentence = f"'{asked}' {verb} without the {chosen.dose} {units} of '{whose}'"
    rows = np.flatnonzero(losses.relation == other)
    intact = float(losses.asked.intact.probability[0, rows].mean())
    if not harms and intact >= 1 - margin:
        reason = f"'{asked}' is at {intact:.2f} intact: there is no room to improve"
        return Statement.untested(claim, sentence, reason, PROBABILITY)
    return beyond_random(
        claim,
        sentence,
        losses.asked.change(sign * losses.of[chosen.dose][owner, rows], rows),
        margin,
        sign * losses.random[chosen.dose][:, owner, other],
        RANDOM,
        needed,
    )


def _note(setting: Setting, chosen: Chosen) -> str:
    told = ", ".join(
        f"{loss:.2f} with {dose}" for dose, loss in zip(setting.doses, chosen.losses, strict=True)
    )
    pairs = (
        f"'{setting.relations[other]}' without the units of '{setting.relations[owner]}'"
        for owner, other in (chosen.harmed, chosen.improved)
    )
    return (
        f"Of {KINDS[setting.kind].plural}, ranked by what they do in the phase {setting.phase}: "
        f"on calibration trials a relation loses {told}; {chosen.dose} are the dose. Most harmed "
        f"there is {next(pairs)}, most improved {next(pairs)}."
    )
