"""The block "In other units": what the other maps of a contrast show, beside the primary one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lmri.config import StudyConfig
from lmri.report import words
from lmri.report.evidence import Evidence
from lmri.report.files import Files
from lmri.report.inputs import OtherMap, Scan, SubjectInputs
from lmri.report.map_figures import Limits
from lmri.report.other_figures import others_figure
from lmri.report.row_space import row_space_line
from lmri.report.view import Cell, Column, Figure, Heading, Prose, Table

MOST_DRAWN = 24
"""Sections of a report up to which each draws the maps of other units; one page must stay small."""

TEXT = (
    "The same trials, other units. Exploratory: they are not claimed, and what switching them off "
    "did decides nothing."
)


def other_units(
    subject: SubjectInputs,
    scan: Scan,
    config: StudyConfig,
    limits: Limits,
    anchor: str,
    files: Files,
) -> list[Figure | Table | Heading | Prose | None]:
    """Make the block of the maps beside the primary one.

    Parameters
    ----------
    subject : SubjectInputs
        The subject.
    scan : Scan
        The contrast in the first phase.
    config : StudyConfig
        The study.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    anchor : str
        Of the section.
    files : Files
        Takes the strongest units.

    Returns
    -------
    list of blocks
        Empty when there are no other maps.
    """
    if not any(entry.profile is not None or entry.finding for entry in scan.others):
        return []
    data = files.add(f"others.{anchor}", _frame(scan.others))
    drawn = len(config.subjects) * len(config.contrasts) <= MOST_DRAWN
    text = TEXT if drawn else f"{TEXT} The page of the contrast over all subjects draws the maps."
    return [
        Heading("In other units", text),
        others_table(subject, scan, config, data),
        _row_spaces(scan.others),
        others_figure(scan.others, limits, anchor, data) if drawn else None,
    ]


def _row_spaces(maps: list[OtherMap]) -> Prose | None:
    """Say of the findings about directions whether the model reads them."""
    lines = [
        (f"{words.sentence(entry.name.title)}. {line[0]}", line[1])
        for entry in maps
        if (line := row_space_line(entry.finding)) is not None
    ]
    return Prose(lines) if lines else None


def others_table(subject: SubjectInputs, scan: Scan, config: StudyConfig, data: str) -> Table:
    """List the maps beside the primary one, one row each.

    Parameters
    ----------
    subject : SubjectInputs
        The subject, with its arms.
    scan : Scan
        The contrast in the first phase.
    config : StudyConfig
        The study.
    data : str
        File with the strongest units.

    Returns
    -------
    Table
        What each selects, how it repeats in halves of the carriers, and what switching off did.
    """
    maps = [entry for entry in scan.others if entry.profile is not None or entry.finding]
    missing = sum(entry.profile.missing for entry in maps if entry.profile is not None)
    conditional = any(entry.name.kind == "expert_neuron" for entry in maps)
    routing = (
        " A neuron of an expert can only be active where its expert is chosen: a map over all "
        "tokens follows the routing, shown beside as the difference of the expert's rate; one over "
        "routed tokens does not."
        if conditional
        else ""
    )
    return Table(
        caption=(
            "Every other map of this phase. p is that of the strongest unit over all units of its "
            "map. r and Dice compare maps of two halves of the carriers; a Dice coefficient at its "
            f"chance level is no agreement. {_statistics(maps)}{routing}"
            f"{words.without_value(missing)}"
        ),
        columns=[
            Column("Units", "and what is compared"),
            Column("Statistic"),
            Column("Selected", "of all", "number"),
            Column("Strongest", "and its score", "number"),
            Column("Size", "of the strongest", "number"),
            Column("p", "over all units", "number"),
            Column("Halves", "r; Dice (chance)", "number"),
            Column("Switched off", "decrease, largest sham", "number"),
        ],
        rows=[_row(entry, subject, scan, config) for entry in maps],
        source=f"maps/{subject.name}/{scan.contrast.name}.{scan.phase}/",
        data=data,
    )


def _statistics(maps: list[OtherMap]) -> str:
    """Say once what each statistic of a table is."""
    meanings = {
        entry.name.statistic_name: entry.name.statistic_meaning
        for entry in maps
        if entry.name.statistic_meaning
    }
    told = "; ".join(f"{name} is the {meaning}" for name, meaning in meanings.items())
    return f"Statistics: {told}." if told else ""


def _row(entry: OtherMap, subject: SubjectInputs, scan: Scan, config: StudyConfig) -> list[Cell]:
    found = entry.profile
    head = [
        Cell(entry.name.noun.full.capitalize(), note=entry.name.quantity_name),
        Cell(entry.name.statistic_name),
    ]
    if found is None:
        reason = str((entry.finding or {}).get("reason") or "no map")
        return [*head, Cell("no map", "number", reason), *(_nothing() for _ in range(5))]
    best = found.strongest
    rising = f"{found.rising} rising" if found.two_sided and found.selected else ""
    missing = f"{found.missing} without a value" if found.missing else ""
    note = ", ".join(filter(None, (rising, missing)))
    return [
        *head,
        Cell(f"{found.selected} of {found.units}", "number", note),
        _strongest(entry),
        size_cell(best, found.routing),
        Cell(words.probability(best.get("p_max", math.nan)), "number"),
        _halves(entry),
        _off(entry, subject, scan, config),
    ]


def size_cell(best: dict, routing: float) -> Cell:
    """Write the size of the effect of the strongest unit: Hedges g, else the rate difference."""
    if words.number(best.get("hedges_g", math.nan)) != words.NOTHING:
        text = f"g {words.signed(best['hedges_g'])}"
    elif "rate_target" in best:
        text = words.signed(best["rate_target"] - best["rate_control"])
    else:
        return _nothing()
    note = "" if words.number(routing) == words.NOTHING else f"routing {words.signed(routing)}"
    return Cell(text, "number", note)


def _strongest(entry: OtherMap) -> Cell:
    unit = entry.profile.strongest_unit
    if not unit:
        return _nothing()
    return Cell(
        f"{entry.name.noun.one} {words.unit_name(unit)}",
        "number",
        words.statistic(entry.profile.strongest["score"]),
    )


def _halves(entry: OtherMap) -> Cell:
    found = entry.profile
    correlation = found.attribute("split_half_correlation")
    if math.isnan(correlation):
        return Cell(words.NOTHING, "number", "too few carriers to halve")
    dice = words.number(found.attribute("split_half_dice"))
    chance = words.number(found.attribute("split_half_chance"))
    return Cell(f"r {words.number(correlation)}", "number", f"Dice {dice} ({chance})")


def _off(entry: OtherMap, subject: SubjectInputs, scan: Scan, config: StudyConfig) -> Cell:
    """Effect of switching off at the dose and mode of the finding, beside the largest sham map."""
    secondary = (entry.finding or {}).get("secondary")
    arms = subject.arms_of(scan, entry.name)
    if not secondary or arms.empty:
        return Cell("not re-run", "number")
    endpoint = {"margin": config.evidence.margin, **secondary}
    evidence = Evidence(arms, endpoint, secondary, entry.name.noun)
    rows = evidence.target()
    effect, *_ = evidence.effect(evidence.at_endpoint(rows, "finding"))
    shams = evidence.effects(evidence.at_endpoint(rows, "sham")).to_numpy(float)
    shams = shams[np.isfinite(shams)]
    largest = f"; {len(shams)} shams, largest {words.number(shams.max())}" if len(shams) else ""
    called = entry.name.noun.count(int(secondary["dose"]))
    return Cell(
        words.number(effect),
        "number",
        f"{called}, {words.mode_name(secondary['mode'])}{largest}",
    )


def _nothing() -> Cell:
    return Cell(words.NOTHING, "number")


def _frame(maps: list[OtherMap]) -> pd.DataFrame:
    frames = [
        entry.profile.top.assign(map=entry.name.name)
        for entry in maps
        if entry.profile is not None and len(entry.profile.top)
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
