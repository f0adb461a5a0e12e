"""Reading activity by trial from recordings: pooled states of a layer, and chosen experts.

One row is a trial, over which sampled repeats are averaged. Tokens are never rows: those of a trial
depend on each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lmri.anatomy import phase_tokens
from lmri.checks import check_choice, check_columns
from lmri.errors import EvidenceError
from lmri.store import Recording, manifest_path, open_recording

POOLED = {
    "residual": "pooled/residual/residual",
    "neuron": "pooled/neuron/activation",
    "router": "pooled/router/logits",
}
"""Arrays by kind, of shape (trial, phase, statistic, layer, ...)."""

BLOCK_BYTES = 64 * 2**20
"""Activity that is held at once, in float64; one layer of all trials where that is more."""


@dataclass(frozen=True)
class Trials:
    """Trials whose activity is read.

    Attributes
    ----------
    table : DataFrame
        One row each, in the order in which they are first met.
    recordings : tuple of Recording
        The shards.
    row_of : tuple of ndarray of shape (n_rows of the shard,), int64
        For every row of a shard's table its place in ``table``, -1 for others.
    """

    table: pd.DataFrame
    recordings: tuple[Recording, ...]
    row_of: tuple[np.ndarray, ...]


def open_shards(folder: Path) -> list[Recording]:
    """Open all shards of a task.

    Parameters
    ----------
    folder : Path
        With ``<shard>.zarr`` and their manifests.

    Returns
    -------
    list of Recording
        In their order, every byte checked.

    Raises
    ------
    EvidenceError
        If there is none.
    StoreError
        If one is damaged.
    """
    stores = sorted(folder.glob("*.zarr"), key=lambda path: int(path.stem))
    if not stores:
        raise EvidenceError(f"{folder}: no recording. Record the task before asking about it.")
    return [open_recording(store, manifest_path(store)) for store in stores]


def select_trials(
    recordings: Sequence[Recording],
    split: str | None = "selection",
    conditions: Collection[str] | None = None,
) -> Trials:
    """Choose trials of a task.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of one subject and task.
    split : str or None
        Their split; None takes all.
    conditions : collection of str or None
        Their conditions; None takes all.

    Returns
    -------
    Trials
        The trials.

    Raises
    ------
    EvidenceError
        If a condition is unknown, or there is none.
    """
    present = {str(name) for own in recordings for name in own.trials["condition"].unique()}
    for condition in conditions or ():
        check_choice(condition, present, "condition", "information", EvidenceError)
    known: dict[str, int] = {}
    parts, row_of = [], []
    for recording in recordings:
        table = recording.trials
        chosen = np.ones(len(table), dtype=bool)
        if split is not None:
            chosen &= (table["split"] == split).to_numpy()
        if conditions is not None:
            chosen &= table["condition"].isin(list(conditions)).to_numpy()
        places = np.full(len(table), -1)
        first = []
        for row in np.flatnonzero(chosen):
            name = str(table["trial"].iloc[row])
            if name not in known:
                known[name] = len(known)
                first.append(row)
            places[row] = known[name]
        parts.append(table.iloc[first])
        row_of.append(places)
    if not known:
        raise EvidenceError(
            f"Information must be read from recorded trials. None is of the split '{split}'."
        )
    return Trials(pd.concat(parts, ignore_index=True), tuple(recordings), tuple(row_of))


def column(trials: Trials, name: str) -> np.ndarray:
    """Read a column of the table of trials.

    Parameters
    ----------
    trials : Trials
        The trials.
    name : str
        The column.

    Returns
    -------
    ndarray of shape (n_trials,)
        Its values.

    Raises
    ------
    EvidenceError
        If there is none of this name.
    """
    check_columns(trials.table.columns, [name], "of trials", EvidenceError)
    return trials.table[name].to_numpy()


def pooled_activity(
    trials: Trials,
    kind: str,
    phase: str,
    *,
    statistic: str = "mean",
    place: str = "after",
) -> Iterator[tuple[int, np.ndarray]]:
    """Read pooled activity, layer after layer.

    As many layers are read at once as :data:`BLOCK_BYTES` hold: those of a trial lie together.

    Parameters
    ----------
    trials : Trials
        The trials.
    kind : str
        One of :data:`POOLED`.
    phase, statistic : str
        Which of the recorded ones.
    place : str
        Place of the residual stream; not used for other kinds.

    Yields
    ------
    layer : int
        Id of the layer.
    values : ndarray of shape (n_trials, d), float64
        Activity; NaN for a trial without a token in the phase.

    Raises
    ------
    EvidenceError
        If the phase, statistic or place was not recorded.
    StoreError
        If the quantity was not recorded.
    """
    check_choice(kind, POOLED, "kind", "information", EvidenceError)
    path = POOLED[kind]
    node = path.rpartition("/")[0]
    first = trials.recordings[0]
    first.array(path)  # the error of a quantity that was not recorded
    layers = [int(layer) for layer in first.array(f"{node}/layer")[:]]
    width = first.array(path).shape[-1]
    step = max(1, BLOCK_BYTES // (8 * width * len(trials.table)))
    for start in range(0, len(layers), step):
        block = slice(start, min(start + step, len(layers)))
        values = _read(trials, path, block, phase, statistic, place)
        for number, layer in enumerate(layers[block]):
            yield layer, values[:, number]


def _read(
    trials: Trials, path: str, layers: slice, phase: str, statistic: str, place: str
) -> np.ndarray:
    """Mean activity over the rows of each trial: (n_trials, n_layers, d)."""
    node = path.rpartition("/")[0]
    shape = (
        len(trials.table),
        layers.stop - layers.start,
        trials.recordings[0].array(path).shape[-1],
    )
    total, count = np.zeros(shape), np.zeros(len(trials.table))
    for recording, row_of in zip(trials.recordings, trials.row_of, strict=True):
        array = recording.array(path)
        at = [_place(recording, node, "phase", phase)]
        at.append(_place(recording, node, "statistic", statistic))
        at.append(layers)
        if "place" in array.dims:
            at.append(_place(recording, node, "place", place))
        for start in range(0, array.shape[0], array.chunks[0]):
            own = row_of[start : start + array.chunks[0]]
            if (own >= 0).any():
                values = array[(slice(start, start + len(own)), *at)][own >= 0]
                known = np.isfinite(values).all(axis=(1, 2))
                np.add.at(total, own[own >= 0][known], values[known])
                np.add.at(count, own[own >= 0][known], 1)
    with np.errstate(invalid="ignore"):
        return total / np.where(count > 0, count, np.nan)[:, None, None]


def choice_rates(trials: Trials, phase: str) -> Iterator[tuple[int, np.ndarray]]:
    """Read how often the tokens of a phase choose each expert.

    Parameters
    ----------
    trials : Trials
        The trials.
    phase : str
        A span, ``prompt_last``, ``content_last`` or a position after the instruction.

    Yields
    ------
    layer : int
        Id of the layer.
    rates : ndarray of shape (n_trials, n_experts), float64
        Shares of the slots of all tokens, which sum to 1; NaN for a trial without a token.

    Raises
    ------
    StoreError
        If the router was not recorded.
    """
    first = trials.recordings[0]
    layers = [int(layer) for layer in first.array("tokens/router/layer")[:]]
    experts = first.array("pooled/router/logits").shape[-1]
    counts = np.zeros((len(trials.table), len(layers), experts))
    names = [f"tokens/index/{name}" for name in ("trial", "position", "phase")]
    for recording, row_of in zip(trials.recordings, trials.row_of, strict=True):
        spans = list(recording.array("tokens/index/phase").attrs["phases"])
        for trial, position, span, ids in recording.stream(*names, "tokens/router/expert_id"):
            index = {"trial": trial, "position": position, "phase": span, "spans": spans}
            inside = phase_tokens(recording.trials, index, phase)
            rows = np.flatnonzero(inside & (row_of[trial] >= 0))
            place = row_of[trial[rows]][:, None, None]
            layer = np.arange(len(layers))[None, :, None]
            np.add.at(counts, (place, layer, ids[rows].astype(np.int64)), 1)
    for number, layer in enumerate(layers):
        own = counts[:, number]
        with np.errstate(invalid="ignore"):
            yield layer, own / own.sum(axis=1, keepdims=True)


def _place(recording: Recording, node: str, name: str, value: str) -> int:
    labels = [str(own) for own in recording.array(f"{node}/{name}")[:]]
    check_choice(value, labels, name, f"{recording.path}: {node}", EvidenceError)
    return labels.index(value)
