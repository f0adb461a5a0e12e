"""The page of encoding: which bands explain which layers, and whether the output uses them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lmri.report import words
from lmri.report.encoding.tables import ALL, Encoding, layer_frame
from lmri.report.figures.heat import draw_map
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.view import Cell, Column, Figure, Fold, Heading, Leaf, Panel, Prose, Table

TITLE = "Encoding"

LAYERS_SOURCE = "analyses/encode/<subject>/<task>.<kind>.<level>.zarr"
USE_SOURCE = "analyses/encode/<subject>/<task>.use.parquet"

LEAST = 0.05
"""Smallest share of variance that the strongest colour may stand for."""

Block = Figure | Fold | Heading | Prose | Table


def encoding_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of encoding.

    Parameters
    ----------
    inputs : StudyInputs
        A study with encoding, or with reasons why there is none.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the numbers.

    Returns
    -------
    Leaf
        Bands by layer for every task and kind of unit, the use of their subspaces, and what was
        left out.
    """
    encoding = inputs.encoding
    rows = layer_frame(encoding)
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="features of stimuli against activity, all subjects",
        title=TITLE,
        question=(
            "Which features of what is read predict the activity of units on places and words "
            "that the prediction has never seen, and does the output need what they predict?"
        ),
        answer=_answer(rows),
        role="",
        blocks=[*_layers(rows, files), *_use(encoding, files), *_left_out(encoding)],
    )


def _layers(rows: pd.DataFrame, files: Files) -> list[Block]:
    if rows.empty:
        return []
    data = files.add("encoding-layers", rows)
    text = (
        "Held-out share of a layer's variance that a band adds to all others; among these is what "
        "conditions differ in besides: length, position, frequency, surprisal. Below 0 the larger "
        "model predicts worse than the smaller one."
    )
    figures = [
        _figure(own, key, f"encoding-{number}", data)
        for number, (key, own) in enumerate(rows.groupby(["task", "kind", "level"], sort=False))
    ]
    return [
        Heading("Which bands explain which layers", text),
        *figures,
        Fold("Every layer, phase and band", _layer_table(rows, data)),
    ]


def _figure(rows: pd.DataFrame, key: tuple[str, str, str], name: str, data: str) -> Figure:
    task, kind, level = key
    shown = rows[rows["band"] != ALL]
    shown = shown.assign(drawn=shown["unique"].fillna(shown["r2"]))
    largest = float(np.nanmax(np.abs(shown["drawn"]), initial=0.0))
    limit = max(LEAST, math.ceil(100 * largest) / 100)
    panels, told = [], []
    groups = shown.groupby(["subject", "phase"], sort=False)
    for number, ((subject, phase), own) in enumerate(groups):
        table = own.pivot_table("drawn", "band", "layer", sort=False, dropna=False)
        drawing = draw_map(
            table.to_numpy(dtype=float),
            [],
            limit,
            f"{name}-{number}",
            width=420,
            axes_names=("layer", ""),
            rows=[words.readable(band) for band in table.index],
            scale_name="share",
            columns=[str(layer) for layer in table.columns],
        )
        panels.append(Panel(drawing, title=f"{subject}, {words.phase_name(phase)}"))
        told.append(f"{subject}, {words.phase_name(phase)}: {_strongest(own)}")
    what = "tokens" if level == "tokens" else "trials"
    return Figure(
        title=f"{words.sentence(words.readable(kind))}: {words.readable(task)}, by {what}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "A band that stands out in some layers and not in others: what it tells is there and "
            "in no other band. The row of nuisance is what these explain without any other."
        ),
        falsify=(
            "Bands that are blue (they only overfit), or a row of nuisance as strong as the "
            "bands: conditions then differ in length or surprisal first of all."
        ),
        source=LAYERS_SOURCE,
        data=data,
        layout="medium",
    )


def _strongest(rows: pd.DataFrame) -> str:
    own = rows[(rows["band"] != "nuisance") & rows["unique"].notna()]
    if own.empty:
        return "no band of interest"
    best = own.loc[own["unique"].idxmax()]
    if best["unique"] <= 0:
        return "no band adds anything"
    return (
        f"{words.readable(best['band'])} adds {words.number(best['unique'])} in layer "
        f"{int(best['layer'])}"
    )


def _layer_table(rows: pd.DataFrame, data: str) -> Table:
    return Table(
        caption=(
            "Shares of a layer's variance, held out. R² is that of the model of nuisance bands, "
            "and of the model of all bands. A unit stands out where what the band adds is "
            "beyond the largest of all units under exchanged carriers (p at most .05). A ceiling "
            "needs honest repeats: other templates of the same content, or sampled responses."
        ),
        columns=[
            Column("Subject"),
            Column("Task"),
            Column("Units"),
            Column("Phase"),
            Column("Layer", kind="number"),
            Column("Band"),
            Column("R²", "of the model", "number"),
            Column("Adds", "beyond all others", "number"),
            Column("Alone", "beyond nuisance", "number"),
            Column("Stand out", "of units that vary", "number"),
            Column("Ceiling", "median", "number"),
            Column("Rows", kind="number"),
        ],
        rows=[_layer_row(row) for row in rows.to_dict("records")],
        source=LAYERS_SOURCE,
        data=data,
        layout="grid",
    )


def _layer_row(row: dict) -> list[Cell]:
    names = {ALL: "all bands", "nuisance": "nuisance bands"}
    tested = np.isfinite(row["significant"])
    count = f"{int(row['significant'])} of {row['units']}" if tested else words.NOTHING
    return [
        Cell(str(row["subject"])),
        Cell(words.readable(row["task"]), note=row["level"]),
        Cell(words.readable(row["kind"])),
        Cell(words.phase_name(row["phase"])),
        Cell(words.whole(row["layer"]), "number"),
        Cell(names.get(row["band"], words.readable(row["band"]))),
        Cell(words.number(row["r2"], 3), "number"),
        Cell(words.number(row["unique"], 3), "number"),
        Cell(words.number(row["alone"], 3), "number"),
        Cell(count, "number"),
        Cell(words.number(row["ceiling"]) if np.isfinite(row["ceiling"]) else "none", "number"),
        Cell(words.whole(row["n"]), "number"),
    ]


def _use(encoding: Encoding, files: Files) -> list[Block]:
    if not encoding.use:
        return []
    text = (
        "What a layer represents, its output need not use. The subspace of a band is set to its "
        "mean at the last token of the prompt, in trials that nothing was fitted on; beside it the "
        "same is done to random subspaces with as much variance."
    )
    blocks: list[Block] = [Heading("Representation is not use", text)]
    for task, rows in encoding.use.items():
        data = files.add(f"encoding-use-{words.readable(task).replace(' ', '-')}", rows)
        blocks.append(_use_table(task, rows, data))
    return blocks


def _use_table(task: str, rows: pd.DataFrame, data: str) -> Table:
    return Table(
        caption=(
            f"{words.sentence(words.readable(task))}: what bands explain of the residual after a "
            "layer, beside what ablating their subspace does to the response. Where the overlap "
            "with random subspaces is near 1, one direction has the variance and no other could "
            "be drawn: the control then says nothing."
        ),
        columns=[
            Column("Subject"),
            Column("Layer", kind="number"),
            Column("Band"),
            Column("Explains", "held-out share", "number"),
            Column("Variance", "in its subspace, rank", "number"),
            Column("Effect", "nats per token", "number"),
            Column("Random", "mean, largest", "number"),
            Column("p", kind="number"),
            Column("Overlap", kind="number"),
            Column("Changed", "of trials", "number"),
        ],
        rows=[_use_row(row) for row in rows.to_dict("records")],
        source=USE_SOURCE,
        data=data,
        layout="grid",
    )


def _use_row(row: dict) -> list[Cell]:
    return [
        Cell(str(row["subject"])),
        Cell(words.whole(row["layer"]), "number"),
        Cell(words.readable(row["band"]), note="" if row["role"] == "interest" else "nuisance"),
        Cell(words.number(row["explained"]), "number"),
        Cell(words.number(row["share"]), "number", f"rank {row['rank']}"),
        Cell(words.number(row["divergence"], 3), "number"),
        Cell(
            f"{words.number(row['random_mean'], 3)}, {words.number(row['random_most'], 3)}",
            "number",
        ),
        Cell(words.probability(row["p"]), "number"),
        Cell(words.number(row["overlap"]), "number"),
        Cell(words.number(row["changed"]), "number", f"of {row['n']}"),
    ]


def _left_out(encoding: Encoding) -> list[Block]:
    """One line for each reason: what it is about, in whom."""
    about: dict[str, dict[str, list[str]]] = {}
    for subject, reasons in encoding.left_out.items():
        for name, reason in reasons.items():
            about.setdefault(reason, {}).setdefault(name, []).append(subject)
    if not about:
        return []
    rows = [
        [Cell(reason), Cell(words.listing(names)), Cell(words.listing(_all(names)))]
        for reason, names in sorted(about.items())
    ]
    table = Table(
        caption="What was skipped: bands, units, phases and analyses, and why.",
        columns=[Column("Reason"), Column("Of", "task, level or kind, phase, band"), Column("In")],
        rows=rows,
        source="analyses/encode/<subject>/left_out.json",
    )
    return [Heading("What is not there"), table]


def _all(names: dict[str, list[str]]) -> list[str]:
    return list(dict.fromkeys(subject for subjects in names.values() for subject in subjects))


def _answer(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "Nothing could be encoded."
    told = []
    own = rows[~rows["band"].isin([ALL, "nuisance"])]
    for subject, part in own.groupby("subject", sort=False):
        part = part[part["unique"].notna()]
        if part.empty or part["unique"].max() <= 0:
            told.append(f"{subject}, no band beyond the others")
            continue
        best = part.loc[part["unique"].idxmax()]
        told.append(
            f"{subject}, {words.readable(best['band'])} ({words.number(best['unique'])} of the "
            f"variance of layer {int(best['layer'])}, {words.readable(best['kind'])}, "
            f"{words.readable(best['task'])}, {words.phase_name(best['phase'])})"
        )
    return f"What adds most beyond all other bands: {'; '.join(told)}."
