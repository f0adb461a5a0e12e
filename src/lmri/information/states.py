"""States of a layer as recorded: of trials, pooled, or of every token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmri.anatomy import phase_tokens
from lmri.checks import check_choice, check_columns
from lmri.errors import EvidenceError
from lmri.information.texts import first_repeats, span_names, text_carriers
from lmri.store import Recording

INPUT = -1
"""Name of the state before the first block among the layers."""

QUANTITIES = {
    "residual": "residual/residual",
    "neuron": "neuron/activation",
    "shared_neuron": "shared_neuron/activation",
    "preactivation": "preactivation/preactivation",
}
"""Quantities that give a state to a layer, and their arrays."""

LEVELS = {"trials": "pooled", "tokens": "tokens"}
"""What a row is, and where it is recorded."""

POOLINGS = ("mean", "last")


@dataclass(frozen=True)
class Rows:
    """States of one phase.

    Attributes
    ----------
    phase : int
        Place of the phase among those asked for.
    values : ndarray of shape (n, hidden)
        States; all are finite.
    owners : ndarray of shape (n,), int64
        Number of the trial of each, counted on through the shards.
    """

    phase: int
    values: np.ndarray
    owners: np.ndarray


class States:
    """States of a task in one layer at a time.

    Sampled repeats of a trial are no trials of their own: the first of each is read.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with the quantity.
    level : str
        ``trials``: one state for each trial and phase, pooled. ``tokens``: all, where they were
        recorded in full.
    split : str, optional
        Trials; None takes all.
    pooling : str
        ``mean`` or ``last``, of ``trials``.
    quantity : str
        One of :data:`QUANTITIES`.

    Attributes
    ----------
    phases : list of str
        Phases of the recording.
    layers : list of int
        Layers; of the residual stream :data:`INPUT` first.
    hidden : int
        Dimensions, or neurons.
    trials : int
        Trials of the split.
    chosen : ndarray of shape (n_owners,), bool
        Which owners are read, by their number.
    level : str
        As given.

    Raises
    ------
    EvidenceError
        If there is no recording, one lacks the states, or the split has no trial.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        level: str = "trials",
        split: str | None = "selection",
        pooling: str = "mean",
        quantity: str = "residual",
    ) -> None:
        check_choice(quantity, QUANTITIES, "quantity", "the states", EvidenceError)
        check_choice(level, LEVELS, "level", "the states", EvidenceError)
        check_choice(pooling, POOLINGS, "pooling", "the states", EvidenceError)
        self._recordings, self.level, self._pooling = list(recordings), level, pooling
        self._array = f"{LEVELS[level]}/{QUANTITIES[quantity]}"
        self._node = self._array.rpartition("/")[0]
        _check(self._recordings, self._array, quantity)
        self._chosen = [first_repeats(own.trials, split) for own in self._recordings]
        self.chosen = np.concatenate([np.zeros(0, dtype=bool), *self._chosen])
        self.trials = int(self.chosen.sum())
        if not self.trials:
            raise EvidenceError(f"States must be of trials. The split '{split}' has none.")
        first = self._recordings[0]
        self.phases = [str(name) for name in first.attributes["phases"]]
        self._ids = [int(layer) for layer in first.array(f"{self._node}/layer")[:]]
        has_places = first.holds(f"{self._node}/place")
        names = first.array(f"{self._node}/place")[:] if has_places else []
        self._places = [str(place) for place in names]
        self.layers = [INPUT, *self._ids] if has_places else self._ids
        self.hidden = first.array(self._array).shape[-1]

    def labels(self, column: str) -> np.ndarray:
        """Read a column of the table of trials for every owner of a row.

        Parameters
        ----------
        column : str
            Its name.

        Returns
        -------
        ndarray
            To be indexed by :attr:`Rows.owners`.

        Raises
        ------
        EvidenceError
            If the table lacks it.
        """
        for recording in self._recordings:
            check_columns(recording.trials, [column], str(recording.path), EvidenceError)
        return np.concatenate([own.trials[column].to_numpy() for own in self._recordings])

    def carriers(self) -> list[dict[str, str]]:
        """Values of the carriers of every trial; to be indexed by :attr:`Rows.owners`."""
        return [text_carriers(own) for r in self._recordings for _, own in r.trials.iterrows()]

    def rows(self, layer: int, phases: Sequence[int]) -> Iterator[Rows]:
        """Read the states of a layer.

        Parameters
        ----------
        layer : int
            One of :attr:`layers`: the state after it, or before the first.
        phases : sequence of int
            Which of :attr:`phases`.

        Yields
        ------
        Rows
            A chunk of trials, or the tokens of one text, of one phase.
        """
        at: tuple[int, ...] = (0 if layer == INPUT else self._ids.index(layer),)
        if self._places:
            at = (*at, self._places.index("before" if layer == INPUT else "after"))
        start = 0
        for recording, chosen in zip(self._recordings, self._chosen, strict=True):
            if chosen.any():
                read = self._pooled if self.level == "trials" else self._tokens
                yield from read(recording, chosen, start, at, phases)
            start += len(chosen)

    def _pooled(
        self,
        recording: Recording,
        chosen: np.ndarray,
        first: int,
        at: tuple[int, ...],
        phases: Sequence[int],
    ) -> Iterator[Rows]:
        array = recording.array(self._array)
        names = [str(name) for name in recording.array(f"{self._node}/statistic")[:]]
        statistic, step = names.index(self._pooling), array.chunks[0]
        for start in range(0, len(chosen), step):
            own = np.flatnonzero(chosen[start : start + step])
            if len(own):
                values = array[(slice(start, start + step), slice(None), statistic, *at)][own]
                for phase in phases:
                    yield _finite(phase, values[:, phase], first + start + own)

    def _tokens(
        self,
        recording: Recording,
        chosen: np.ndarray,
        first: int,
        at: tuple[int, ...],
        phases: Sequence[int],
    ) -> Iterator[Rows]:
        array = recording.array(self._array)
        index = [recording.array(f"tokens/index/{name}") for name in ("trial", "position", "phase")]
        step = array.chunks[0]
        kept: tuple[np.ndarray, ...] | None = None  # of the text that goes on in the next chunk
        for start in range(0, array.shape[0], step):
            own = slice(start, start + step)
            chunk = (array[(own, *at)], *(part[own].astype(np.int64) for part in index))
            if kept is not None:
                pairs = zip(kept, chunk, strict=True)
                chunk = tuple(np.concatenate(pair) for pair in pairs)
            ends = np.flatnonzero(np.diff(chunk[1])) + 1
            texts = list(zip(*(np.split(part, ends) for part in chunk), strict=True))
            kept = texts.pop()
            for text in [*texts, *([kept] if start + step >= array.shape[0] else [])]:
                if chosen[text[1][0]]:
                    yield from self._of_text(recording, text, first, phases)

    def _of_text(
        self,
        recording: Recording,
        text: tuple[np.ndarray, ...],
        first: int,
        phases: Sequence[int],
    ) -> Iterator[Rows]:
        values, trial, position, span = text
        index = {"trial": trial, "position": position, "phase": span}
        index["spans"] = span_names([recording])
        for phase in phases:
            inside = phase_tokens(recording.trials, index, self.phases[phase])
            yield _finite(phase, values[inside], first + trial[inside])


class Sample:
    """A uniform sample of rows that come in chunks; the same however they are cut.

    Parameters
    ----------
    most : int
        Rows that are kept.
    seed : int
        Of the draw.
    """

    def __init__(self, most: int, seed: int = 0) -> None:
        self._most, self._generator = most, np.random.default_rng(seed)
        self._keys = np.empty(0)
        self.rows: np.ndarray | None = None
        self.owners = np.empty(0, dtype=np.int64)

    def add(self, rows: np.ndarray, owners: np.ndarray) -> None:
        """Offer rows, array of shape (n, d), with what they belong to, (n,)."""
        keys = self._generator.random(len(rows))
        if len(self._keys) == self._most:
            better = keys < self._keys.max()
            rows, owners, keys = rows[better], owners[better], keys[better]
        kept = rows[:0] if self.rows is None else self.rows
        rows, owners = np.concatenate([kept, rows]), np.concatenate([self.owners, owners])
        keys = np.concatenate([self._keys, keys])
        best = np.sort(np.argsort(keys, kind="stable")[: self._most])
        self.rows, self.owners, self._keys = rows[best], owners[best], keys[best]


def _finite(phase: int, values: np.ndarray, owners: np.ndarray) -> Rows:
    finite = np.isfinite(values).all(axis=1)
    return Rows(phase, values[finite], owners[finite])


def _check(recordings: Sequence[Recording], name: str, quantity: str) -> None:
    if not recordings:
        raise EvidenceError("There must be at least one recording to read. Got none.")
    for recording in recordings:
        if not recording.holds(name):
            keys = "'record.quantities'"
            keys += " and 'record.full'" if name.startswith("tokens") else ""
            raise EvidenceError(
                f"{recording.path}: the recording must hold '{name}'. It does not: add "
                f"'{quantity.removeprefix('shared_')}' to {keys} of the configuration and record "
                "again."
            )
