"""Stimuli from a user's table: CSV, TSV, JSON lines or parquet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from lmri.checks import check_columns, quoted
from lmri.config import TaskOptions
from lmri.errors import StimuliError

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False),
    ".tsv": lambda path: pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False),
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False),
    ".parquet": pd.read_parquet,
}
NEEDED = ("condition", "prompt", "reference")


def table_trials(task: str, options: TaskOptions) -> pd.DataFrame:
    """Read a table of trials and complete it.

    Needed columns are ``condition``, ``prompt`` (the whole prompt, template words included),
    ``reference`` (what the subject should say) and one column per carrier. ``trial``, ``family``,
    ``content``, ``fact``, ``refusal``, ``held_out`` and ``class_<carrier>`` are optional.

    Parameters
    ----------
    task : str
        Name of the task.
    options : TaskOptions
        With ``path`` and ``carriers``.

    Returns
    -------
    DataFrame
        The columns of ``docs/artefacts.md`` but ``split``.

    Raises
    ------
    StimuliError
        If the file is missing, unreadable, lacks a column, has an empty cell in a needed one, a
        duplicate trial, a carrier of two classes, or a ``content`` that is not a part of its
        prompt.
    """
    path = Path(options.path or "")
    table = _read(path)
    check_columns(table.columns, [*NEEDED, *options.carriers], str(path), StimuliError)
    for column in (*NEEDED, *options.carriers):
        empty = table.index[table[column].str.strip() == ""]
        if len(empty):
            raise StimuliError(
                f"{path}: the column '{column}' must not be empty. Row {empty[0] + 1} is."
            )
    trials = pd.DataFrame({"trial": _column(table, "trial", [f"{task}:{i}" for i in table.index])})
    twice = trials["trial"][trials["trial"].duplicated()]
    if len(twice):
        raise StimuliError(
            f"{path}: every 'trial' must be named once. Got {twice.iloc[0]!r} twice."
        )
    trials["task"] = task
    for column, default in {
        "condition": None,
        "family": task,
        "prompt": None,
        "content": table["prompt"],
        "reference": None,
        "fact": table["reference"],
        "refusal": "",
    }.items():
        trials[column] = _column(table, column, default)
    trials["held_out"] = _truth(table, path)
    for carrier in options.carriers:
        trials[f"carrier_{carrier}"] = table[carrier]
        trials[f"class_{carrier}"] = _column(table, f"class_{carrier}", "null")
        _check_classes(trials, carrier, path)
    _check_content(trials, path)
    return trials


def _read(path: Path) -> pd.DataFrame:
    reader = READERS.get(path.suffix)
    if reader is None:
        raise StimuliError(f"{path}: a stimuli table must end in {quoted(READERS)}.")
    if not path.is_file():
        raise StimuliError(f"{path}: no such stimuli table.")
    try:
        table = reader(path)
    except (ValueError, OSError) as error:
        raise StimuliError(
            f"{path}: not readable as {path.suffix} ({str(error).splitlines()[0]})."
        ) from None
    if table.empty:
        raise StimuliError(f"{path}: a stimuli table must have at least one row.")
    if path.suffix in {".csv", ".tsv"} and not isinstance(table.index, pd.RangeIndex):
        # pandas would take the first columns for an index and shift all names.
        raise StimuliError(f"{path}: the rows must not have more fields than the header.")
    # All is text from here on; what is missing (null, NaN) is empty.
    filled = table.astype(object).where(table.notna(), "").astype(str)
    return filled.reset_index(drop=True)


def _column(table: pd.DataFrame, name: str, default: object) -> object:
    return table[name] if name in table.columns else default


def _truth(table: pd.DataFrame, path: Path) -> object:
    if "held_out" not in table.columns:
        return False
    text = table["held_out"].str.lower()
    known = {"true": True, "1": True, "false": False, "0": False, "": False}
    unknown = text[~text.isin(known)]
    if len(unknown):
        raise StimuliError(f"{path}: 'held_out' must be true or false. Got {unknown.iloc[0]!r}.")
    return text.map(known)


def _check_classes(trials: pd.DataFrame, carrier: str, path: Path) -> None:
    kinds = trials.groupby(f"carrier_{carrier}")[f"class_{carrier}"].nunique()
    if (kinds > 1).any():
        raise StimuliError(
            f"{path}: the 'class_{carrier}' of {kinds.idxmax()!r} must be the same in all its "
            f"trials. Got {kinds.max()} classes."
        )


def _check_content(trials: pd.DataFrame, path: Path) -> None:
    for row in trials.itertuples():
        if not row.content.strip() or row.content not in row.prompt:
            raise StimuliError(
                f"{path}: the 'content' of trial {row.trial!r} must be a part of its prompt. "
                f"Got {row.content!r}."
            )
