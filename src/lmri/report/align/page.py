"""The page of alignment: what subjects share whose units do not correspond."""

from __future__ import annotations

import pandas as pd

from lmri.config import StudyConfig
from lmri.report import words
from lmri.report.align.figures import identification_figure, layers_figure, transfer_figure
from lmri.report.align.tables import (
    SHARED,
    SOURCE,
    Alignment,
    by_whom,
    ceiling_frame,
    geometry_frame,
    identification_frame,
    transfer_frame,
)
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.view import Cell, Column, Figure, Fold, Heading, Leaf, Prose, Table

TITLE = "Alignment"

Block = Figure | Fold | Heading | Prose | Table


def align_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of alignment.

    Parameters
    ----------
    inputs : StudyInputs
        A study whose subjects were compared, or with reasons why not.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the numbers.

    Returns
    -------
    Leaf
        Identification, decoding from few trials, geometry, what was left out.
    """
    alignment = inputs.alignment
    identified = identification_frame(alignment)
    blocks: list[Block | None] = [
        *_identified(alignment, identified, files),
        *_transferred(alignment, files),
        *_ceilings(alignment, inputs.config, files),
        *_geometry(alignment, files),
        *_left_out(alignment),
    ]
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="representations of all subjects in the same trials",
        title=TITLE,
        question=(
            "Units of two models do not correspond. Is there a rotation that makes one tell what "
            "the other read, and does it help to decode a model that has read little?"
        ),
        answer=_answer(identified),
        role="",
        blocks=[block for block in blocks if block is not None],
    )


def _identified(alignment: Alignment, rows: pd.DataFrame, files: Files) -> list[Block | None]:
    if rows.empty:
        return []
    data = files.add("align-identification", rows)
    own = next(iter(alignment.found.values()))
    text = (
        f"Spaces of {own.attrs['dimensions']} dimensions are fitted on trials of the split "
        f"{own.attrs['fit']} and scored on those of {own.attrs['score']}, which share no place, "
        "year or other carrier with them. Every number of this page is of the latter."
    )
    figures = [identification_figure(rows, place, data) for place in alignment.found]
    table = identification_table(rows, data)
    return [Heading("Identification", text), *figures, Fold("Every subject and layer", table)]


def identification_table(rows: pd.DataFrame, data: str) -> Table:
    """Tell every identification with its chance."""
    return Table(
        caption=(
            "Two-way: share of other stimuli that are less similar than the right one, chance .5; "
            "within: among those of its condition. Top k among N, chance k / N. Below each score "
            "the interval that holds 95 % of the draws in which entities changed places."
        ),
        columns=[
            Column("Subject"),
            Column("By"),
            Column("Layer", kind="number"),
            Column("N", kind="number"),
            Column("Two-way", "chance", "number"),
            Column("Within", "chance", "number"),
            Column("Top 1", "chance", "number"),
            Column("Top 5", "chance", "number"),
            Column("p", "two-way", "number"),
        ],
        rows=[_identified_row(row) for row in rows.to_dict("records")],
        source=SOURCE,
        data=data,
        layout="grid",
    )


def _identified_row(row: dict) -> list[Cell]:
    where = f"{words.readable(row['task'])}, {words.phase_name(row['phase'])}"
    scores = [
        Cell(
            words.number(row[name]),
            "number",
            words.interval(row[f"{name}_low"], row[f"{name}_high"]),
        )
        for name in ("two_way", "within", "top_1", "top_5")
    ]
    return [
        Cell(str(row["subject"]), note=where),
        Cell(str(row["by"]), note="shared space" if row["by"] == SHARED else "Procrustes"),
        Cell(words.whole(row["layer"]), "number"),
        Cell(words.whole(row["n"]), "number"),
        *scores,
        Cell(words.probability(row["two_way_p"]), "number"),
    ]


def _transferred(alignment: Alignment, files: Files) -> list[Block | None]:
    rows = transfer_frame(alignment)
    if rows.empty:
        return []
    data = files.add("align-transfer", rows)
    text = (
        "A decoder is fitted on the shared responses of all other subjects. The new subject needs "
        "a linear map of its units into that space, fitted on the few trials it has read. Draws of "
        "trials are not independent of each other: bars tell how much the choice matters, not how "
        "sure the accuracy is."
    )
    return [
        Heading("Decoding a new subject", text),
        *(transfer_figure(rows, place, data) for place in alignment.found),
    ]


def _ceilings(alignment: Alignment, config: StudyConfig, files: Files) -> list[Block | None]:
    rows = ceiling_frame(alignment)
    if rows.empty:
        return []
    data = files.add("align-ceiling", rows)
    # States of one base differ by more, or less, than a seed.
    whose = "seeds" if len(config.base_seeds) == len(config.subjects) else "subjects"
    text = (
        "Subjects are repeats of a stimulus where they can be compared, which is in their shared "
        "space. What they have in common there is the most that anything said of stimuli alone can "
        "explain in all of them at once. It is no ceiling for the encoding of one subject, which "
        "may follow what this subject alone does."
    )
    table = Table(
        caption=(
            f"Corrected for what noise would give. Near 1: {whose} do the same with a stimulus, "
            "but for a rotation. Within its null: nothing that was learned of some entities is "
            f"common to {whose} for others. A small share of all activity beside a high ceiling: "
            "the shared space leaves most of the activity out."
        ),
        columns=[
            Column("Task"),
            Column("Layers", kind="number"),
            Column("Subjects", kind="number"),
            Column("Trials", kind="number"),
            Column("In common", "of the shared space; null", "number"),
            Column("p", kind="number"),
            Column("Of all activity", kind="number"),
        ],
        rows=[
            [
                Cell(words.readable(row["task"]), note=words.phase_name(row["phase"])),
                Cell(row["layers"], "number"),
                Cell(words.whole(row["subjects"]), "number"),
                Cell(words.whole(row["n"]), "number"),
                Cell(
                    words.number(row["ceiling"]), "number", words.interval(row["low"], row["high"])
                ),
                Cell(words.probability(row["p"]), "number"),
                Cell(words.number(row["share"]), "number"),
            ]
            for row in rows.to_dict("records")
        ],
        source=SOURCE,
        data=data,
        layout="grid",
    )
    return [Heading(f"What {whose} have in common at most", text), table]


def _geometry(alignment: Alignment, files: Files) -> list[Block | None]:
    rows = geometry_frame(alignment)
    if rows.empty:
        return []
    data = files.add("align-geometry", rows)
    text = "Nothing is fitted here: both compare how far apart trials, or items, are."
    drawn = [
        layers_figure(alignment, place, measure, data)
        for place in alignment.found
        for measure in ("cka", "rsa")
    ]
    return [
        Heading("Geometry", text),
        *drawn,
        Fold("Layers of equal depth", geometry_table(rows, data)),
    ]


def geometry_table(rows: pd.DataFrame, data: str) -> Table:
    """Tell CKA, RSA and Procrustes of each pair of subjects."""
    return Table(
        caption=(
            "CKA with the interval of its null, RSA with its 95 % interval over items, and the "
            "share of variance that a rotation explains in new trials (below 0 where the mean does "
            "better)."
        ),
        columns=[
            Column("Subjects"),
            Column("Layers", kind="number"),
            Column("CKA", "null", "number"),
            Column("p", "of CKA", "number"),
            Column("RSA", "95 % interval", "number"),
            Column("p", "of RSA", "number"),
            Column("Rotation", "R²", "number"),
        ],
        rows=[
            [
                Cell(
                    f"{row['subject']} and {row['other']}",
                    note=f"{words.readable(row['task'])}, {words.phase_name(row['phase'])}",
                ),
                Cell(f"{row['layer']}, {row['other_layer']}", "number"),
                Cell(
                    words.number(row["cka"]),
                    "number",
                    words.interval(row.get("cka_null_low"), row.get("cka_null_high")),
                ),
                Cell(words.probability(row.get("cka_p")), "number"),
                Cell(
                    words.number(row["rsa"]),
                    "number",
                    words.interval(row["rsa_low"], row["rsa_high"]),
                ),
                Cell(words.probability(row["rsa_p"]), "number"),
                Cell(words.number(row.get("procrustes")), "number"),
            ]
            for row in rows.to_dict("records")
        ],
        source=SOURCE,
        data=data,
        layout="grid",
    )


def _left_out(alignment: Alignment) -> list[Block]:
    if not alignment.left_out:
        return []
    return [Heading("What is not there"), Prose(list(alignment.left_out.items()))]


def _answer(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "No stimulus could be identified across subjects; the reasons are below."
    told = []
    for (task, subject), own in rows.groupby(["task", "subject"], sort=False):
        best = own.loc[own["two_way"].idxmax()]
        by = by_whom(best["by"], rows["subject"].nunique())
        told.append(
            f"{subject}, {words.readable(task)}: {words.number(best['two_way'])} by {by} (layer "
            f"{best['layer']}, {words.phase_name(best['phase'])}; the best of {len(own)}, of which "
            f"by chance one alone comes up to {words.number(best['two_way_high'])})"
        )
    n = words.spread(rows["n"].tolist())
    return (
        f"Two-way identification among {n} stimuli of new entities, the best of all layers, phases "
        f"and subjects, which chance alone lifts: {'; '.join(told)}."
    )
