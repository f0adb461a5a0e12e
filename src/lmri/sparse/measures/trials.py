"""What a plan is measured on: unseen trials with what should be answered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.anatomy import Subject, encode, prompt_room, render_trials
from lmri.errors import SparseError
from lmri.intervene.decoding import end_tokens
from lmri.store import read_table


@dataclass(frozen=True)
class Trials:
    """Trials of one task, as tokens.

    Attributes
    ----------
    task : str
        The task.
    table : DataFrame
        One row a trial, with its carriers.
    ids : list of list of int
        Prompt and reference of every trial, the end token at last; the prompt alone without one.
    starts : list of int
        Position of the first token that is scored: of the reference, or the second of a prompt.
    prompts : list of int
        Tokens of the prompts.
    """

    task: str
    table: pd.DataFrame
    ids: list[list[int]]
    starts: list[int]
    prompts: list[int]


def read_trials(
    subject: Subject, stimuli: Path, task: str, split: str, most: int, seed: int
) -> Trials:
    """Read trials of a split, at most so many, spread over its conditions.

    Parameters
    ----------
    subject : Subject
        Whose tokenizer reads them.
    stimuli : Path
        Folder with ``<task>.parquet``.
    task, split : str
        Which trials.
    most : int
        Most trials; if there are more, they are drawn.
    seed : int
        Seed of the draw.

    Returns
    -------
    Trials
        In the order of the table. Prompts longer than the context of the subject leaves room for
        are cut as the template of the task says.

    Raises
    ------
    SparseError
        If the split is empty.
    """
    path = stimuli / f"{task}.parquet"
    table = read_table(path, ("trial", "split", "condition", "prompt", "reference", "template"))
    table = table[table["split"] == split].reset_index(drop=True)
    if table.empty:
        raise SparseError(
            f"{path}: the split '{split}' must hold trials to run a plan on. It has none: raise "
            f"its share in 'splits' or 'tasks.{task}.splits'."
        )
    trials = table.iloc[_spread(table["condition"], most, seed)].reset_index(drop=True)
    ends = end_tokens(subject)
    references = [_reference(subject, row, ends[0]) for row in trials.itertuples()]
    longest = max(map(len, references))
    room = prompt_room(subject.model.config, longest)
    prompts = [prompt.ids for prompt in render_trials(subject.tokenizer, trials, room)]
    ids = [[*prompt, *said] for prompt, said in zip(prompts, references, strict=True)]
    starts = [len(p) if said else 1 for p, said in zip(prompts, references, strict=True)]
    return Trials(task, trials, ids, starts, [len(prompt) for prompt in prompts])


def _reference(subject: Subject, row: tuple, end: int) -> list[int]:
    if not isinstance(row.reference, str) or not row.reference:
        return []
    return [*encode(subject.tokenizer, row.reference, f"reference of {row.trial!r}"), end]


def _spread(conditions: pd.Series, most: int, seed: int) -> np.ndarray:
    """Positions of at most so many trials, as many of every condition as can be."""
    if len(conditions) <= most:
        return np.arange(len(conditions))
    order = np.random.default_rng([seed, 17]).permutation(len(conditions))
    drawn = conditions.iloc[order].reset_index(drop=True)
    # The first of every condition, then the second, and so on.
    turn = drawn.groupby(drawn, sort=False).cumcount()
    chosen = order[turn.sort_values(kind="stable").index[:most]]
    return np.sort(chosen)
