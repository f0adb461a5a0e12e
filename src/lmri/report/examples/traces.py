"""Traces: the units of a finding at every token of a trial, through prompt and response."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from lmri.config import StudyConfig
from lmri.report import words
from lmri.report.examples.shading import shade, written
from lmri.report.examples.tables import UNIT, SubjectExamples
from lmri.report.files import Files
from lmri.report.kinds import noun_of
from lmri.report.view import Cell, Column, Fold, Heading, Table

MOST_UNITS = 8
"""Units beside each other; the file has all."""

SPOKEN = ("think", "response")
"""Spans of tokens that the subject wrote itself."""


def trace_blocks(
    subject: str, own: SubjectExamples, config: StudyConfig, files: Files
) -> Iterator[Heading | Fold | Table]:
    """Show the traced trials of a subject.

    Parameters
    ----------
    subject : str
        The subject.
    own : SubjectExamples
        Its tables.
    config : StudyConfig
        The order of the contrasts.
    files : Files
        Takes the numbers.

    Yields
    ------
    Heading, Fold or Table
        By contrast one table for each trial; all but the first are folded.
    """
    if own.traces.empty:
        return
    number = list(config.subjects).index(subject)
    data = files.add(f"examples-traces-{number}", own.traces)
    source = f"analyses/examples/{subject}/traces.parquet"
    largest = own.units.drop_duplicates(UNIT).set_index(UNIT)["largest"]
    for contrast in config.contrasts:
        rows = own.traces[own.traces["contrast"] == contrast]
        if rows.empty:
            continue
        text = (
            "Trials drawn by the seed of the study, not chosen, one of each condition: what the "
            "units of the finding do from the first token of the prompt to the last of the "
            "response."
        )
        yield Heading(f"{subject}, {words.readable(contrast)}: token by token", text)
        trials = rows.groupby(["condition", "trial"], sort=False)
        for place, ((condition, trial), entries) in enumerate(trials):
            table = _trace_table(entries, str(condition), str(trial), largest, source, data)
            if place == 0:
                yield table
            else:
                yield Fold(f"Condition: {words.readable(str(condition))}", table)


def _trace_table(
    rows: pd.DataFrame, condition: str, trial: str, largest: pd.Series, source: str, data: str
) -> Table:
    units = list(dict.fromkeys(zip(*(rows[name] for name in UNIT), strict=True)))[:MOST_UNITS]
    values = {
        (row["position"], row["kind"], row["quantity"], row["unit"]): row["activity"]
        for row in rows.to_dict("records")
    }
    tokens = rows.drop_duplicates("position").sort_values("position")
    first_said = next((p for p, s in _spans(tokens) if s in SPOKEN), None)
    body = []
    for row in tokens.to_dict("records"):
        said = row["span"] in SPOKEN
        note = "response begins" if row["position"] == first_said else ""
        shown = written(str(row["token"]))
        cells = [
            Cell(shown.strip() or shown, "token said" if said else "token", note),
            Cell(words.readable(row["span"])),
        ]
        for unit in units:
            value = float(values[(row["position"], *unit)])
            name = shade(value, float(largest.get(unit, 0.0)))
            cells.append(Cell(words.number(value), "number", shade=name))
        body.append(cells)
    cut = len(tokens) < int(tokens["length"].iloc[0])
    return Table(
        caption=(
            f"Trial {trial}, condition {words.readable(condition)}: activity at every token"
            f"{' around the end of the prompt' if cut else ''}."
        ),
        columns=[
            Column("Token"),
            Column("Span"),
            *(
                Column(words.unit_name(json.loads(unit)), noun_of(kind).one, "number")
                for kind, _, unit in units
            ),
        ],
        rows=body,
        source=source,
        data=data,
        layout="trace",
    )


def _spans(tokens: pd.DataFrame) -> Iterator[tuple[int, str]]:
    yield from zip(tokens["position"], tokens["span"], strict=True)
