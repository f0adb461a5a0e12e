"""Positions: tokens that trials of different lengths have in common, named by an event.

A position is a phase (the mean over its tokens), or a token counted from an event: the first or the
last token of a span, or the last of the prompt. ``response_last-1`` is the last token but one of
the response, ``prompt_last-3`` the fourth but last of the prompt. Absolute indices are none: token
12 is the year in one trial and the place in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from lmri.anatomy import SPANS
from lmri.checks import quoted
from lmri.config.decoding import counted_position
from lmri.errors import EvidenceError

PROMPT_LAST = "prompt_last"

BLOCK = 2**18
"""Tokens whose index is read at once."""


@dataclass(frozen=True)
class Position:
    """Where in a trial activity is read.

    Attributes
    ----------
    name : str
        As in the study.
    phase : str or None
        Phase whose pooled activity is read; None for a token.
    statistic : str
        How it is pooled.
    event : str
        Event that a token is counted from.
    offset : int
        Tokens after it.
    """

    name: str
    phase: str | None = None
    statistic: str = "mean"
    event: str = ""
    offset: int = 0


def read_position(name: str, phases: Sequence[str]) -> Position:
    """Read the name of a position.

    Parameters
    ----------
    name : str
        For example ``content``, ``prompt_last``, ``response_first+1``.
    phases : sequence of str
        Phases that were pooled.

    Returns
    -------
    Position
        The position.

    Raises
    ------
    EvidenceError
        If it is neither a pooled phase nor counted from an event.
    """
    if name in phases:
        return Position(name, phase=name)
    found = counted_position(name)
    if found is None:
        raise EvidenceError(
            f"A position must be a recorded phase ({quoted(phases)}), or a token counted from "
            f"'prompt_last', '<span>_first' or '<span>_last', such as 'response_last-1'. Got "
            f"{name!r}."
        )
    event, offset = found
    if not offset and event.endswith("_last") and event.removesuffix("_last") in phases:
        return Position(name, phase=event.removesuffix("_last"), statistic="last")
    return Position(name, event=event, offset=offset)


@dataclass(frozen=True)
class TokenIndex:
    """Where the events of every trial lie among the recorded tokens.

    Attributes
    ----------
    start, count : ndarray of shape (n_trials,), int64
        First token of each trial, and how many it has.
    first, last : ndarray of shape (n_spans, n_trials), int64
        Position of the first and the last token of every span; -1 of one without tokens.
    prompt_last : ndarray of shape (n_trials,), int64
        Position of the last token of the prompt.
    """

    start: np.ndarray
    count: np.ndarray
    first: np.ndarray
    last: np.ndarray
    prompt_last: np.ndarray

    def rows(self, position: Position) -> np.ndarray:
        """Find the token of every trial.

        Parameters
        ----------
        position : Position
            Counted from an event.

        Returns
        -------
        ndarray of shape (n_trials,), int64
            Rows of the recorded tokens; -1 of a trial without such a token. What is counted from a
            span ends with it.
        """
        if position.event == PROMPT_LAST:
            return self.around_prompt_end(np.array([position.offset]))[:, 0]
        span, _, end = position.event.rpartition("_")
        number = SPANS.index(span)
        at = (self.first if end == "first" else self.last)[number]
        token = at + position.offset
        inside = (at >= 0) & (token >= self.first[number]) & (token <= self.last[number])
        return np.where(inside, self.start + token, -1)

    def around_prompt_end(self, offsets: np.ndarray) -> np.ndarray:
        """Find the tokens around the end of the prompt.

        Parameters
        ----------
        offsets : ndarray of shape (n_offsets,), int64
            Tokens after the last of the prompt.

        Returns
        -------
        ndarray of shape (n_trials, n_offsets), int64
            Rows of the recorded tokens; -1 where the trial has not begun or has ended.
        """
        token = self.prompt_last[:, None] + offsets
        inside = (token >= 0) & (token < self.count[:, None])
        return np.where(inside, self.start[:, None] + token, -1)


def index_tokens(tree: xr.DataTree) -> TokenIndex:
    """Index the tokens of a recording by trial, a block at a time.

    Parameters
    ----------
    tree : DataTree
        Of :func:`lmri.store.open_recordings`.

    Returns
    -------
    TokenIndex
        The events of its trials.
    """
    trials, index = tree["trials"].dataset, tree["tokens/index"].dataset
    names = list(tree.attrs["spans"])
    count = trials.sizes["trial"]
    start = np.full(count, np.iinfo(np.int64).max)
    tokens = np.zeros(count, dtype=np.int64)
    first = np.full((len(SPANS), count), np.iinfo(np.int64).max)
    last = np.full((len(SPANS), count), -1)
    number_of = np.array([SPANS.index(name) for name in names])
    for begin in range(0, index.sizes["token"], BLOCK):
        block = index[["trial", "position", "phase"]].isel(token=slice(begin, begin + BLOCK))
        trial, position = block["trial"].values, block["position"].values.astype(np.int64)
        span = number_of[block["phase"].values]
        tokens += np.bincount(trial, minlength=count)
        np.minimum.at(start, trial, begin + np.arange(len(trial)))
        np.minimum.at(first, (span, trial), position)
        np.maximum.at(last, (span, trial), position)
    first = np.where(last >= 0, first, -1)
    return TokenIndex(start, tokens, first, last, trials["n_prompt"].values.astype(np.int64) - 1)
