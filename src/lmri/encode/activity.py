"""Activity by trial, read from recordings a block of units at a time.

A row is a recorded trial. More rows make narrower blocks and not more memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.anatomy import phase_tokens
from lmri.checks import check_choice
from lmri.encode.ceiling import SAMPLED
from lmri.errors import EvidenceError
from lmri.intervene import KINDS
from lmri.store import Recording

BLOCK_BYTES = 96 * 2**20
"""Activity of one block, in float64."""

PLACE = "after"
"""Place of the residual stream that is read."""

POOLED = {
    "neuron": "pooled/neuron/activation",
    "shared_neuron": "pooled/shared_neuron/activation",
    "head": "pooled/head/norm",
    "residual": "pooled/residual/residual",
    "layer": "pooled/layer/norm",
}
"""Kinds of units that are read from pooled activity, and its array."""

OTHERS = {
    "expert": ("tokens/router/expert_id",),
    "expert_neuron": ("tokens/expert_neuron/activation", "pooled/expert_neuron/sum"),
}
"""All other kinds, and arrays of which one is needed."""

NEEDED = {
    **{kind: kind for kind in POOLED},
    "shared_neuron": "neuron",
    "expert": "router",
    "expert_neuron": "neuron",
}
"""Entry of ``record.quantities`` that a kind is recorded with."""


@dataclass(frozen=True)
class Trials:
    """Rows of a task.

    Attributes
    ----------
    table : DataFrame
        One row each.
    recordings : tuple of Recording
        The shards.
    row_of : tuple of ndarray of shape (n_rows of the shard,), int64
        For every row of a shard its place in ``table``; -1 for others.
    phase : str
        The phase they are read in.
    """

    table: pd.DataFrame
    recordings: tuple[Recording, ...]
    row_of: tuple[np.ndarray, ...]
    phase: str


def select_trials(recordings: Sequence[Recording], split: str, phase: str) -> Trials:
    """Choose the rows of a split that have tokens in a phase.

    Sampled repeats count in the phases they differ in; in others the first is read.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task.
    split : str
        The split.
    phase : str
        The phase.

    Returns
    -------
    Trials
        The rows.

    Raises
    ------
    EvidenceError
        If there is none.
    """
    parts, row_of, count = [], [], 0
    for recording in recordings:
        table = recording.trials
        kept = (table["split"] == split).to_numpy()
        if phase not in SAMPLED and "repeat" in table:
            kept = kept & (table["repeat"] == 0).to_numpy()
        kept = kept & (_tokens_in(recording, phase) > 0)
        places = np.full(len(table), -1)
        places[kept] = count + np.arange(kept.sum())
        count += int(kept.sum())
        parts.append(table[kept])
        row_of.append(places)
    if not count:
        raise EvidenceError(
            f"The encoding must be of recorded trials. None of the split '{split}' has a token in "
            f"the phase '{phase}'."
        )
    return Trials(pd.concat(parts, ignore_index=True), tuple(recordings), tuple(row_of), phase)


@dataclass(frozen=True)
class Units:
    """Units of one kind, as a recording holds them.

    Attributes
    ----------
    kind : str
        The kind.
    layers : tuple of int
        Ids of the layers.
    shape : tuple of int
        Units of a layer, a number for each part of a name after the layer.
    """

    kind: str
    layers: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions, the layer first."""
        return KINDS[self.kind].names

    @property
    def coordinates(self) -> dict[str, np.ndarray]:
        """Values of each dimension."""
        ranges = [np.asarray(self.layers), *(np.arange(size) for size in self.shape)]
        return dict(zip(self.dims, ranges, strict=True))

    @property
    def per_layer(self) -> int:
        """Number of units of a layer."""
        return int(np.prod(self.shape, dtype=np.int64))


def units_of(recordings: Sequence[Recording], kind: str) -> Units:
    """Find the units of a kind in recordings.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task.
    kind : str
        The kind.

    Returns
    -------
    Units
        The units.

    Raises
    ------
    EvidenceError
        If they were not recorded.
    """
    check_choice(kind, NEEDED, "kind", "the encoding", EvidenceError)
    first = recordings[0]
    paths = (POOLED[kind],) if kind in POOLED else OTHERS[kind]
    path = next((own for own in paths if all(shard.holds(own) for shard in recordings)), None)
    if path is None:
        raise EvidenceError(
            f"'{paths[-1]}' was not recorded: add '{NEEDED[kind]}' to 'record.quantities', if the "
            "subject has such units."
        )
    node = path.rpartition("/")[0]
    if kind not in POOLED:
        layers = _layers(first, "tokens/router")
        experts = first.array("pooled/router/logits").shape[-1]
        neurons = (first.array(path).shape[-1],) if kind == "expert_neuron" else ()
        return Units(kind, layers, (experts, *neurons))
    array = first.array(path)
    parts = [
        size for size, name in zip(array.shape[4:], array.dims[4:], strict=True) if name != "place"
    ]
    return Units(kind, _layers(first, node), tuple(parts))


def blocks(
    trials: Trials, units: Units, only: int | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Read all units, block after block.

    Parameters
    ----------
    trials : Trials
        The rows.
    units : Units
        The units.
    only : int, optional
        Place of the one layer to read; by default all.

    Yields
    ------
    (slice, ndarray of shape (n_rows, n_units of the block), float64)
        Places of the units in the flattened order of ``units``, and their activity.
    """
    most = max(1, BLOCK_BYTES // (8 * len(trials.table)))
    per_layer = units.per_layer
    depth = range(len(units.layers)) if only is None else range(only, only + 1)
    if per_layer <= most:
        step = most // per_layer
        for start in depth[::step]:
            stop = min(start + step, depth.stop)
            read = _read(trials, units, slice(start, stop), slice(None))
            yield slice(start * per_layer, stop * per_layer), read
        return
    width, rest = units.shape[0], per_layer // units.shape[0]
    step = max(1, most // rest)
    for layer in depth:
        for start in range(0, width, step):
            stop = min(start + step, width)
            first = layer * per_layer
            read = _read(trials, units, slice(layer, layer + 1), slice(start, stop))
            yield slice(first + start * rest, first + stop * rest), read


def _read(trials: Trials, units: Units, layers: slice, within: slice) -> np.ndarray:
    if units.kind == "expert":
        return _rates(trials, units, layers, within)
    if units.kind == "expert_neuron":
        return _expert_neurons(trials, units, layers, within)
    return _pooled(trials, units, layers, within)


def _pooled(trials: Trials, units: Units, layers: slice, within: slice) -> np.ndarray:
    path = POOLED[units.kind]
    node = path.rpartition("/")[0]
    found: np.ndarray | None = None
    for recording, row_of in zip(trials.recordings, trials.row_of, strict=True):
        array = recording.array(path)
        at: list = [
            _place(recording, node, "phase", trials.phase),
            _place(recording, node, "statistic", "mean"),
            layers,
        ]
        if "place" in array.dims:
            at.append(_place(recording, node, "place", PLACE))
        if units.shape:
            at.append(within)
        for start in range(0, array.shape[0], array.chunks[0]):
            own = row_of[start : start + array.chunks[0]]
            if not (own >= 0).any():
                continue
            values = array[(slice(start, start + len(own)), *at)].reshape(len(own), -1)
            if found is None:
                found = np.empty((len(trials.table), values.shape[1]))
            found[own[own >= 0]] = values[own >= 0]
    return found


def _rates(trials: Trials, units: Units, layers: slice, within: slice) -> np.ndarray:
    """Share of the tokens of a row that choose each expert."""
    chosen = range(*layers.indices(len(units.layers)))
    experts = range(*within.indices(units.shape[0]))
    counts = np.zeros((len(trials.table), len(chosen), len(experts)))
    tokens = np.zeros(len(trials.table))
    for recording, row_of in zip(trials.recordings, trials.row_of, strict=True):
        for inside, trial, ids in _tokens(recording, trials.phase, "tokens/router/expert_id"):
            inside &= row_of[trial] >= 0
            place = row_of[trial[inside]]
            np.add.at(tokens, place, 1)
            own = ids[inside][:, layers]
            token, layer, slot = np.nonzero(np.isin(own, experts))
            expert = own[token, layer, slot].astype(np.int64) - experts.start
            np.add.at(counts, (place[token], layer, expert), 1)
    return counts.reshape(len(counts), -1) / tokens[:, None]


def _expert_neurons(trials: Trials, units: Units, layers: slice, within: slice) -> np.ndarray:
    """Mean activity per token of the phase; 0 where the expert is not chosen."""
    place_of = {layer: i for i, layer in enumerate(units.layers[layers])}
    experts = range(*within.indices(units.shape[0]))
    total = np.zeros((len(trials.table), len(place_of), len(experts), units.shape[1]))
    tokens = np.zeros(len(trials.table))
    for recording, row_of in zip(trials.recordings, trials.row_of, strict=True):
        own = row_of >= 0
        tokens[row_of[own]] = _tokens_in(recording, trials.phase)[own]
        if recording.holds(OTHERS["expert_neuron"][0]):
            _add_tokens(total, recording, row_of, trials.phase, layers, experts)
        else:
            _add_pools(total, recording, row_of, trials.phase, place_of, experts)
    return total.reshape(len(total), -1) / tokens[:, None]


def _add_tokens(
    total: np.ndarray,
    recording: Recording,
    row_of: np.ndarray,
    phase: str,
    layers: slice,
    experts: range,
) -> None:
    array, start = recording.array(OTHERS["expert_neuron"][0]), 0
    for inside, trial, ids in _tokens(recording, phase, "tokens/router/expert_id"):
        rows = slice(start, start + len(trial))
        start = rows.stop
        kept = inside & (row_of[trial] >= 0)
        if not kept.any():
            continue
        values = array[rows, layers][kept]  # (tokens, layers, slots, neurons)
        own = ids[kept][:, layers]
        token, layer, slot = np.nonzero(np.isin(own, experts))
        expert = own[token, layer, slot].astype(np.int64) - experts.start
        at = (row_of[trial[kept]][token], layer, expert)
        np.add.at(total, at, values[token, layer, slot])


def _add_pools(
    total: np.ndarray,
    recording: Recording,
    row_of: np.ndarray,
    phase: str,
    place_of: dict[int, int],
    experts: range,
) -> None:
    node = "pooled/expert_neuron"
    names = [f"{node}/{name}" for name in ("trial", "phase", "layer", "expert", "sum")]
    code = _number(recording.array(f"{node}/phase").attrs["phases"], phase, recording)
    for trial, phases, layer, expert, sums in recording.stream(*names):
        kept = (phases == code) & (row_of[trial] >= 0)
        kept &= np.isin(layer, list(place_of)) & np.isin(expert, experts)
        at = (
            row_of[trial[kept]],
            np.array([place_of[int(i)] for i in layer[kept]], dtype=np.int64),
            expert[kept].astype(np.int64) - experts.start,
        )
        total[at] = sums[kept]


def _tokens_in(recording: Recording, phase: str) -> np.ndarray:
    """Tokens of a phase in every row of a shard."""
    counts = np.zeros(len(recording.trials))
    for inside, trial in _tokens(recording, phase):
        counts += np.bincount(trial[inside], minlength=len(counts))
    return counts


def _tokens(recording: Recording, phase: str, *names: str) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield blocks of tokens: inside the phase or not, row of the table, further arrays."""
    spans = recording.array("tokens/index/phase").attrs["phases"]
    index = [f"tokens/index/{name}" for name in ("trial", "position", "phase")]
    for trial, position, span, *values in recording.stream(*index, *names):
        own = {"trial": trial, "position": position, "phase": span, "spans": spans}
        yield phase_tokens(recording.trials, own, phase), trial, *values


def _place(recording: Recording, node: str, name: str, value: str) -> int:
    return _number(recording.array(f"{node}/{name}")[:], value, recording)


def _number(labels: Sequence[object], value: str, recording: Recording) -> int:
    known = [str(label) for label in labels]
    check_choice(value, known, "phase", f"the recording {recording.path.name}", EvidenceError)
    return known.index(value)


def _layers(recording: Recording, node: str) -> tuple[int, ...]:
    return tuple(int(layer) for layer in recording.array(f"{node}/layer")[:])
