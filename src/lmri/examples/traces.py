"""Traces: every token of a few trials of each condition, drawn before anything is read of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.examples.reading import Trial

PREFERRED = "calibration"
"""Split that traces are of where it was recorded: maps were made on the other one."""

MOST_TOKENS = 160
"""Tokens of a trace: of a longer trial those around the end of its prompt."""


@dataclass(frozen=True)
class Comparison:
    """Whose trials are traced: those of a contrast.

    Attributes
    ----------
    name, task : str
        The contrast and its task.
    conditions : tuple of str
        Those of its target first.
    """

    name: str
    task: str
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    """Some tokens of one trial with the activity of all units.

    Attributes
    ----------
    task, shard, row : str, int, int
        Where the trial stands.
    start, length : int
        Position of the first token that is kept; tokens of the whole trial.
    ids, spans : ndarray of shape (n_tokens,)
        Tokens and codes of their spans.
    activity : ndarray of shape (n_tokens, n_units), float32
        Of all units.
    """

    task: str
    shard: int
    row: int
    start: int
    length: int
    ids: np.ndarray
    spans: np.ndarray
    activity: np.ndarray


def draw_trials(
    tables: Sequence[pd.DataFrame], conditions: Sequence[str], count: int, seed: int
) -> set[tuple[int, int]]:
    """Draw the trials of a task that are traced.

    Parameters
    ----------
    tables : sequence of DataFrame
        Tables of trials of its recordings.
    conditions : sequence of str
        Conditions.
    count : int
        Trials of each.
    seed : int
        Of the draws; those of a condition do not depend on the others.

    Returns
    -------
    set of (int, int)
        Place of the recording, and row.
    """
    drawn: set[tuple[int, int]] = set()
    places = [(shard, row) for shard, table in enumerate(tables) for row in range(len(table))]
    trials = pd.concat(tables, ignore_index=True)
    first = trials["repeat"].to_numpy() == 0 if "repeat" in trials else np.ones(len(trials), bool)
    for condition in conditions:
        own = first & (trials["condition"] == condition).to_numpy()
        kept = own & (trials["split"] == PREFERRED).to_numpy()
        rows = np.flatnonzero(kept if kept.any() else own)
        rng = np.random.default_rng([seed, 72, zlib.crc32(condition.encode())])
        chosen = rng.permutation(rows)[:count]
        drawn |= {places[row] for row in chosen.tolist()}
    return drawn


def trace_of(trial: Trial, task: str, shard: int, prompt: int) -> Trace:
    """Cut a trial to what is kept of it.

    Parameters
    ----------
    trial : Trial
        With the activity of all units.
    task, shard : str, int
        Where it stands.
    prompt : int
        Tokens of its prompt.

    Returns
    -------
    Trace
        All of it, or :data:`MOST_TOKENS` around the end of the prompt.
    """
    start = max(0, min(prompt - MOST_TOKENS // 2, len(trial.ids) - MOST_TOKENS))
    own = slice(start, start + MOST_TOKENS)
    return Trace(
        task,
        shard,
        trial.row,
        start,
        len(trial.ids),
        trial.ids[own],
        trial.spans[own],
        trial.activity[own],
    )
