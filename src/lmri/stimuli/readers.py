"""Rows of a user's stimuli: from CSV, TSV, JSON lines, parquet, or a saved data set.

A saved data set is the folder that ``save_to_disk`` of the ``datasets`` library writes: Arrow
files, and a ``state.json`` that lists them. It is read with pyarrow, file by file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmri.checks import quoted
from lmri.errors import StimuliError

STATE = "state.json"
SPLITS = "dataset_dict.json"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read every row of a table.

    Parameters
    ----------
    path : Path
        A file whose suffix names its format, or the folder of a saved data set.

    Returns
    -------
    list of dict
        Values by column, as the format has them: text, numbers, None, lists of messages.

    Raises
    ------
    StimuliError
        If the table is missing, of an unknown format, unreadable or empty; names the file.
    """
    if path.is_dir():
        reader, kind = _saved_dataset, "a saved data set"
    else:
        reader, kind = READERS.get(path.suffix), path.suffix
    if reader is None:
        raise StimuliError(
            f"{path}: a stimuli table must end in {quoted(READERS)}, or be the folder of a saved "
            "data set."
        )
    if not path.exists():
        raise StimuliError(f"{path}: no such stimuli table.")
    try:
        rows = reader(path)
    except (ValueError, OSError, KeyError, TypeError, pa.ArrowException) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise StimuliError(f"{path}: not readable as {kind} ({first}).") from None
    if not rows:
        raise StimuliError(f"{path}: a stimuli table must have at least one row.")
    return rows


def _separated(path: Path, separator: str) -> list[dict[str, Any]]:
    table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    if not isinstance(table.index, pd.RangeIndex):
        # pandas would take the first columns for an index and shift all names.
        raise StimuliError(f"{path}: the rows must not have more fields than the header.")
    (names,) = pd.read_csv(path, sep=separator, dtype=str, header=None, nrows=1).to_numpy().tolist()
    twice = {str(name) for name in names if names.count(name) > 1}
    if twice:  # pandas would give the second another name
        raise StimuliError(f"{path}: the column '{min(twice)}' must be there once. It is twice.")
    return table.to_dict("records")


def _json_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: a row must be an object of columns and values")
            rows.append(row)
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    return pq.ParquetFile(path).read().to_pylist()


def _saved_dataset(path: Path) -> list[dict[str, Any]]:
    if (path / SPLITS).is_file():
        splits = json.loads((path / SPLITS).read_text(encoding="utf-8"))["splits"]
        raise StimuliError(
            f"{path}: a saved data set with splits must be named by one of them: add one of "
            f"{quoted(splits)} to the path."
        )
    if not (path / STATE).is_file():
        raise StimuliError(
            f"{path}: a folder of stimuli must be a data set written by save_to_disk. "
            f"It has no {STATE}."
        )
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    entries = state["_data_files"]
    if state.get("_indices_data_files"):
        raise StimuliError(
            f"{path}: a saved data set must hold its rows in order. Call flatten_indices() before "
            "save_to_disk()."
        )
    rows: list[dict[str, Any]] = []
    for entry in entries:
        name = entry["filename"]
        if Path(name).name != name:  # a list in a file never leads out of its folder
            raise StimuliError(f"{path}: {STATE} must list files of its folder. Got {name!r}.")
        rows += _arrow(path / name)
    return rows


def _arrow(path: Path) -> list[dict[str, Any]]:
    with pa.memory_map(str(path)) as source:
        try:
            table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:  # the other of the two layouts of Arrow on disk
            table = pa.ipc.open_file(source).read_all()
        return table.to_pylist()


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".csv": lambda path: _separated(path, ","),
    ".tsv": lambda path: _separated(path, "\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
"""Readers of a file by its suffix."""
