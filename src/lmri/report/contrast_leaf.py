"""The page of one contrast over all subjects."""

from __future__ import annotations

import math

import pandas as pd

from lmri.config import ContrastOptions
from lmri.report import words
from lmri.report.answers import ask_contrast
from lmri.report.causal.section import causal_blocks
from lmri.report.files import Files
from lmri.report.group import read_unit
from lmri.report.inputs import OtherMap, StudyInputs, claimed_map
from lmri.report.kinds import MapName
from lmri.report.map_figures import Limits, overview_figure
from lmri.report.other_figures import subjects_figure
from lmri.report.overlap import overlap_blocks, shared_blocks
from lmri.report.replication import (
    describe_replication,
    layer_figure,
    replication_prose,
    replication_table,
    standing,
)
from lmri.report.view import Cell, Column, Figure, Fold, Heading, Leaf, Prose, Table
from lmri.store import CAUSAL_PHASE

Block = Figure | Table | Heading | Prose | Fold


def contrast_leaf(
    inputs: StudyInputs, contrast: ContrastOptions, path: str, limits: Limits, files: Files
) -> Leaf:
    """Make the page of one contrast.

    Parameters
    ----------
    inputs : StudyInputs
        The study.
    contrast : ContrastOptions
        The contrast.
    path : str
        Of the page, relative to the report.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    files : Files
        Takes the data behind figures and tables.

    Returns
    -------
    Leaf
        What was asked, what each subject shows, what replicates, what it shares with others.
    """
    group, key = inputs.group, path.rpartition("/")[2].removesuffix(".html")
    blocks = [
        *_subjects(inputs, contrast, key, files),
        _side_by_side(inputs, contrast, limits, key),
        *_replication(inputs, contrast, key, files),
        *_other_maps(inputs, contrast, limits, key),
        *causal_blocks(inputs, contrast, key, files),
        *shared_blocks(group, contrast, key, files),
        *overlap_blocks(group, contrast, inputs.config.evidence.alpha, key, files),
        *_other_phases(inputs, contrast, key, files),
    ]
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="a contrast over all subjects",
        title=words.readable(contrast.name),
        question=ask_contrast(
            contrast,
            inputs.config.evidence.score,
            inputs.noun_of([contrast.name]),
            causal=claimed_map(inputs.config, contrast) is not None,
        ),
        answer=_answer(inputs, contrast),
        role=contrast.role,
        blocks=[block for block in blocks if block is not None],
    )


def maps_table(
    inputs: StudyInputs, contrast: ContrastOptions, phase: str, data: str, only: str = ""
) -> Table:
    """List what every map of a contrast shows in every subject.

    Parameters
    ----------
    inputs : StudyInputs
        The study.
    contrast : ContrastOptions
        The contrast.
    phase : str
        The phase.
    data : str
        File with the same rows.
    only : str
        The one map to list; by default all of the phase.

    Returns
    -------
    Table
        One row per subject, one column per map.
    """
    rows = rows_of(inputs.group.maps, contrast, phase)
    rows = rows[rows["name"] == only] if only else rows
    place = "and the primary map" if only else f"and maps at the {words.phase_name(phase)}"
    names = [MapName(str(name)) for name in dict.fromkeys(rows["name"])]
    cells = {(row["subject"], row["name"]): row for row in rows.to_dict("records")}
    subjects = list(dict.fromkeys(rows["subject"]))
    return Table(
        caption=(
            f"Subjects {place}: units selected of all; the "
            "strongest with its score; its size (Hedges g, or the rate difference) and p over all "
            "units; agreement of halves of the carriers as r, and as Dice with its chance level."
            f"{words.without_value(_missing_values(inputs, contrast))}"
        ),
        columns=[
            Column("Subject"),
            *(Column(name.title.capitalize(), name.statistic_name, "number") for name in names),
        ],
        rows=[
            [
                Cell(str(subject), note=_verdict(inputs, str(subject), contrast, phase)),
                *(_map_cell(cells.get((subject, name.name)), name) for name in names),
            ]
            for subject in subjects
        ],
        source="group/maps.parquet",
        data=data,
        layout="grid",
    )


def rows_of(table: pd.DataFrame, contrast: ContrastOptions, phase: str = "") -> pd.DataFrame:
    """Rows of a contrast, of one phase or of all."""
    chosen = table["contrast"] == contrast.name
    return table[chosen & (table["phase"] == phase)] if phase else table[chosen]


def _answer(inputs: StudyInputs, contrast: ContrastOptions) -> str:
    rows = rows_of(inputs.group.replication, contrast, inputs.config.localise.phases[0])
    if (claimed := claimed_map(inputs.config, contrast)) is not None:
        rows = rows_of(inputs.group.replication, contrast, CAUSAL_PHASE)
        rows = rows[rows["name"] == claimed.name]
    if rows.empty:
        return "The subjects have not been compared; see the errors at the end of the report."
    name = next(
        (name for name in inputs.config.localise.maps if name in set(rows["name"])),
        rows["name"].iloc[0],
    )
    row = rows[rows["name"] == name].iloc[0].to_dict()
    others = [standing(entry) for entry in rows[rows["name"] != name].to_dict("records")]
    sentence = describe_replication(row)
    if not others or int(row["subjects"]) < 2:
        return sentence
    counts = words.listing(
        f"{others.count(known)} {_verb(known, others.count(known))}"
        for known in dict.fromkeys(others)
    )
    return f"{sentence} Of {words.plural(len(others), 'map')} of other units, {counts}."


def _verb(known: str, count: int) -> str:
    one = count == 1
    return {
        "empty": f"{'is' if one else 'are'} empty in all subjects",
        "replicates": "replicates" if one else "replicate",
        "replicates in part": f"{'replicates' if one else 'replicate'} in part",
        "does not replicate": f"{'does' if one else 'do'} not replicate",
    }[known]


def _subjects(
    inputs: StudyInputs, contrast: ContrastOptions, key: str, files: Files
) -> list[Block | None]:
    phase = inputs.config.localise.phases[0]
    rows, claimed = rows_of(inputs.group.maps, contrast), claimed_map(inputs.config, contrast)
    if rows_of(rows, contrast, phase).empty:
        return [_missing("Subjects and maps", "group/maps.parquet")]
    data = files.add(f"contrast.{key}", rows)
    table = maps_table(inputs, contrast, phase, data)
    if claimed is None:
        return [Heading("Subjects and maps"), table]
    text = (
        f"The primary map is the causal one of {claimed.described}; its place among the other "
        "causal maps is further below. What responds to the contrast is exploratory here."
    )
    primary = maps_table(inputs, contrast, CAUSAL_PHASE, data, only=claimed.name)
    return [Heading("Subjects and maps", text), primary, table]


def _side_by_side(
    inputs: StudyInputs, contrast: ContrastOptions, limits: Limits, key: str
) -> Figure | None:
    entries = []
    for subject in inputs.subjects:
        scan = subject.scans[contrast.name][0]
        if scan.profile is None:
            continue
        verdict = subject.verdict(contrast.name, scan.phase)
        badge = words.verdict_name(verdict) if verdict else ""
        units = words.read_units(verdict["units"]) if verdict else []
        entries.append((subject.name, badge, scan, units))
    return overview_figure(entries, limits, "", f"{key}-all") if entries else None


def _other_maps(
    inputs: StudyInputs, contrast: ContrastOptions, limits: Limits, key: str
) -> list[Block | None]:
    maps: dict[MapName, list[tuple[str, OtherMap]]] = {}
    for subject in inputs.subjects:
        for entry in subject.recorded(contrast.name)[0].others:
            maps.setdefault(entry.name, []).append((subject.name, entry))
    origins = {inputs.config.subjects[subject.name].origin for subject in inputs.subjects}
    one_base = len(origins) == 1 and "" not in origins
    figures = [
        subjects_figure(name, entries, limits, f"{key}-other{number}", one_base=one_base)
        for number, (name, entries) in enumerate(maps.items())
    ]
    drawn = [figure for figure in figures if figure is not None]
    return [Heading("In other units", "Exploratory: they decide nothing."), *drawn] if drawn else []


def _replication(
    inputs: StudyInputs, contrast: ContrastOptions, key: str, files: Files
) -> list[Block | None]:
    heading, phase = "What replicates and what does not", inputs.config.localise.phases[0]
    rows = rows_of(inputs.group.replication, contrast)
    if rows.empty:
        return [_missing(heading, "group/replication.parquet")]
    maps = rows_of(inputs.group.maps, contrast)
    data = files.add(f"contrast.{key}", maps)
    layers = {
        layer
        for subject in inputs.subjects
        for scan in subject.recorded(contrast.name)[:1]
        for found in (scan.profile, *(entry.profile for entry in scan.others))
        if found is not None
        for layer in found.layers
    }
    return [
        Heading(heading, f"At the {words.phase_name(phase)}."),
        replication_prose(rows_of(rows, contrast, phase), contrast.role, len(layers)),
        layer_figure(rows_of(maps, contrast, phase), sorted(layers), key, data),
        replication_table(rows, files.add(f"replication.{key}", rows)),
    ]


def _other_phases(
    inputs: StudyInputs, contrast: ContrastOptions, key: str, files: Files
) -> list[Block]:
    rows = rows_of(inputs.group.maps, contrast)
    first = inputs.config.localise.phases[0]
    phases = [
        str(phase) for phase in dict.fromkeys(rows["phase"]) if phase not in (first, CAUSAL_PHASE)
    ]
    if not phases:
        return []
    data = files.add(f"contrast.{key}", rows)
    return [
        Heading("Other phases and methods", "Exploratory: they decide nothing."),
        *(
            Fold(words.phase_name(phase).capitalize(), maps_table(inputs, contrast, phase, data))
            for phase in phases
        ),
    ]


def _missing_values(inputs: StudyInputs, contrast: ContrastOptions) -> int:
    """Units without a value, over all subjects and maps that are shown."""
    scans = [subject.recorded(contrast.name)[0] for subject in inputs.subjects]
    found = [own.profile for scan in scans for own in (scan, *scan.others)]
    return sum(profile.missing for profile in found if profile is not None)


def _missing(heading: str, path: str) -> Prose:
    return Prose([(f"{heading}:", f"{path} is missing, or says nothing of this contrast.")])


def _verdict(inputs: StudyInputs, subject: str, contrast: ContrastOptions, phase: str) -> str:
    for entry in inputs.subjects:
        if entry.name == subject:
            verdict = entry.verdict(contrast.name, phase)
            return words.verdict_name(verdict) if verdict else ""
    return ""


def _map_cell(row: dict | None, name: MapName) -> Cell:
    if row is None:
        return Cell(words.NOTHING, "number", "no such units")
    unit = read_unit(row["strongest"])
    if not unit:
        return Cell("no map", "number", str(row["reason"] or ""))
    size = words.signed(row["size"])
    parts = [
        f"{words.unit_name(unit)} {words.signed(row['score'])}",
        "" if name.counted or size == words.NOTHING else f"g {size}",
        f"p {words.probability(row['p_max'])}",
        *_halves(row),
    ]
    return Cell(
        f"{words.whole(row['selected'])} of {words.whole(row['units'])}",
        "number",
        # Lines break between the numbers, not inside them.
        "; ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts if part),
    )


def _halves(row: dict) -> list[str]:
    correlation = float(row["split_half_correlation"])
    if math.isnan(correlation):
        return []
    dice, chance = (words.number(row[f"split_half_{name}"]) for name in ("dice", "chance"))
    return [f"r {words.number(correlation)}", f"Dice {dice} ({chance})"]
