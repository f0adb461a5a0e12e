"""Texts of recordings, read back from their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.anatomy import POST_INSTRUCTION
from lmri.errors import EvidenceError
from lmri.store import Recording


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


def phase_tokens(
    recording: Recording, phase: str, trial: np.ndarray, position: np.ndarray, span: np.ndarray
) -> np.ndarray:
    """Tell which tokens belong to a phase: a span, or single tokens inside one.

    Parameters
    ----------
    recording : Recording
        Whose tokens they are.
    phase : str
        Its name.
    trial, position, span : ndarray of shape (n_tokens,)
        Row of the table of trials, place in the text, and code of the span.

    Returns
    -------
    ndarray of shape (n_tokens,), bool
        False everywhere for a phase that the recording does not have.
    """
    spans, table = list(span_names([recording])), recording.trials
    if phase in spans:
        return span == spans.index(phase)
    if phase == "prompt_last":
        at = table["n_prompt"] - 1
    elif phase == "content_last":
        at = table["content_last"]
    elif phase.startswith(POST_INSTRUCTION):
        at = table["instruction_last"] + 1 + int(phase.removeprefix(POST_INSTRUCTION))
        at = at.where(at < table["n_prompt"] - table["n_prefill"], -1)
    else:
        return np.zeros(len(span), dtype=bool)
    return position == at.to_numpy()[trial]


def _text(recording: Recording, rows: np.ndarray) -> Text:
    return Text(recording.trials.iloc[int(rows[0, 0])], rows[1], rows[2])
