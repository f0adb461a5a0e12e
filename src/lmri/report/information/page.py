"""The page of information: what layers tell of trials, how states lie, what may be said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from lmri.config import SubjectOptions
from lmri.report import words
from lmri.report.files import Files
from lmri.report.information.changes import change_blocks
from lmri.report.information.dynamics import dynamics_blocks
from lmri.report.information.figures import (
    attention_figure,
    attribute_figure,
    class_figure,
    expert_figure,
    lens_figure,
    spectral_figure,
)
from lmri.report.information.measures import (
    active_figure,
    answer_figure,
    code_figure,
    entropy_figure,
    logit_figure,
    massive_figure,
    resolution_figure,
)
from lmri.report.information.names import SOURCE, estimator_name, flag_names, target_name
from lmri.report.information.planes import layer_planes
from lmri.report.information.tables import Information, mutual_frame, plain_frame
from lmri.report.inputs import StudyInputs
from lmri.report.view import Cell, Column, Figure, Fold, Heading, Leaf, Prose, Table

Block = Figure | Fold | Heading | Prose | Table
Drawer = Callable[[Mapping[str, xr.Dataset], str, Sequence[str], str], Figure | None]

SWEPT = ("kt_", "ebab")
"""Estimators that are only in the file: they are swept over noise, or a replication."""

PLAIN: dict[str, tuple[str, Drawer]] = {
    "spectral": ("How states lie", spectral_figure),
    "resolution": ("Resolution", resolution_figure),
    "rate_reduction": ("Classes", class_figure),
    "codes": ("Codes", code_figure),
    "unit_entropy": ("Units", entropy_figure),
    "lens": ("What layers would say", lens_figure),
    "eigenscore": ("Sampled answers", answer_figure),
    "attention": ("How heads attend", attention_figure),
    "logits": ("How sharp heads can be", logit_figure),
    "massive": ("Massive activations", massive_figure),
    "active": ("Active neurons", active_figure),
}
"""Measures without a null of their own table: heading and figure."""


def information_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of information.

    Parameters
    ----------
    inputs : StudyInputs
        A study with profiles, or with reasons why there are none.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the numbers.

    Returns
    -------
    Leaf
        Attributes by layer, experts, what is said of compression, spectra, classes, the lens,
        heads, dynamics, and what was left out.
    """
    found = inputs.information
    alone = _alone(found, inputs.config.series)
    phases = inputs.config.information.phases or inputs.config.localise.phases
    rows = mutual_frame(found.of("residual"))
    blocks: list[Block | None] = [
        *_attributes(rows, mutual_frame(alone.of("residual")), files),
        *_experts(alone, files),
        *_changes(alone, files),
        *_plain_measures(found, alone, phases, files),
        *dynamics_blocks(found.dynamics, files),
        *_left_out(found),
    ]
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="information and geometry of all subjects",
        title="Information",
        question=(
            "What does each layer tell of a trial, how many dimensions do its states fill, and "
            "may one say that information is compressed?"
        ),
        answer=_answer(alone),
        role="",
        blocks=[block for block in blocks if block is not None],
    )


def _alone(found: Information, series: Mapping[str, Sequence[SubjectOptions]]) -> Information:
    """Leave out checkpoints, which are followed by themselves: all, or all but first and last.

    The latter stand for a series where there is no other subject.
    """
    in_series = {entry.name for own in series.values() for entry in own}
    ends = {entry.name for own in series.values() for entry in (own[0], own[-1])}

    def shown(subjects: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
        others = {*subjects} - in_series
        kept = others or ({*subjects} & ends) or {*subjects}
        return {name: own for name, own in subjects.items() if name in kept}

    profiles = {
        measure: {task: shown(subjects) for task, subjects in tasks.items()}
        for measure, tasks in found.profiles.items()
    }
    return Information(profiles, found.left_out, found.dynamics)


def _attributes(rows: pd.DataFrame, drawn: pd.DataFrame, files: Files) -> list[Block | None]:
    if rows.empty:
        return []
    data = files.add("information-residual", rows)
    pairs = drawn[["task", "target"]].drop_duplicates().itertuples(index=False)
    figures = [
        attribute_figure(drawn, task, target, f"attribute-{number}", data)
        for number, (task, target) in enumerate(pairs)
    ]
    text = (
        "Samples are trials. Nothing here is a property of the network alone: every number belongs "
        "to the estimator, and to the noise, that it was read through."
    )
    if set(drawn["subject"]) < set(rows["subject"]):
        text += " Not every checkpoint of a series is drawn; the file has all."
    return [
        Heading("What layers tell of trials", text),
        *figures,
        layer_planes(drawn, data),
        Fold("Every layer, phase and attribute", information_table(drawn, data)),
    ]


def information_table(rows: pd.DataFrame, data: str) -> Table:
    """Tell every estimate with its null, interval and flags; flagged ones are grey.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`lmri.report.information.tables.mutual_frame`.
    data : str
        File with all rows.

    Returns
    -------
    Table
        Estimators that are swept over noise are left to the file.
    """
    shown = rows[~rows["estimator"].str.startswith(SWEPT)]
    return Table(
        caption=(
            "Nats, never clipped at 0. Grey and slanted: a flag says that the number should not "
            "be read as what it is called. Kernel bounds and bins, over their noise, are in the "
            "file."
        ),
        columns=[
            Column("Subject"),
            Column("Attribute"),
            Column("Phase"),
            Column("Layer", kind="number"),
            Column("Estimator"),
            Column("Nats", "95 % interval", "number"),
            Column("Null", "mean, 95 %", "number"),
            Column("p", "q over layers", "number"),
            Column("Flagged"),
        ],
        rows=[_estimate_row(row) for row in shown.to_dict("records")],
        source=SOURCE.format("residual"),
        data=data,
        layout="grid",
    )


def _estimate_row(row: dict) -> list[Cell]:
    number = "number flagged" if row["flags"] or row["refused"] else "number"
    null = f"{words.number(row['null_mean'])}, {words.number(row['null_upper'])}"
    q = f"q {words.probability(row['q'])}" if np.isfinite(row["q"]) else ""
    why = row["refused"] or flag_names([own for own in row["flags"].split(",") if own])
    return [
        Cell(str(row["subject"])),
        Cell(target_name(row["target"]), note=words.readable(row["task"])),
        Cell(words.phase_name(row["phase"])),
        Cell(words.whole(row["layer"]), "number"),
        Cell(estimator_name(row["estimator"]), note=row["estimator"].split()[-1]),
        Cell(words.number(row["value"]), number, words.interval(row["low"], row["high"])),
        Cell(null if np.isfinite(row["null_mean"]) else words.NOTHING, "number"),
        Cell(words.probability(row["p"]), "number", q),
        Cell(why, note=row["reasons"]),
    ]


def _experts(found: Information, files: Files) -> list[Block | None]:
    rows = mutual_frame(found.of("expert"))
    if rows.empty:
        return []
    data = files.add("information-experts", rows)
    tasks = list(dict.fromkeys(rows["task"]))
    return [Heading("What routing tells"), *(expert_figure(rows, task, data) for task in tasks)]


def _changes(found: Information, files: Files) -> list[Block | None]:
    rows = plain_frame("changes", found.of("changes"))
    if rows.empty:
        return []
    data = files.add("information-changes", rows)
    text = (
        "A word is said only where two ways of measuring that work differently changed in one "
        "direction, on numbers without a flag, and none in the other, with q at most .05 over all "
        "comparisons of its subject in its task. Else it is not shown, which does not mean that "
        "there is none."
    )
    blocks = change_blocks(
        rows, "The last layer against the first.", SOURCE.format("changes"), data
    )
    return [Heading("May one say “compression”?", text), *blocks]


def _plain_measures(
    found: Information, alone: Information, phases: Sequence[str], files: Files
) -> list[Block | None]:
    blocks: list[Block | None] = []
    for measure, (title, draw) in PLAIN.items():
        rows = plain_frame(measure, found.of(measure))
        if rows.empty:
            continue
        data = files.add(f"information-{measure.replace('_', '-')}", rows)
        drawn = [draw(own, task, phases, data) for task, own in alone.of(measure).items()]
        text = "" if any(drawn) else f"No curve can be drawn of it; the numbers are in {data}."
        blocks += [Heading(title, text), *drawn]
    return blocks


def _left_out(found: Information) -> list[Block]:
    by_reason: dict[str, list[str]] = {}
    for subject, reasons in found.left_out.items():
        for name, reason in reasons.items():
            by_reason.setdefault(f"{name}: {reason}", []).append(subject)
    if not by_reason:
        return []
    lines = [(words.listing(subjects), text) for text, subjects in by_reason.items()]
    return [Heading("What is not there"), Prose(lines)]


def _answer(found: Information) -> str:
    rows = mutual_frame(found.of("residual"))
    probes = rows[rows["estimator"].str.startswith("probe ")]
    # Of a probe that was not run nothing is known, not even that it reads nothing.
    if probes.empty:
        return ""
    clear = probes[(probes["flags"] == "") & probes["value"].notna()]
    told = []
    for subject, own in clear.groupby("subject", sort=False):
        best = own.loc[own.groupby(["task", "target"], sort=False)["value"].idxmax()]
        told.append(f"{subject}, {words.listing(_read(row) for row in best.to_dict('records'))}")
    if not told:
        return "No held-out probe reads an attribute without a flag."
    return f"The most that a held-out probe reads without a flag, in nats: {'; '.join(told)}."


def _read(row: dict) -> str:
    what = f"{target_name(row['target'])} in {words.readable(row['task'])}"
    where = f"layer {row['layer']}, {words.phase_name(row['phase'])}"
    return f"{words.number(row['value'])} about the {what} ({where})"
