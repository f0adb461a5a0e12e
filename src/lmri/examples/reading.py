"""Whole trials with the activity of units at every token, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lmri.examples.asked import Activity
from lmri.examples.sources import needed, source_of
from lmri.store import Recording

INDEX = ("trial", "position", "phase", "token_id")


@dataclass(frozen=True)
class Trial:
    """One trial, or one sampled response to it, from its first token to its last.

    Attributes
    ----------
    row : int
        Row of the table of trials of the recording.
    ids : ndarray of shape (n_tokens,), int32
        Its tokens.
    spans : ndarray of shape (n_tokens,), uint8
        Codes of their spans.
    activity : ndarray of shape (n_tokens, n_units), float32
        Of all units.
    """

    row: int
    ids: np.ndarray
    spans: np.ndarray
    activity: np.ndarray


def read_trials(recording: Recording, activities: Sequence[Activity]) -> Iterator[Trial]:
    """Read the trials of a recording; memory is bounded by one block and the longest trial.

    Parameters
    ----------
    recording : Recording
        The recording; it holds what every kind of unit needs.
    activities : sequence of Activity
        The units.

    Yields
    ------
    Trial
        In the order of the recording.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for number, own in enumerate(activities):
        groups.setdefault((own.kind, own.quantity), []).append(number)
    sources = [
        (places, source_of(recording, [activities[at] for at in places]))
        for places in groups.values()
    ]
    arrays = list(dict.fromkeys(name for group in groups for name in needed(*group)))
    index = [f"tokens/index/{name}" for name in INDEX]
    rest: list[tuple[np.ndarray, ...]] = []
    for trial, position, spans, ids, *values in recording.stream(*index, *arrays):
        named = dict(zip(arrays, values, strict=True))
        activity = np.zeros((len(trial), len(activities)), dtype=np.float32)
        for places, source in sources:
            activity[:, places] = source.read(named)
        # A sampled repeat is a row of its own, so a trial begins wherever positions do.
        starts = np.flatnonzero(position == 0).tolist()
        for start, part in _cut((trial, ids, spans, activity), starts):
            if rest and start in starts:
                yield _whole(rest)
                rest = []
            rest.append(part)
    if rest:
        yield _whole(rest)


def _cut(
    arrays: Sequence[np.ndarray], starts: Sequence[int]
) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    """Cut a block where trials begin; parts come with the row they begin at."""
    for start, stop in pairwise(sorted({0, *starts, len(arrays[0])})):
        yield start, tuple(own[start:stop] for own in arrays)


def _whole(parts: Sequence[tuple[np.ndarray, ...]]) -> Trial:
    trial, ids, spans, activity = (np.concatenate(own) for own in zip(*parts, strict=True))
    return Trial(int(trial[0]), ids, spans, activity)
