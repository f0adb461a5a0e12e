"""Scoring saved responses again: text and tokens as they are, nothing generated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lmri.checks import check_choice
from lmri.errors import ScoreError
from lmri.score.responses import read_responses, typed_schema
from lmri.score.scorer import Answers, Scorer
from lmri.store import atomic_file

SUFFIXES = (".csv", ".parquet")

NAMES = ("trial", "condition", "arm", "mode", "dose", "draw", "seed")
"""Columns that tell what a row is."""

Complete = Callable[[Answers], Answers]
"""Adds what a table of responses does not have: a tokenizer, readers."""


def rescored(
    path: Path, scorers: Mapping[str, Scorer], complete: Complete | None = None
) -> Iterator[pd.DataFrame]:
    """Score saved responses, some rows at a time.

    Parameters
    ----------
    path : Path
        From :func:`lmri.score.write_responses`.
    scorers : mapping of str to Scorer
        From :func:`lmri.score.scorers`.
    complete : callable, optional
        Adds the readers that scorers of log-probabilities need.

    Yields
    ------
    DataFrame
        What a row is (:data:`NAMES`), ``answer``, carriers, and a column for every scorer; numbered
        through all rows.
    """
    for table in read_responses(path):
        tokens = None
        if "tokens" in table:
            tokens = [np.asarray(row, dtype=np.int64) for row in table["tokens"]]
        answers = Answers(table, tokens)
        answers = answers if complete is None else complete(answers)
        carriers = [name for name in table if name.startswith("carrier_")]
        found = table[[name for name in (*NAMES, "answer", *carriers) if name in table]].copy()
        for name, scorer in scorers.items():
            found[name] = scorer(answers)
        yield found


def write_scores(path: Path, tables: Iterator[pd.DataFrame], scorers: Mapping[str, Scorer]) -> int:
    """Write the scores of saved responses, atomically.

    Parameters
    ----------
    path : Path
        A CSV or parquet file.
    tables : iterator of DataFrame
        From :func:`rescored`; answers are left out.
    scorers : mapping of str to Scorer
        The scorers; the versions of what they go by are kept in the metadata ``lmri_scorers`` of a
        parquet file.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    ScoreError
        If the file is of another type, or there are no responses.
    """
    check_choice(path.suffix, SUFFIXES, "suffix", f"the scores {path}", ScoreError)
    versions = {name: own.version for name, own in scorers.items() if own.version}
    rows = 0
    with atomic_file(path) as partial, ExitStack() as stack:
        writer = None
        for answered in tables:
            table = answered.drop(columns="answer")
            if path.suffix == ".csv":
                table.to_csv(partial, mode="a", header=rows == 0, index=False)
            else:
                if writer is None:
                    notes = {b"lmri_scorers": json.dumps(versions).encode()}
                    schema = typed_schema(table).with_metadata(notes)
                    writer = stack.enter_context(pq.ParquetWriter(partial, schema))
                writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))
            rows += len(table)
        if not rows:
            raise ScoreError(f"{path}: there must be responses to score. Got none.")
    return rows
