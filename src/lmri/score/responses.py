"""Saved responses: what was said under which arm, so that it can be scored again without a run.

One parquet file, one row a response. Its columns are those of :data:`SAVED`, measures that were
made while generating (``onset_margin``, ``refusal_onset``), and the columns of the trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from lmri.anatomy import answer_start, thinking_delimiters
from lmri.checks import check_columns
from lmri.errors import ScoreError
from lmri.score.behaviour import decode, score_responses
from lmri.store import atomic_file

FORMAT = {b"lmri_responses": b"1"}

SAVED = {
    "trial": pa.string(),
    "condition": pa.string(),
    "arm": pa.string(),
    "mode": pa.string(),
    "dose": pa.int64(),
    "draw": pa.int64(),
    "seed": pa.int64(),
    "plan": pa.string(),
    "prompt_tokens": pa.list_(pa.int64()),
    "tokens": pa.list_(pa.int64()),
    "response": pa.string(),
    "answer": pa.string(),
    "ended": pa.bool_(),
    "n_response": pa.int64(),
    "refusal_onset": pa.float64(),
    "onset_margin": pa.float64(),
}
"""Columns that every file has, and their types. ``plan`` is the intervention as JSON
(:func:`lmri.intervene.plan_record`), that of the intact subject too; empty where it is none that
can be written so, and then scorers of log-probabilities cannot read the row again. ``answer`` is
the response without a thought before it; ``n_response`` counts tokens, the end token included."""

NEEDED = ("trial", "condition", "arm", "draw", "response", "answer", "ended")

ROWS = 1024
"""Rows that are read at once."""


def response_table(
    tokenizer: PreTrainedTokenizerBase,
    trials: pd.DataFrame,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[np.ndarray],
    ended: np.ndarray,
    onset_margin: np.ndarray,
    *,
    arm: str,
    seed: int,
    mode: str = "none",
    dose: int = 0,
    draw: int = 0,
    plan: str = "",
) -> pd.DataFrame:
    """Put the responses of an arm into the form in which they are saved.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the subject.
    trials : DataFrame
        The trials, in the order of the responses.
    prompts : sequence of sequence of int
        Token ids of the prompts.
    tokens, ended, onset_margin
        As of :class:`lmri.intervene.Responses`.
    arm : str
        Name of the arm.
    seed : int
        Seed of the study.
    mode, dose, draw : str and int
        What the arm is.
    plan : str
        Its intervention as JSON, see :data:`SAVED`.

    Returns
    -------
    DataFrame
        Columns of :data:`SAVED`, then those of the trials.
    """
    scored = score_responses(tokenizer, trials, tokens, ended, onset_margin)
    thinking = thinking_delimiters(tokenizer)
    starts = [0 if thinking is None else answer_start(tokenizer, row.tolist()) for row in tokens]
    own = {
        "trial": trials["trial"],
        "condition": trials["condition"],
        "arm": arm,
        "mode": mode,
        "dose": dose,
        "draw": draw,
        "seed": seed,
        "plan": plan,
        "prompt_tokens": [list(map(int, prompt)) for prompt in prompts],
        "tokens": [row.tolist() for row in tokens],
        "response": scored["response"],
        "answer": [decode(tokenizer, row[at:]) for row, at in zip(tokens, starts, strict=True)],
        "ended": scored["ended"],
        "n_response": scored["n_response"],
        "refusal_onset": scored["refusal_onset"],
        "onset_margin": scored["onset_margin"],
    }
    table = pd.DataFrame(own, index=trials.index)
    return pd.concat([table, trials.drop(columns=[c for c in trials if c in table])], axis=1)


@contextmanager
def saving_responses(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Write responses as they come, atomically: the file is there when the block ends.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    callable
        Gets a table from :func:`response_table`; all have the same columns. Nothing of it is kept
        in memory.

    Raises
    ------
    ScoreError
        If there is no table, or one has other columns than the first.
    """
    writers: list[pq.ParquetWriter] = []
    with atomic_file(path) as partial:

        def add(table: pd.DataFrame) -> None:
            if not writers:
                writers.append(pq.ParquetWriter(partial, _schema(table)))
            schema = writers[0].schema
            if list(table.columns) != schema.names:
                raise ScoreError(
                    f"{path}: the responses of all arms must have the same columns. Arm "
                    f"'{table['arm'].iloc[0]}' has others than the first."
                )
            writers[0].write_table(pa.Table.from_pandas(table, schema, preserve_index=False))

        try:
            yield add
        finally:
            for writer in writers:
                writer.close()
        if not writers:
            raise ScoreError(f"{path}: responses must be of at least one arm. Got none.")


def write_responses(path: Path, tables: Iterable[pd.DataFrame]) -> int:
    """Write responses, a table after the other, see :func:`saving_responses`.

    Parameters
    ----------
    path : Path
        The file.
    tables : iterable of DataFrame
        From :func:`response_table`.

    Returns
    -------
    int
        Rows written.
    """
    rows = 0
    with saving_responses(path) as add:
        for table in tables:
            add(table)
            rows += len(table)
    return rows


def _schema(table: pd.DataFrame) -> pa.Schema:
    check_columns(table.columns, SAVED, "of the responses", ScoreError)
    own = typed_schema(table)
    fields = [pa.field(name, SAVED.get(name, own.field(name).type)) for name in table.columns]
    return pa.schema(fields, metadata=FORMAT)


def typed_schema(table: pd.DataFrame) -> pa.Schema:
    """Types of a table's columns, text for a column that is empty so far.

    Parameters
    ----------
    table : DataFrame
        The first rows of a table.

    Returns
    -------
    pyarrow.Schema
        For all of its rows.
    """
    inferred = pa.Schema.from_pandas(table, preserve_index=False)
    types = (pa.string() if pa.types.is_null(own.type) else own.type for own in inferred)
    return pa.schema(list(zip(inferred.names, types, strict=True)))


def read_responses(path: Path, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
    """Read responses, some rows at a time.

    Parameters
    ----------
    path : Path
        The file.
    columns : sequence of str, optional
        Columns that are read; by default all.

    Yields
    ------
    DataFrame
        Up to :data:`ROWS` rows, numbered through all of them.

    Raises
    ------
    ScoreError
        If the file is missing, no table of responses, of another format, or lacks a column.
    """
    if not path.is_file():
        raise ScoreError(f"{path}: no such file of responses.")
    try:
        source = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise ScoreError(f"{path}: not a readable table of responses ({reason}).") from None
    with source:
        names = source.schema_arrow.names
        check_columns(names, [*NEEDED, *(columns or ())], str(path), ScoreError)
        version = (source.schema_arrow.metadata or {}).get(
            b"lmri_responses", FORMAT[b"lmri_responses"]
        )
        if version != FORMAT[b"lmri_responses"]:
            raise ScoreError(
                f"{path}: the format of responses must be version 1. Got {version!r}: score it "
                "with the version of lmri that wrote it."
            )
        start = 0
        asked = None if columns is None else list(columns)
        for batch in source.iter_batches(batch_size=ROWS, columns=asked):
            table = batch.to_pandas()
            table.index = range(start, start + len(table))
            start += len(table)
            yield table
