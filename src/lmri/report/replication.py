"""What replicates over subjects and what does not, in sentences made from numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lmri.report import words
from lmri.report.figures.heat import draw_map
from lmri.report.group import read_counts
from lmri.report.kinds import MapName
from lmri.report.view import Cell, Column, Figure, Panel, Prose, Table

MOST = 0.8
"""Share of the subjects from which on something replicates."""

HALF = 0.5
"""Share of the subjects up to which it does not: two subjects that differ are half and half."""

LEAST_LAYERS = 4
"""Layers below which their strengths are not correlated."""

CONTROL = "negative_control"

STANDINGS = ("replicates", "replicates in part", "does not replicate", "empty", "not compared")

RULE = (
    f"Replicates: a map that is not empty in at least {MOST:.0%} of the subjects, with the "
    f"strongest unit in the same layer in at least {MOST:.0%}; at {HALF:.0%} of either or less it "
    "does not; between, in part. Subjects agree on one of a few layers by chance, too, so that a "
    "layer shared by few subjects says little, and states of one base are not independent. "
    "Strengths are mean magnitudes of the scores by layer, compared where there are at least four "
    "layers."
)


def standing(row: Mapping) -> str:
    """Say whether a map replicates, by a fixed rule.

    Parameters
    ----------
    row : mapping
        A row of ``group/replication.parquet``.

    Returns
    -------
    str
        One of :data:`STANDINGS`.
    """
    subjects = int(row["subjects"])
    if subjects < 2:
        return "not compared"
    mapped, together = int(row["mapped"]), int(row["in_modal_layer"])
    if not mapped:
        return "empty"
    if min(mapped, together) >= MOST * subjects:
        return "replicates"
    return (
        "does not replicate" if min(mapped, together) <= HALF * subjects else "replicates in part"
    )


def describe_replication(row: Mapping) -> str:
    """Tell what one map shows over all subjects.

    Parameters
    ----------
    row : mapping
        A row of ``group/replication.parquet``.

    Returns
    -------
    str
        One or two sentences.
    """
    name = MapName(str(row["name"]))
    subjects, mapped = int(row["subjects"]), int(row["mapped"])
    total = words.plural(subjects, "subject")
    called = f"The map of {name.described}"
    if not mapped:
        return f"{called} is empty in {_all_of(subjects)}."
    lead = f"{called} is empty in {subjects - mapped} of {total}"
    if mapped == subjects:
        lead = f"{called} selects {name.noun.many} in {_all_of(subjects)}"
    lead += _strongest(row, name)
    mean = words.number(row["correlation_mean"])
    if mean == words.NOTHING:
        return f"{lead}."
    between = words.interval(row["correlation_low"], row["correlation_high"])
    return (
        f"{lead}. Between subjects, the mean strengths of the layers correlate at {mean} on "
        f"average ({between})."
    )


def _strongest(row: Mapping, name: MapName) -> str:
    """Say where the strongest units are; nothing where that is not known."""
    together, is_layer = int(row["in_modal_layer"]), name.kind == "layer"
    if together == 1 < int(row["mapped"]):
        if is_layer:
            return "; another layer is the strongest in each"
        return f"; the strongest {name.noun.one} lies in another layer in each"
    layer, of = _common_layer(row), f"in {together} of {int(row['subjects'])}"
    if layer == words.NOTHING:
        return ""
    if is_layer:
        return f"; layer {layer} is the strongest {of}"
    return f"; the strongest {name.noun.one} lies in layer {layer} {of}"


def _common_layer(row: Mapping) -> str:
    """Layer of most strongest units; none where each of several subjects has another."""
    if int(row["in_modal_layer"]) == 1 < int(row["mapped"]):
        return words.NOTHING
    return words.whole(row["modal_layer"])


def few_layers(layers: int) -> str:
    """Say why layers are not correlated between subjects, where they are too few.

    Parameters
    ----------
    layers : int
        Layers of the subjects; 0 where they are not known.

    Returns
    -------
    str
        A sentence; empty where there are enough.
    """
    if not 0 < layers < LEAST_LAYERS:
        return ""
    why = {
        # Centred profiles of three layers lie in a plane: any angle between two is as likely.
        3: "over three numbers, unrelated profiles correlate at .71 or more in a quarter of cases",
        2: "over two numbers, every correlation is 1 or \u22121",
    }.get(layers, "one number has no correlation")
    return (
        f"The strengths of the layers are not correlated between subjects: there "
        f"{'is' if layers == 1 else 'are'} {words.plural(layers, 'layer')}, and {why}. Compare the "
        "layers themselves in the figure below."
    )


def replication_prose(rows: pd.DataFrame, role: str, layers: int = 0) -> Prose:
    """Say in sentences what replicates and what does not.

    Parameters
    ----------
    rows : DataFrame
        Rows of ``group/replication.parquet`` of one contrast and phase.
    role : str
        Role of the contrast.
    layers : int
        Layers of the subjects, to say where they are too few to be correlated.

    Returns
    -------
    Prose
        What replicates first.
    """
    lines = []
    entries = rows.to_dict("records")
    for known in STANDINGS:
        own = [row for row in entries if standing(row) == known]
        lead = f"{_lead(known, role)}:" if own else ""
        lines += [(lead if not at else "", describe_replication(row)) for at, row in enumerate(own)]
    if why := few_layers(layers) if any(int(row["subjects"]) > 1 for row in entries) else "":
        lines.append(("", why))
    return Prose(lines)


def replication_table(rows: pd.DataFrame, data: str) -> Table:
    """List the numbers behind the sentences.

    Parameters
    ----------
    rows : DataFrame
        Rows of ``group/replication.parquet`` of one contrast, all phases.
    data : str
        File with the same rows.

    Returns
    -------
    Table
        One row per phase and map.
    """
    return Table(
        caption=f"Agreement of the subjects. {RULE}",
        columns=[
            Column("Map", "and phase"),
            Column("Statistic"),
            Column("Agreement"),
            Column("Not empty", "of the subjects", "number"),
            Column("Layer", "of most strongest units", "number"),
            Column("There", "of the subjects", "number"),
            Column("Strength by layer", "mean r, lowest to highest", "number"),
            Column("Over subjects", "second-level map"),
        ],
        rows=[_replication_row(row) for row in rows.to_dict("records")],
        source="group/replication.parquet",
        data=data,
    )


def layer_figure(maps: pd.DataFrame, layers: Sequence[int], key: str, data: str) -> Figure | None:
    """Show for every map and subject which layers the selected units lie in.

    Parameters
    ----------
    maps : DataFrame
        Rows of ``group/maps.parquet`` of one contrast and phase.
    layers : sequence of int
        All layers, so that empty ones are drawn.
    key : str
        Begin of the drawings' keys.
    data : str
        File with the same rows.

    Returns
    -------
    Figure or None
        None where no map selects anything.
    """
    panels, told = [], []
    for number, (name, rows) in enumerate(maps.groupby("name", sort=False)):
        counts = [read_counts(text) for text in rows["layers"]]
        known = sorted({*layers, *(layer for entry in counts for layer in entry)})
        if not any(sum(entry.values()) for entry in counts) or not known:
            continue
        shares = np.array([[entry.get(layer, 0) for layer in known] for entry in counts], float)
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
        title = MapName(str(name)).title.capitalize()
        drawing = draw_map(
            shares[::-1],
            [],
            1.0,
            f"{key}-layers{number}",
            width=330,
            scale_bar=False,
            axes_names=("layer", ""),
            rows=[words.short(subject) for subject in rows["subject"]][::-1],
        )
        panels.append(Panel(drawing, title=title))
        most = shares.mean(axis=0)
        told.append(
            f"{title}: layer {known[int(most.argmax())]} has most, {most.max():.0%} on average"
        )
    if not panels:
        return None
    return Figure(
        title="Layers of the selected units",
        panels=panels,
        alt=f"Shares of the selected units by layer and subject. {'; '.join(told)}.",
        look_for=(
            "A row is a subject, a column a layer; the stronger the orange, the more of its "
            "selected units lie there, full colour is all of them. What replicates is one column "
            "that all rows share."
        ),
        falsify=(
            "Rows with their colour in other columns, or blank rows: those subjects select none. "
            "An even row tells that the map does not say where."
        ),
        source="group/maps.parquet",
        data=data,
        layout="medium",
    )


def _all_of(subjects: int) -> str:
    return {1: "the only subject", 2: "both subjects"}.get(subjects, f"all {subjects} subjects")


def _lead(known: str, role: str) -> str:
    if role == CONTROL:
        return {
            "empty": "Empty in all subjects, as it should be",
            "not compared": "One subject only, so nothing to compare",
        }.get(known, "Not empty, and should be")
    return {
        "empty": "Empty in all subjects",
        "not compared": "One subject only, so nothing to compare",
    }.get(known, words.readable(known).capitalize())


def _replication_row(row: Mapping) -> list[Cell]:
    name = MapName(str(row["name"]))
    subjects = int(row["subjects"])
    between = words.interval(row["correlation_low"], row["correlation_high"])
    second = str(row["second_level"] or "")
    return [
        Cell(name.title.capitalize(), note=words.phase_name(str(row["phase"]))),
        Cell(name.statistic_name),
        Cell(standing(row)),
        Cell(f"{int(row['mapped'])} of {subjects}", "number"),
        Cell(_common_layer(row), "number"),
        Cell(f"{int(row['in_modal_layer'])} of {subjects}", "number"),
        Cell(words.number(row["correlation_mean"]), "number", between),
        Cell(second or words.NOTHING, "code" if second else "text"),
    ]
