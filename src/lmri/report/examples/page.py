"""The page of examples: what units respond to, and a few trials token by token."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from lmri.report import words
from lmri.report.examples.shading import shaded
from lmri.report.examples.tables import (
    UNIT,
    SubjectExamples,
    anchor_of_subject,
    anchor_of_unit,
)
from lmri.report.examples.traces import trace_blocks
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.kinds import MapName, noun_of
from lmri.report.view import (
    Cell,
    Column,
    Facet,
    Fold,
    Heading,
    Leaf,
    Passage,
    Prose,
    Table,
    UnitExamples,
)
from lmri.store import FIRST_QUANTITY

TITLE = "Examples"

SHOWN = 3
"""Examples of each facet on the page; all are in the files of the study."""

MOST_NAMED = 3
"""Conditions beside the name of a unit, the most frequent ones."""

SOURCE = "analyses/examples/<subject>/{}.parquet"

READ = {
    "rate": "weight of the router, 0 where the expert is not chosen",
    "unconditional": "activation, 0 where the expert is not chosen",
}
"""What is read at every token, where it is not what maps compare."""

Block = Fold | Heading | Prose | Table | UnitExamples


def examples_leaf(inputs: StudyInputs, path: str, files: Files) -> Leaf:
    """Make the page of examples.

    Parameters
    ----------
    inputs : StudyInputs
        A study with examples, or with reasons why there are none.
    path : str
        Of the page, relative to the report.
    files : Files
        Takes the numbers.

    Returns
    -------
    Leaf
        How it is read; of every subject its units with their examples, and traces.
    """
    found = inputs.examples.found
    units = _joined({name: own.units for name, own in found.items()})
    examples = _joined({name: own.examples for name, own in found.items()})
    blocks: list[Block] = [Prose(list(_how_to_read()))]
    if len(units):
        blocks.append(Fold("All units in a table", _unit_table(units, files)))
        files.add("examples", examples)
    for subject, own in found.items():
        if own.units.empty:
            continue
        blocks.append(Heading(subject, anchor=anchor_of_subject(subject)))
        blocks += _of_units(subject, own)
        blocks += trace_blocks(subject, own, inputs.config, files)
    blocks += _left_out({name: own.left_out for name, own in found.items()})
    return Leaf(
        path=path,
        study=inputs.config.study,
        eyebrow="single units of all subjects, token by token",
        title=TITLE,
        question="What are the tokens that the units of findings and maps respond to?",
        answer=_answer(units, examples),
        role="",
        blocks=blocks,
    )


def _how_to_read() -> Iterator[tuple[str, str]]:
    yield (
        "How to read it:",
        "each passage is a trial around the token at which the unit is most active, which is "
        "framed and has its number. The stronger the shade, and the thicker the line below, the "
        "larger the activity, as a share of the largest of the unit; a dotted line is an activity "
        "below zero. Facets are clusters of passages by their words; a unit with several may do "
        "several things.",
    )
    yield (
        "What it does not show:",
        "examples are chosen for their activity, so they illustrate and decide nothing: of a unit "
        "that responds to everything there are examples, too. How often it is active stands beside "
        "them, and what it does for the behaviour is told by the verdicts alone.",
    )


def _joined(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of all subjects, with the subject in front."""
    named = [
        table.assign(subject=name)[["subject", *(c for c in table if c != "subject")]]
        for name, table in tables.items()
        if len(table)
    ]
    return pd.concat(named, ignore_index=True) if named else pd.DataFrame()


def _unit_table(units: pd.DataFrame, files: Files) -> Table:
    return Table(
        caption=(
            "Units of every finding, and the strongest of every primary map, with how active they "
            "are over all recorded tokens."
        ),
        columns=[
            Column("Subject"),
            Column("Unit"),
            Column("Named by"),
            Column("Score", kind="number"),
            Column("Active", "share of tokens", "number"),
            Column("Mean", kind="number"),
            Column("Largest", kind="number"),
            Column("Facets", kind="number"),
        ],
        rows=[
            [
                Cell(str(row["subject"])),
                Cell(_name(row["kind"], row["unit"]), note=_read(row["kind"], row["quantity"])),
                Cell(words.readable(row["contrast"]), note=_named_by(row)),
                Cell(words.signed(row["score"]), "number"),
                Cell(f"{row['active']:.1%}", "number"),
                Cell(words.number(row["mean"], 3), "number"),
                Cell(words.number(row["largest"]), "number"),
                Cell(words.whole(row["facets"]), "number"),
            ]
            for row in units.to_dict("records")
        ],
        source=SOURCE.format("units"),
        data=files.add("examples-units", units),
    )


def _of_units(subject: str, own: SubjectExamples) -> Iterator[UnitExamples]:
    """Every unit once, in the order in which maps name it; the first one open."""
    examples = dict(iter(own.examples.groupby(UNIT, sort=False)))
    tokens = dict(iter(own.tokens.groupby(UNIT, sort=False)))
    for number, (key, named) in enumerate(own.units.groupby(UNIT, sort=False)):
        kind, quantity, unit = key
        first = named.iloc[0].to_dict()
        maps = words.listing(
            f"{words.readable(row['contrast'])} ({_named_by(row)}, {words.signed(row['score'])})"
            for row in named.to_dict("records")
        )
        active = f"Active at {first['active']:.1%} of {int(first['tokens'])} tokens"
        yield UnitExamples(
            anchor=anchor_of_unit(subject, kind, quantity, json.loads(unit)),
            title=words.sentence(_name(kind, unit)),
            brief=_brief(examples.get(key)),
            text=f"{_read(kind, quantity)}. {active}; named by {maps}.",
            facets=list(_facets(examples.get(key), tokens.get(key))),
            open=number == 0,
        )


def _facets(examples: pd.DataFrame | None, tokens: pd.DataFrame | None) -> Iterator[Facet]:
    if examples is None or tokens is None:
        return
    largest = examples["activity"].abs().max()
    by_rank = dict(iter(tokens.groupby("rank")))
    count = examples["facet"].nunique()
    for facet, rows in examples.groupby("facet"):
        side = ", below zero" if rows["activity"].iloc[0] < 0 else ""
        title = f"Facet {facet} of {count}{side}: {_counted(rows)}"
        yield Facet(
            title,
            [
                _passage(row, by_rank[row["rank"]], largest)
                for row in rows.head(SHOWN).to_dict("records")
            ],
        )


def _brief(examples: pd.DataFrame | None) -> str:
    if examples is None:
        return "never active"
    return words.listing(_conditions(examples).value_counts().index[:MOST_NAMED])


def _counted(rows: pd.DataFrame) -> str:
    counts = _conditions(rows).value_counts()
    if len(counts) == 1:
        return f"{words.plural(len(rows), 'example')} of {counts.index[0]}"
    told = words.listing(f"{n} of {name}" for name, n in counts.items())
    return f"{words.plural(len(rows), 'example')}, {told}"


def _conditions(rows: pd.DataFrame) -> pd.Series:
    """Conditions of examples in words; a task that is all of one condition by its name."""
    return pd.Series(
        [
            words.condition_name(task, None if condition == task else condition)
            for task, condition in zip(rows["task"], rows["condition"], strict=True)
        ]
    )


def _passage(row: dict, tokens: pd.DataFrame, largest: float) -> Passage:
    own = tokens.sort_values("position")
    made = [
        shaded(token, value, largest, peak=position == row["position"])
        for token, value, position in zip(
            own["token"], own["activity"], own["position"], strict=True
        )
    ]
    return Passage(
        tokens=made,
        about=f"{_conditions(pd.DataFrame([row])).iloc[0]}, {row['split']} trial",
        trial=str(row["trial"]),
        cut_before=int(own["position"].min()) > 0,
        cut_after=int(own["position"].max()) + 1 < int(row["length"]),
    )


def _name(kind: str, unit: str) -> str:
    return f"{noun_of(kind).one} {words.unit_name(json.loads(unit))}"


def _read(kind: str, quantity: str) -> str:
    if quantity == FIRST_QUANTITY.get(kind) and quantity in READ:
        return words.sentence(READ[quantity])
    return words.sentence(MapName(f"{kind}.{quantity}.any").quantity_name)


def _named_by(row: dict) -> str:
    if row["source"] == "finding":
        return f"finding of {row['kind']}.{row['method']}"
    return f"strongest of the map {row['kind']}.{row['method']}"


def _answer(units: pd.DataFrame, examples: pd.DataFrame) -> str:
    if units.empty:
        return "No unit was recorded at every token; the reasons are below."
    distinct = units.drop_duplicates(["subject", *UNIT])
    always = int((distinct["active"] > 0.5).sum())
    several = 0
    if len(examples):
        above = examples[examples["activity"] > 0].groupby(["subject", *UNIT])["facet"].nunique()
        several = int((above > 1).sum())
    return (
        f"Of {words.plural(len(distinct), 'unit')}, {several} respond to contexts of more than one "
        f"kind; {always} are active at more than half of all tokens."
    )


def _left_out(reasons: dict[str, dict[str, str]]) -> list[Block]:
    by_reason: dict[str, list[str]] = {}
    for subject, own in reasons.items():
        for name, reason in own.items():
            by_reason.setdefault(f"{name}: {reason}", []).append(subject)
    if not by_reason:
        return []
    lines = [(words.listing(subjects), f"{text}.") for text, subjects in by_reason.items()]
    return [Heading("What is not there"), Prose(lines)]
