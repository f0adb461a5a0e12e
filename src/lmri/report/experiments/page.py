"""The page of experiments: for each, every claim in every subject, its figures and its tables."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from pandas.api import types

from lmri.report import words
from lmri.report.experiments.figures import draw_declared
from lmri.report.experiments.tables import Result
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.validation.page import VERBS
from lmri.report.validation.tables import OUTCOMES
from lmri.report.view import Cell, Column, Figure, Fold, Heading, Leaf, Prose, Table

TITLE = "Experiments"
SOURCE = "experiments/<subject>/{}/{}.parquet"

MOST_ROWS = 400
"""Rows of a table that are shown; all of them are in the file."""

Results = Mapping[str, Result]
Block = Figure | Fold | Heading | Prose | Table


def experiments_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of experiments.

    Parameters
    ----------
    inputs : StudyInputs
        A study with experiments.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the numbers.

    Returns
    -------
    Leaf
        A section for each experiment over all subjects.
    """
    blocks: list[Block] = []
    for experiment, results in inputs.experiments.results.items():
        blocks += _section(experiment, results, files)
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="experiments on all subjects",
        title=TITLE,
        question="What came of the claims that were fixed before each experiment was run?",
        answer=_answer(inputs.experiments.statements),
        role="",
        blocks=blocks,
    )


def _answer(statements: pd.DataFrame) -> str:
    counts = statements["outcome"].value_counts()
    told = words.listing(
        f"{int(counts[word])} {VERBS[word][int(counts[word] > 1)]}"
        for word in OUTCOMES
        if word in counts
    )
    subjects = words.plural(statements["subject"].nunique(), "subject")
    return f"Of {words.plural(len(statements), 'claim')} about {subjects}, {told}."


def _section(experiment: str, results: Results, files: Files) -> list[Block]:
    about = next(iter(results.values())).about
    slug = experiment.replace("_", "-")
    statements = pd.concat([own.statements for own in results.values()], ignore_index=True)
    data = files.add(f"experiment-{slug}", statements)
    blocks: list[Block] = [
        Heading(about["title"], about["question"]),
        _statements(statements, SOURCE.format(experiment, "statements"), data),
        Prose([("Method", f"{about['source']}."), *_notes(results)]),
    ]
    captions, tables = _tables(results)
    paths = {
        name: files.add(f"experiment-{slug}-{name.replace('_', '-')}", table)
        for name, table in tables.items()
    }
    for number, figure in enumerate(_figures(results)):
        name = figure["table"]
        if name in tables:
            source = SOURCE.format(experiment, name)
            key = f"{slug}-{number}"
            blocks.append(draw_declared(figure, tables[name], key, source, paths[name]))
    for name, table in tables.items():
        if captions[name]:
            shown = _table(table, captions[name], SOURCE.format(experiment, name), paths[name])
            blocks.append(Fold(_readable(name), shown))
    return blocks


def _tables(results: Results) -> tuple[dict[str, str], dict[str, pd.DataFrame]]:
    """Captions and tables by name, of all subjects that have them, the subject first."""
    parts: dict[str, list[pd.DataFrame]] = {}
    captions: dict[str, str] = {}
    for subject, own in results.items():
        for name, table in own.tables.items():
            captions.setdefault(name, str(own.about["tables"][name]))
            rest = table.drop(columns="subject", errors="ignore")
            rest.insert(0, "subject", subject)
            parts.setdefault(name, []).append(rest)
    return captions, {name: pd.concat(own, ignore_index=True) for name, own in parts.items()}


def _figures(results: Results) -> list[dict]:
    """Figures that any subject declares, each once: one may lack the table of another."""
    figures: list[dict] = []
    for own in results.values():
        figures += [figure for figure in own.about["figures"] if figure not in figures]
    return figures


def _notes(results: Results) -> list[tuple[str, str]]:
    """Notes of all subjects; one that several have in the same words is told once."""
    by_note: dict[str, list[str]] = {}
    for subject, own in results.items():
        for note in own.about["notes"]:
            by_note.setdefault(str(note), []).append(subject)
    return [(words.listing(subjects), note) for note, subjects in by_note.items()]


def _statements(statements: pd.DataFrame, source: str, data: str) -> Table:
    return Table(
        caption=(
            "Every claim, fixed before the run: the effect is above the threshold. It holds if its "
            "p, corrected for the other claims of the subject, is small enough, and fails if its "
            "interval lies wholly at or below the threshold. The p is at least the rank among the "
            "controls."
        ),
        columns=[
            Column("Claim"),
            Column("Subject"),
            Column("Outcome"),
            Column("Effect", "with its interval", "number"),
            Column("Above", kind="number"),
            Column("p", "corrected", "number"),
            Column("Trials", "(carriers)", "number"),
            Column("Against"),
        ],
        rows=[
            _statement_row(row)
            for row in statements.sort_values(
                "claim", key=_order(statements), kind="stable"
            ).to_dict("records")
        ],
        source=source,
        data=data,
    )


def _order(statements: pd.DataFrame):
    """Sort by where a claim comes first, so that those of all subjects stand together."""
    places = {name: place for place, name in enumerate(dict.fromkeys(statements["claim"]))}
    return lambda column: column.map(places)


def _statement_row(row: dict) -> list[Cell]:
    tested = row["outcome"] != "not testable"
    nothing = Cell(words.NOTHING, "number")
    size = f"{words.whole(row['n'])} ({words.whole(row['n_carriers'])})"
    return [
        Cell(_readable(row["claim"]), note=str(row["statement"])),
        Cell(str(row["subject"])),
        Cell(str(row["outcome"]), "verdict", str(row["reason"])),
        Cell(words.signed(row["effect"]), "number", words.interval(row["low"], row["high"]))
        if tested
        else nothing,
        Cell(words.number(row["threshold"]), "number") if tested else nothing,
        Cell(words.probability(row["p_corrected"]), "number") if tested else nothing,
        Cell(size, "number") if tested else nothing,
        Cell(str(row["controls"]) or words.NOTHING, note=str(row["statistic"])),
    ]


def _table(table: pd.DataFrame, caption: str, source: str, data: str) -> Table:
    shown = table.head(MOST_ROWS)
    if len(table) > MOST_ROWS:
        caption = f"{caption} The first {MOST_ROWS} of {len(table)} rows."
    numeric = {
        name: types.is_numeric_dtype(table[name]) and not types.is_bool_dtype(table[name])
        for name in shown.columns
    }
    return Table(
        caption=caption,
        columns=[
            Column(_readable(name), kind="number" if numeric[name] else "text")
            for name in shown.columns
        ],
        rows=[
            [_cell(value, numeric[name]) for name, value in row.items()]
            for row in shown.to_dict("records")
        ],
        source=source,
        data=data,
        layout="grid",
    )


def _cell(value: object, numeric: bool) -> Cell:
    if not numeric:
        return Cell(str(value))
    is_whole = float(value).is_integer()
    return Cell(words.whole(value) if is_whole else words.number(value, 3), "number")


def _readable(name: str) -> str:
    return words.sentence(words.readable(name))
