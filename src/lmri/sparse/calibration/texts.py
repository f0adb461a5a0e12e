"""What a policy is calibrated on: recorded prompts and responses of the calibration split."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.checks import shortened
from lmri.errors import SparseError
from lmri.store import Recording

MOST_TOKENS = 65_536
"""Tokens of a calibration, by default: three times those of TEAL and WINA."""

INDEX = "tokens/index"


@dataclass(frozen=True, eq=False)
class Texts:
    """Token ids of trials, prompt and response.

    Attributes
    ----------
    trials : tuple of str
        Names, ``<task>/<trial>`` where they come from recordings.
    tokens : tuple of ndarray of shape (n_tokens,), int64
        Token ids of each.
    subject : str
        Hash of the subject that was recorded; empty where the recordings do not say.
    """

    trials: tuple[str, ...]
    tokens: tuple[np.ndarray, ...]
    subject: str = ""


def calibration_texts(
    recordings: Iterable[Recording],
    trials: Collection[str] | None = None,
    most_tokens: int = MOST_TOKENS,
    subject_hash: str | None = None,
) -> Texts:
    """Read the texts of the calibration split; nothing is generated.

    Where the split has more tokens than are wanted, trials are taken at even steps through each
    recording, so that every condition keeps its share.

    Parameters
    ----------
    recordings : iterable of Recording
        Shards of one subject, of any tasks.
    trials : collection of str, optional
        Take only these trials.
    most_tokens : int
        Tokens of all texts, at most; memory is bounded by it.
    subject_hash : str, optional
        Hash of the subject that is to be calibrated.

    Returns
    -------
    Texts
        Prompts with their responses, in the order of the recordings.

    Raises
    ------
    SparseError
        If a trial named is of another split or not there, the recordings are of several subjects
        or of another one, or none of their trials is of the calibration split.
    """
    recordings = list(recordings)
    chosen = [_of_split(recording, trials) for recording in recordings]
    if trials is not None:
        there = set().union(*(rows["trial"] for rows in chosen)) if chosen else set()
        missing = sorted(set(trials) - there)
        if missing:
            raise SparseError(
                f"The 'trials' of a calibration must be in its recordings. Got {missing[0]!r} and "
                f"{len(missing) - 1} more that are not."
            )
    subject = _subject(recordings, subject_hash)
    total = sum(int(_lengths(rows).sum()) for rows in chosen)
    if total == 0:
        raise SparseError(
            "A calibration needs recorded trials of the split 'calibration'. Found none in "
            f"{len(recordings)} recordings: raise its share in 'splits' and record again."
        )
    names, tokens = [], []
    for recording, rows in zip(recordings, chosen, strict=True):
        rows = rows.iloc[even_steps(_lengths(rows).to_numpy(), most_tokens / total)]
        found = _tokens(recording, rows.index.to_numpy())
        task = recording.attributes.get("task", "")
        for (row, trial), repeat in zip(rows["trial"].items(), _repeats(rows), strict=True):
            names.append(f"{task}/{trial}" + (f"#{repeat}" if repeat else ""))
            tokens.append(found[row])
    return Texts(tuple(names), tuple(tokens), subject)


def even_steps(sizes: Sequence[int], share: float) -> np.ndarray:
    """Choose items at even steps through all, so that their sizes are a share together, at most.

    Parameters
    ----------
    sizes : sequence of int
        Size of every item.
    share : float
        Share of the sum of all; from 1 on all are taken.

    Returns
    -------
    ndarray of shape (n_chosen,), int64
        Indices, ascending; none where the share is smaller than the largest item.
    """
    sizes = np.asarray(sizes)
    if share >= 1.0 or not len(sizes):
        return np.arange(len(sizes))
    passed = np.floor(sizes.cumsum() * share / sizes.max())
    return np.flatnonzero(np.diff(passed, prepend=0.0) > 0)


def _of_split(recording: Recording, trials: Collection[str] | None) -> pd.DataFrame:
    """Rows of the table of trials that are used; the index is that of the recording."""
    table = recording.trials.reset_index(drop=True)
    if "split" not in table:
        raise SparseError(
            f"{recording.path}: a recording for a calibration must say the 'split' of its trials. "
            "Record again."
        )
    if trials is None:
        return table[table["split"] == "calibration"]
    named = table[table["trial"].isin(trials)]
    others = named[named["split"] != "calibration"]
    if len(others):
        trial, split = others.iloc[0][["trial", "split"]]
        raise SparseError(
            "The 'trials' of a calibration must be of the split 'calibration', or what is "
            f"calibrated would be judged on what it was made from. Got {shortened(trial)} and "
            f"{len(others) - 1} more of other splits ('{split}')."
        )
    return named


def _subject(recordings: Sequence[Recording], wanted: str | None) -> str:
    found = {
        (recording.attributes.get("provenance") or {}).get("subject") or ""
        for recording in recordings
    }
    if len(found) > 1 or (found and wanted not in (None, *found)):
        names = ", ".join(sorted(own[:12] or "an unknown one" for own in found))
        raise SparseError(
            "The recordings of a calibration must be of one subject, the one that is calibrated"
            f"{'' if wanted is None else f' ({wanted[:12]})'}. Got those of {names}: record it."
        )
    return next(iter(found), "")


def _lengths(rows: pd.DataFrame) -> pd.Series:
    return rows["n_prompt"] + rows["n_response"]


def _repeats(rows: pd.DataFrame) -> Iterable[int]:
    return rows["repeat"] if "repeat" in rows else [0] * len(rows)


def _tokens(recording: Recording, rows: np.ndarray) -> dict[int, np.ndarray]:
    parts: dict[int, list[np.ndarray]] = {int(row): [] for row in rows}
    wanted = np.zeros(len(recording.trials), dtype=bool)
    wanted[rows] = True
    for trial, token in recording.stream(f"{INDEX}/trial", f"{INDEX}/token_id"):
        mine = wanted[trial]
        for row in np.unique(trial[mine]):
            parts[int(row)].append(token[trial == row].astype(np.int64))
    return {row: np.concatenate(own) for row, own in parts.items() if own}
