"""Values by row of experts (how often they are chosen) and of their neurons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lmri.anatomy import phase_tokens
from lmri.localise.units import Units
from lmri.localise.values import Rows
from lmri.store import Recording


@dataclass(frozen=True)
class ExpertRates:
    """Share of a row's tokens that choose an expert, see :class:`lmri.localise.values.Reader`.

    Attributes
    ----------
    units : Units
        The experts.
    rows : Rows
        The rows.
    phase : str
        Whose tokens count.
    """

    units: Units
    rows: Rows
    phase: str

    def read(self, layers: slice, within: slice) -> np.ndarray:
        """Read a block; NaN for a row without a token in the phase."""
        experts = range(*within.indices(self.units.shape[1]))
        chosen_layers = range(*layers.indices(self.units.shape[0]))
        width = len(chosen_layers) * len(experts)
        counts = np.zeros((len(self.rows.labels), len(chosen_layers), len(experts)))
        tokens = np.zeros(len(self.rows.labels))
        for recording, row_of in zip(self.rows.recordings, self.rows.row_of, strict=True):
            for inside, trial, ids in _tokens(recording, self.phase, layers):
                place = row_of[trial]
                inside &= place >= 0
                np.add.at(tokens, place[inside], 1)
                _count(counts, place[inside], ids[inside], experts)
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = counts.reshape(len(counts), width) / tokens[:, None]
        return rates.astype(np.float32)


@dataclass(frozen=True)
class ExpertNeurons:
    """Mean activity of the neurons of experts, see :class:`lmri.localise.values.Reader`.

    Attributes
    ----------
    units : Units
        The neurons (layer, expert, neuron).
    rows : Rows
        The rows.
    phase : str
        Whose tokens count.
    conditional : bool
        Over the tokens routed to the expert (NaN where a row has none); otherwise over all
        tokens of the phase, 0 where the expert is not chosen.
    """

    units: Units
    rows: Rows
    phase: str
    conditional: bool

    def read(self, layers: slice, within: slice) -> np.ndarray:
        """Read a block."""
        chosen_layers = range(*layers.indices(self.units.shape[0]))
        experts = range(*within.indices(self.units.shape[1]))
        shape = (len(self.rows.labels), len(chosen_layers), len(experts))
        total = np.zeros((*shape, self.units.shape[2]), dtype=np.float32)
        routed, tokens = np.zeros(shape), np.zeros(shape[0])
        for recording, row_of in zip(self.rows.recordings, self.rows.row_of, strict=True):
            for inside, trial, _ in _tokens(recording, self.phase, None):
                inside &= row_of[trial] >= 0
                np.add.at(tokens, row_of[trial[inside]], 1)
            full = recording.holds("tokens/expert_neuron/activation")
            add = self._add_tokens if full else self._add_pools
            add(recording, row_of, layers, experts, total, routed)
        count = routed if self.conditional else np.broadcast_to(tokens[:, None, None], shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = total / np.where(count > 0, count, np.nan)[..., None].astype(np.float32)
        return means.reshape(shape[0], -1)

    def _add_tokens(
        self,
        recording: Recording,
        row_of: np.ndarray,
        layers: slice,
        experts: range,
        total: np.ndarray,
        routed: np.ndarray,
    ) -> None:
        array = recording.array("tokens/expert_neuron/activation")
        start = 0
        for inside, trial, ids in _tokens(recording, self.phase, layers):
            rows = slice(start, start + len(inside))
            start += len(inside)
            inside &= row_of[trial] >= 0
            if not inside.any():
                continue
            # (tokens, layers, slot, neuron)
            values = array[rows, layers][inside].astype(np.float32)
            places = row_of[trial[inside]]
            token, layer, slot = np.nonzero(np.isin(ids[inside], experts))
            expert = ids[inside][token, layer, slot].astype(np.int64) - experts.start
            at = (places[token], layer, expert)
            np.add.at(total, at, values[token, layer, slot])
            np.add.at(routed, at, 1)

    def _add_pools(
        self,
        recording: Recording,
        row_of: np.ndarray,
        layers: slice,
        experts: range,
        total: np.ndarray,
        routed: np.ndarray,
    ) -> None:
        node = "pooled/expert_neuron"
        position = {layer: i for i, layer in enumerate(self.units.layers[layers])}
        phases = list(recording.array(f"{node}/phase").attrs["phases"])
        if self.phase not in phases:
            return
        names = [f"{node}/{name}" for name in ("trial", "phase", "layer", "expert", "count", "sum")]
        for trial, phase, layer, expert, count, sums in recording.stream(*names):
            own = (phase == phases.index(self.phase)) & (row_of[trial] >= 0)
            own &= np.isin(layer, list(position)) & np.isin(expert, experts)
            if own.any():
                at = (
                    row_of[trial[own]],
                    np.array([position[i] for i in layer[own]]),
                    expert[own].astype(np.int64) - experts.start,
                )
                np.add.at(total, at, sums[own])
                np.add.at(routed, at, count[own])


def _tokens(
    recording: Recording, phase: str, layers: slice | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Yield blocks of tokens: inside the phase or not, row of the table, chosen experts."""
    spans = recording.array("tokens/index/phase").attrs["phases"]
    names = [f"tokens/index/{name}" for name in ("trial", "position", "phase")]
    chosen = [] if layers is None else ["tokens/router/expert_id"]
    for trial, position, span, *ids in recording.stream(*names, *chosen):
        index = {"trial": trial, "position": position, "phase": span, "spans": spans}
        inside = phase_tokens(recording.trials, index, phase)
        yield inside, trial, ids[0][:, layers] if ids else None


def _count(counts: np.ndarray, places: np.ndarray, ids: np.ndarray, experts: range) -> None:
    """Add the choices of tokens (n, layers, slots) to counts (trials, layers, experts)."""
    token, layer, slot = np.nonzero(np.isin(ids, experts))
    expert = ids[token, layer, slot].astype(np.int64) - experts.start
    np.add.at(counts, (places[token], layer, expert), 1)
