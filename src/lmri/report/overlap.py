"""Overlap of the units of two maps, on the page of a contrast."""

from __future__ import annotations

import json

import pandas as pd

from lmri.config import ContrastOptions
from lmri.report import words
from lmri.report.files import Files
from lmri.report.group import Group
from lmri.report.kinds import MapName
from lmri.report.view import Cell, Column, Heading, Prose, Table

MOST_OVERLAPS = 40
"""Overlaps in the table; all are in its data file."""


def overlap_blocks(
    group: Group, contrast: ContrastOptions, alpha: float, key: str, files: Files
) -> list[Heading | Prose | Table]:
    """Compare the maps of a contrast with those of others.

    Parameters
    ----------
    group : Group
        Tables over all subjects.
    contrast : ContrastOptions
        The contrast.
    alpha : float
        Level at which an overlap counts as more than chance.
    key : str
        Begin of the names of files.
    files : Files
        Takes all overlaps.

    Returns
    -------
    list of blocks
        Heading, a sentence with what chance allows, and the least probable overlaps.
    """
    rows = group.overlaps_of(contrast.name)
    heading = Heading("Overlap with other contrasts")
    if rows.empty:
        return [heading, Prose([("", "No map of this contrast was compared with another.")])]
    data = files.add(f"overlap.{key}", _written(rows))
    return [heading, Prose([("", _told(rows, alpha))]), overlap_table(rows, data)]


def shared_blocks(
    group: Group, contrast: ContrastOptions, key: str, files: Files
) -> list[Heading | Table]:
    """Compare the maps of a contrast between subjects whose units correspond.

    Parameters
    ----------
    group : Group
        Tables over all subjects.
    contrast : ContrastOptions
        The contrast.
    key : str
        Begin of the names of files.
    files : Files
        Takes all overlaps.

    Returns
    -------
    list of blocks
        Empty where no two subjects correspond.
    """
    rows = group.overlaps_between_subjects(contrast.name)
    if rows.empty:
        return []
    data = files.add(f"shared.{key}", _written(rows))
    text = (
        "Units correspond only between states of one base and checkpoints of one series: only "
        "these are compared."
    )
    return [
        Heading("Units that subjects share", text),
        overlap_table(rows, data, subjects=True),
    ]


def overlap_table(rows: pd.DataFrame, data: str, *, subjects: bool = False) -> Table:
    """List what a contrast shares with others, or what two subjects share in it.

    Parameters
    ----------
    rows : DataFrame
        From :meth:`lmri.report.group.Group.overlaps_of`.
    data : str
        File with all rows.
    subjects : bool
        Whether two subjects are compared.

    Returns
    -------
    Table
        The least probable overlaps.
    """
    shown = rows.head(MOST_OVERLAPS)
    compared = "two subjects" if subjects else "a map of this contrast and one of another"
    first, second = ("One subject", "The other") if subjects else ("This contrast", "The other")
    cut = f" The {len(shown)} least probable of {len(rows)}." if len(rows) > len(shown) else ""
    return Table(
        caption=(
            f"Units that {compared} both select. Overlap is the share of the smaller set; p is "
            "that of as many shared units in random sets of these sizes, not corrected."
            f"{cut}"
        ),
        columns=[
            Column(first, "map, subject and phase"),
            Column(second, "map, subject and phase"),
            Column("Shared", "of each", "number"),
            Column("All units", kind="number"),
            Column("Jaccard", kind="number"),
            Column("Overlap", kind="number"),
            Column("p", "by chance", "number"),
        ],
        rows=[
            [
                _place_cell(row["own"], named=False),
                _place_cell(row["other"], named=not subjects),
                Cell(
                    words.whole(row["shared"]),
                    "number",
                    f"of {words.whole(row['own_size'])} and {words.whole(row['other_size'])}",
                ),
                Cell(words.whole(row["universe"]), "number"),
                Cell(words.number(row["jaccard"]), "number"),
                Cell(words.number(row["overlap"]), "number"),
                Cell(words.probability(row["p"]), "number"),
            ]
            for row in shown.to_dict("records")
        ],
        source="group/overlap.parquet",
        data=data,
    )


def _written(rows: pd.DataFrame) -> pd.DataFrame:
    """Overlaps as a table for a file."""
    texts = {side: rows[side].map(json.dumps) for side in ("own", "other")}
    return rows.assign(**texts).drop(columns=["first", "second"])


def _told(rows: pd.DataFrame, alpha: float) -> str:
    count = int((rows["p"] <= alpha).sum())
    first = (
        f"Of {words.plural(len(rows), 'comparison')} with maps of other contrasts, {count} share "
        f"more units than random sets would (p at most {alpha:g}, not corrected; of random sets of "
        f"these sizes {words.number(rows['chance'].sum())} would). Contrasts of the same trials "
        "share units for that alone."
    )
    best = rows.iloc[0]
    if not count or not int(best["shared"]):
        return first
    name, own, other = MapName(best["own"][3]), best["own"], best["other"]
    return (
        f"{first} The least probable: {words.whole(best['shared'])} {name.noun.many} of "
        f"{words.whole(best['own_size'])} here and {words.whole(best['other_size'])} of "
        f"{words.readable(other[1])} ({_subjects_of(own[0], other[0])}). Shared units serve both, "
        "or follow what the trials of both have in common: the re-run of one on the trials of the "
        "other tells which."
    )


def _subjects_of(first: str, second: str) -> str:
    return f"in {first}" if first == second else f"{first} and {second}"


def _place_cell(place: list[str], *, named: bool) -> Cell:
    subject, contrast, phase, name = place
    title = MapName(name).label
    first = words.readable(contrast) if named else title.capitalize()
    rest = [title] if named else []
    return Cell(first, note=", ".join([*rest, subject, words.phase_name(phase)]))
