"""Texts of recordings, read back from their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.errors import EvidenceError
from lmri.store import Recording
from lmri.store.carriers import CARRIER


@dataclass(frozen=True)
class Text:
    """One prompt and response.

    Attributes
    ----------
    trial : Series
        Its row of the table of trials.
    ids : ndarray of shape (n_tokens,), int64
        Tokens.
    spans : ndarray of shape (n_tokens,), int64
        Code of the phase of each token.
    """

    trial: pd.Series
    ids: np.ndarray
    spans: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def chosen_rows(trials: pd.DataFrame, split: str | None) -> np.ndarray:
    """Tell which rows of a table of trials are of a split; None takes all."""
    return np.full(len(trials), True) if split is None else (trials["split"] == split).to_numpy()


def span_names(recordings: Sequence[Recording]) -> tuple[str, ...]:
    """Names of the codes of spans, which all shards of a task share.

    Raises
    ------
    EvidenceError
        If there is no recording.
    """
    if not recordings:
        raise EvidenceError("There must be at least one recording to read. Got none.")
    return tuple(recordings[0].array("tokens/index/phase").attrs["phases"])


def texts(recordings: Sequence[Recording]) -> Iterator[Text]:
    """Read the texts of recordings, one at a time.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task.

    Yields
    ------
    Text
        In the order of the recording.
    """
    for recording in recordings:
        kept: list[np.ndarray] = []  # of the text that goes on in the next chunk
        names = [f"tokens/index/{name}" for name in ("trial", "token_id", "phase")]
        for chunk in recording.stream(*names):
            rows = np.stack([part.astype(np.int64) for part in chunk])
            rows = np.concatenate([*kept, rows], axis=1)
            parts = np.split(rows, np.flatnonzero(np.diff(rows[0])) + 1, axis=1)
            kept = [parts.pop()]
            yield from (_text(recording, part) for part in parts)
        if kept and kept[0].size:
            yield _text(recording, kept[0])


def text_values(
    recordings: Sequence[Recording], names: Sequence[str], split: str | None = "selection"
) -> Iterator[tuple[dict[str, str], tuple[np.ndarray, ...]]]:
    """Read what was recorded of every token, one whole text at a time.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task that hold the arrays.
    names : sequence of str
        Arrays over tokens, as ``tokens/extremes/value``.
    split : str, optional
        Trials; None takes all. Of sampled repeats the first.

    Yields
    ------
    carriers : dict of str to str
        See :func:`text_carriers`.
    values : tuple of ndarray of shape (n_tokens, ...)
        In the order of the names.
    """
    for recording in recordings:
        chosen = first_repeats(recording.trials, split)
        kept: list[np.ndarray] | None = None  # of the text that goes on in the next block
        for block in recording.stream("tokens/index/trial", *names):
            parts = list(block)
            if kept is not None:
                parts = [np.concatenate(pair) for pair in zip(kept, parts, strict=True)]
            ends = np.flatnonzero(np.diff(parts[0].astype(np.int64))) + 1
            *whole, kept = map(list, zip(*(np.split(part, ends) for part in parts), strict=True))
            for trial, *values in whole:
                if chosen[trial[0]]:
                    yield text_carriers(recording.trials.iloc[int(trial[0])]), tuple(values)
        if kept is not None and len(kept[0]) and chosen[kept[0][0]]:
            yield text_carriers(recording.trials.iloc[int(kept[0][0])]), tuple(kept[1:])


def text_carriers(trial: pd.Series) -> dict[str, str]:
    """Values of the carriers that a trial has, by the names of their columns."""
    own = {str(name): value for name, value in trial.items() if str(name).startswith(CARRIER)}
    return {name: str(value) for name, value in own.items() if pd.notna(value)}


def first_repeats(trials: pd.DataFrame, split: str | None) -> np.ndarray:
    """Tell which rows of a table of trials are of a split and no further repeat of one."""
    chosen = chosen_rows(trials, split)
    return chosen & (trials["repeat"] == 0).to_numpy() if "repeat" in trials else chosen


def _text(recording: Recording, rows: np.ndarray) -> Text:
    return Text(recording.trials.iloc[int(rows[0, 0])], rows[1], rows[2])
