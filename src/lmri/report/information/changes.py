"""What may be said of changes of information."""

from __future__ import annotations

import json

import pandas as pd

from lmri.report import words
from lmri.report.information.names import target_name
from lmri.report.view import Cell, Column, Fold, Prose, Table

NOT_SHOWN = "not shown"
SIGNS = {-1: "fell", 0: "no change", 1: "rose"}

CORRECTED = {"subject": "subject and task", "series": "all comparisons"}
"""What q is over: the stage corrects each file of a subject by itself, and a series as a whole."""

QUANTITIES = {"I(X;T)": "of the input, I(X;T)", "I(T;Y)": "of the attribute, I(T;Y)"}


def change_blocks(
    rows: pd.DataFrame, caption: str, source: str, data: str
) -> list[Table | Prose | Fold]:
    """Tell what may be said, and by which channels.

    Parameters
    ----------
    rows : DataFrame
        ``subject`` or ``series``, ``task``, and the columns of the table of changes.
    caption : str
        What is compared.
    source, data : str
        As for a table.

    Returns
    -------
    list of Table, Prose or Fold
        Changes of which something may be said, or that there is none; the others on request.
        Nothing without rows.
    """
    if rows.empty:
        return []
    said = rows["word"] != NOT_SHOWN
    blocks: list[Table | Prose | Fold] = []
    if said.any():
        blocks.append(_table(rows[said], caption, source, data))
    else:
        compared = words.plural(len(rows), "comparison")
        blocks.append(Prose([("Not shown", f"in any of {compared}. {caption}")]))
    if not said.all():
        blocks.append(Fold("Where it is not shown", _table(rows[~said], caption, source, data)))
    return blocks


def _table(rows: pd.DataFrame, caption: str, source: str, data: str) -> Table:
    who = "series" if "series" in rows else "subject"
    return Table(
        caption=caption,
        columns=[
            Column(words.sentence(who)),
            Column("Attribute"),
            Column("Phase"),
            Column("Information"),
            Column("What may be said"),
            Column("p", f"q over {CORRECTED[who]}", "number"),
            Column("Ways of measuring"),
        ],
        rows=[_row(row, who) for row in rows.to_dict("records")],
        source=source,
        data=data,
        layout="grid",
    )


def _row(row: dict, who: str) -> list[Cell]:
    word = str(row["word"])
    left = str(row["left_out"])
    count = len(left.split(", ")) if left else 0
    layer = f", layer {row['layer']}" if who == "series" else ""
    # What is told of the inputs is of no attribute.
    target = target_name(str(row["target"])) if row["target"] else words.NOTHING
    return [
        Cell(str(row[who])),
        Cell(target, note=words.readable(str(row["task"]))),
        Cell(f"{words.phase_name(str(row['phase']))}{layer}"),
        Cell(QUANTITIES.get(str(row["quantity"]), str(row["quantity"]))),
        Cell(word, "flagged" if word == NOT_SHOWN else "text"),
        Cell(words.probability(row["p"]), "number", f"q {words.probability(row['q'])}"),
        Cell(
            _channels(str(row["channels"])) or "none without a flag",
            note=f"{words.plural(count, 'estimate')} left out for a flag" if count else "",
        ),
    ]


def _channels(text: str) -> str:
    """Write the signs of the families; what is no JSON object of signs is no channel."""
    try:
        found = json.loads(text)
        return "; ".join(f"{name} {SIGNS[sign]}" for name, sign in sorted(found.items()))
    except (ValueError, AttributeError, KeyError, TypeError):
        return ""
