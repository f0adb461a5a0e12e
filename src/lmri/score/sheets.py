"""Sheets for labels by hand: responses without condition and arm, in an order of chance.

What a row is stands in a second file, the key. A sheet opens in any spreadsheet, so that no cell
may be taken for a formula: one that begins like one gets an apostrophe before it.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.checks import check_columns, shortened
from lmri.errors import ScoreError
from lmri.store import atomic_file

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Beginnings of cells that a spreadsheet may run."""

SHEET = ("id", "answer", "label")
KEY = ("id", "row", "trial", "condition", "arm", "draw", "answer_hash")
CARRIER = "carrier_"

LABELS = {"1": 1.0, "0": 0.0, "yes": 1.0, "no": 0.0, "y": 1.0, "n": 0.0, "true": 1.0, "false": 0.0}


def write_sheet(
    sheet: Path,
    key: Path,
    responses: Iterable[pd.DataFrame],
    *,
    seed: int,
    per_arm: int | None = None,
    with_prompts: bool = False,
) -> int:
    """Write a sheet and its key.

    Parameters
    ----------
    sheet, key : Path
        CSV files to write. The sheet has :data:`SHEET` (``label`` is to be filled in: 1 or 0, yes
        or no), the key :data:`KEY` and the carriers.
    responses : iterable of DataFrame
        From :func:`lmri.score.read_responses`.
    seed : int
        Seed of the order, the names of rows, and the draw.
    per_arm : int, optional
        Responses drawn of each arm and condition; by default all.
    with_prompts : bool
        Whether the sheet has the prompts. They tell the condition: leave them out where the label
        can be given without.

    Returns
    -------
    int
        Rows of the sheet.

    Raises
    ------
    ScoreError
        If sheet and key are one file, or there is no response.
    """
    if sheet.resolve() == key.resolve():
        raise ScoreError(f"{sheet}: a sheet and its key must be two files. Got one for both.")
    kept = pd.concat([_kept(table, with_prompts) for table in responses])
    kept = kept if per_arm is None else _drawn(kept, per_arm, seed)
    if not len(kept):
        raise ScoreError(f"{sheet}: a sheet must have at least one response. Got none.")
    order = np.random.default_rng([seed, 61]).permutation(len(kept))
    kept = kept.iloc[order]
    kept.insert(0, "id", _names(len(kept), seed))
    kept["row"] = kept.index
    kept["answer_hash"] = [hash_of(answer) for answer in kept["answer"]]
    shown = ["prompt"] if with_prompts else []
    _write(sheet, kept.assign(label=""), ["id", *shown, "answer", "label"])
    carriers = [name for name in kept if name.startswith(CARRIER)]
    _write(key, kept.sort_values("row"), [*KEY, *carriers])
    return len(kept)


def _kept(table: pd.DataFrame, with_prompts: bool) -> pd.DataFrame:
    shown = ["prompt"] if with_prompts else []
    check_columns(table.columns, shown, "of the responses", ScoreError)
    carriers = [name for name in table if name.startswith(CARRIER)]
    return table[["trial", "condition", "arm", "draw", "answer", *shown, *carriers]]


def _drawn(table: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Draw responses of each arm and condition, the same whatever other arms there are."""
    parts = []
    for (arm, condition), own in table.groupby(["arm", "condition"], sort=True):
        name = int(hash_of(f"{arm}\n{condition}")[:8], 16)
        rows = np.random.default_rng([seed, 62, name]).permutation(len(own))[:count]
        parts.append(own.iloc[np.sort(rows)])
    return pd.concat(parts) if parts else table


def _names(count: int, seed: int) -> list[str]:
    """Names that say nothing, all different."""
    rng, names = np.random.default_rng([seed, 63]), {}
    while len(names) < count:
        names[rng.bytes(5).hex()] = None
    return [f"r{name}" for name in names]


def hash_of(text: str) -> str:
    """SHA-256 of a text, by which a key knows the answer it is of."""
    return hashlib.sha256(text.encode()).hexdigest()


def guarded(cell: object) -> str:
    """Write a cell so that no spreadsheet takes it for a formula."""
    text = str(cell)
    return f"'{text}" if text.startswith(FORMULAS) else text


def _write(path: Path, table: pd.DataFrame, columns: list[str]) -> None:
    with (
        atomic_file(path) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in table[columns].itertuples(index=False):
            writer.writerow([guarded(cell) for cell in row])


def read_labels(sheet: Path, key: Path) -> pd.DataFrame:
    """Read the labels of a sheet and put them beside what its rows are.

    Parameters
    ----------
    sheet : Path
        The sheet, with labels; rows without one are left out. Its order does not matter.
    key : Path
        Its key.

    Returns
    -------
    DataFrame
        Columns of the key, ``label`` (1. or 0.) and, as index, the row of the response.

    Raises
    ------
    ScoreError
        If a file is missing or lacks a column, a label is none of :data:`LABELS`, a row is in the
        sheet twice, or not in the key: one line with the file and the line.
    """
    rows, labels = _read(sheet, ("id", "label")), {}
    known = _read(key, KEY)
    ids = {row["id"] for row in known}
    for line, row in enumerate(rows, start=2):
        label = row["label"].strip().lower()
        if not label:
            continue
        if label not in LABELS:
            raise ScoreError(
                f"{sheet}: line {line}: 'label' must be 1 or 0, yes or no, or empty. "
                f"Got {shortened(row['label'])}."
            )
        if row["id"] not in ids or row["id"] in labels:
            why = "is there twice" if row["id"] in labels else f"is not in {key}"
            raise ScoreError(f"{sheet}: line {line}: the row {shortened(row['id'])} {why}.")
        labels[row["id"]] = LABELS[label]
    if not labels:
        raise ScoreError(f"{sheet}: a sheet must have at least one label. Got none.")
    table = pd.DataFrame([row for row in known if row["id"] in labels])
    table["label"] = [labels[name] for name in table["id"]]
    try:
        table.index = table["row"].astype(int)
    except ValueError:
        raise ScoreError(f"{key}: 'row' must be whole numbers. It was changed by hand.") from None
    return table.drop(columns="row")


def _read(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            check_columns(reader.fieldnames or (), columns, str(path), ScoreError)
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScoreError(f"{path}: no readable CSV file ({type(error).__name__}).") from None
