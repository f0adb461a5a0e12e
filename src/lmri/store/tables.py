"""Tables in parquet: stimuli, arms, transcripts, verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lmri.checks import check_columns
from lmri.errors import StoreError
from lmri.store.atomic import atomic_file


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, atomically.

    Parameters
    ----------
    path : Path
        The file to write.
    table : DataFrame
        The table; its index is not kept.
    """
    with atomic_file(path) as partial:
        table.to_parquet(partial, index=False)


def read_table(path: Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a parquet table and check that it has the columns asked for.

    Parameters
    ----------
    path : Path
        The file.
    columns : iterable of str
        Columns it must have.

    Returns
    -------
    DataFrame
        The whole table.

    Raises
    ------
    StoreError
        If the file is missing, damaged, or lacks a column.
    """
    if not path.is_file():
        raise StoreError(f"{path}: no such table. Was the job that writes it finished?")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise StoreError(
            f"{path}: not a readable parquet table ({first}). Write it again."
        ) from None
    check_columns(table.columns, columns, str(path), StoreError)
    return table
