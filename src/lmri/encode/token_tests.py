"""Tests of bands of tokens: trials exchange what they say, token by token.

Tokens of a trial are not independent, and trials share carriers. So whole trials change places, by
the rule of :mod:`lmri.encode.significance`: the first token of a trial gets the band of the first
token of another, the second that of the second, and only trials of as many tokens in the phase do.
A sequence keeps its order and its autocorrelation, and what was read before a token comes with it:
``previous`` never has a token of another trial than ``identity`` has. A band that is the same in
all tokens of a trial changes places as it does among trials.

Of the tokens of a phase their numbers and nuisance are held, some 100 bytes each; features and
activity are streamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lmri.anatomy import phase_tokens
from lmri.encode.activity import BLOCK_BYTES, Units
from lmri.encode.analysis import Design, testable
from lmri.encode.moments import Moments
from lmri.encode.scores import plain_r2
from lmri.encode.significance import Exchange, exchanges, group_means, slopes_of
from lmri.encode.tokens import Delayed, TokenDesign, token_activity
from lmri.stimuli.confounds import TokenConfounds, trial_lengths
from lmri.store import Recording

SEQUENTIAL = ("identity", "previous")
"""Bands that differ between the tokens of a trial."""

AT_ONCE = 4096
"""Tokens whose features are held together where nothing is streamed."""


@dataclass(frozen=True)
class Sequences:
    """Tokens of a phase, trial by trial, in the order of the recordings.

    Attributes
    ----------
    row : ndarray of shape (n_tokens,), int64
        Trial of each token, its place among those of the folds.
    ids : ndarray of shape (n_tokens, 1 + n_delays), int32
        The token, and those before it; -1 where its trial has none.
    nuisance : ndarray of shape (n_tokens, n_confounds), float64
        See :mod:`lmri.stimuli.confounds`.
    table : ndarray of shape (n_trials,), int64
        Place of each trial in the table of all shards.
    """

    row: np.ndarray
    ids: np.ndarray
    nuisance: np.ndarray
    table: np.ndarray

    @cached_property
    def count(self) -> np.ndarray:
        """Tokens of each trial: array of shape (n_trials,), int64."""
        return np.bincount(self.row, minlength=len(self.table))

    @cached_property
    def start(self) -> np.ndarray:
        """Place of the first token of each trial: array of shape (n_trials,), int64."""
        found = np.zeros(len(self.table), dtype=np.int64)
        rows, first = np.unique(self.row, return_index=True)
        found[rows] = first
        return found

    @cached_property
    def place(self) -> np.ndarray:
        """Place of each token in the phase of its trial: array of shape (n_tokens,), int64."""
        return np.arange(len(self.row)) - self.start[self.row]


def read_sequences(
    recordings: Sequence[Recording],
    design: TokenDesign,
    rows_of: Sequence[np.ndarray],
    phase: str,
) -> Sequences:
    """Read what the tests hold of the tokens of a phase.

    Parameters
    ----------
    recordings, design, rows_of, phase
        As for :func:`lmri.encode.tokens.token_moments`.

    Returns
    -------
    Sequences
        Their tokens.
    """
    trials = 1 + max(int(own.max(initial=-1)) for own in rows_of)
    table = np.zeros(trials, dtype=np.int64)
    parts: list[tuple[np.ndarray, ...]] = []
    first = 0
    for recording, row_of in zip(recordings, rows_of, strict=True):
        table[row_of[row_of >= 0]] = first + np.flatnonzero(row_of >= 0)
        first += len(row_of)
        parts += _read(recording, design, row_of, phase)
    row, ids, nuisance = (np.concatenate(own) for own in zip(*parts, strict=True))
    return Sequences(row, ids, nuisance, table)


def _read(
    recording: Recording, design: TokenDesign, row_of: np.ndarray, phase: str
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield trial, tokens and nuisance of the tokens of a phase, block by block."""
    confounds = TokenConfounds(trial_lengths(recording), design.frequency)
    # Earlier tokens by the reader of their embeddings: of one column, their number and 1.
    numbers = np.arange(1, len(design.embeddings) + 1, dtype=np.float64)[:, None]
    delayed = Delayed(numbers, design.delays)
    spans = recording.array("tokens/index/phase").attrs["phases"]
    names = (*TokenConfounds.NEEDED, "phase")
    for trial, position, token_id, logp, span in recording.stream(
        *(f"tokens/index/{name}" for name in names)
    ):
        nuisance = confounds.rows(trial, position, token_id, logp)
        before = delayed.rows(trial, position, token_id) - 1
        index = {"trial": trial, "position": position, "phase": span, "spans": spans}
        kept = phase_tokens(recording.trials, index, phase) & (row_of[trial] >= 0)
        ids = np.column_stack([token_id, before]).astype(np.int32)
        yield row_of[trial[kept]], ids[kept], nuisance[kept]


@dataclass(frozen=True)
class TokenTests:
    """Draws of bands of tokens.

    Attributes
    ----------
    recordings : tuple of Recording
        Shards of the task.
    rows_of : tuple of ndarray of int64
        For every row of a shard its trial among those of the folds; -1 for others.
    phase : str
        The phase.
    made : TokenDesign
        What features are.
    kept : ndarray of shape (n_features,), bool
        Which of them vary.
    sequences : Sequences
        Tokens of the phase.
    exchange : dict of str to Exchange
        How trials change places, by tested band.
    left_out : dict of str to str
        Why others are not tested.
    """

    recordings: tuple[Recording, ...]
    rows_of: tuple[np.ndarray, ...]
    phase: str
    made: TokenDesign
    kept: np.ndarray
    sequences: Sequences
    exchange: dict[str, Exchange]
    left_out: dict[str, str]

    def null_scores(
        self,
        units: Units,
        layer: int,
        moments: Moments,
        design: Design,
        name: str,
    ) -> np.ndarray:
        """Score all bands together, one of which has changed places.

        Parameters
        ----------
        units : Units
            The units.
        layer : int
            Place of their layer.
        moments : Moments
            Sums of the tokens.
        design : Design
            Bands and folds.
        name : str
            The tested band.

        Returns
        -------
        ndarray of shape (draws, n_units), float64
            Held-out R².
        """
        orders, columns = self.exchange[name].orders, design.tested[name]
        mean, slopes = self._following(name, design)
        held = moments.cells * moments.features * (moments.features + moments.units) * 8
        step = max(1, BLOCK_BYTES // held)
        found = np.empty((len(orders), moments.units))
        for start in range(0, len(orders), step):
            batch = orders[start : start + step]
            drawn = [_without(moments, columns) for _ in batch]
            for X, Y, cell, tokens in self._stream(units, layer, design, moments):
                for own, order in zip(drawn, batch, strict=True):
                    source = self._source(name, design, tokens, order)
                    band = self._rows(name, design, source) - moments.about[0][columns]
                    band += (mean[tokens] - mean[source]) @ slopes
                    _add(own, columns, X, band, Y, cell)
            for place, own in enumerate(drawn, start):
                found[place] = plain_r2(own, design.folds, design.search.alphas)
        return found

    def _following(self, name: str, design: Design) -> tuple[np.ndarray, np.ndarray]:
        """How the band follows nuisance: see :func:`lmri.encode.significance.following`."""
        sequences, group = self.sequences, self.exchange[name].group[self.sequences.row]
        if _sequential(name, design):
            # Tokens of one place in trials that say the same.
            group = group * (int(sequences.count.max()) + 1) + sequences.place
        mean, groups = group_means(sequences.nuisance, group)
        about, n = mean - mean.mean(axis=0), len(mean)
        across = np.zeros((about.shape[1], len(design.tested[name])))
        for start in range(0, n, AT_ONCE):
            own = np.arange(start, min(start + AT_ONCE, n))
            across += about[own].T @ self._rows(name, design, own)
        return mean, slopes_of(about, across, groups)

    def _source(
        self, name: str, design: Design, tokens: np.ndarray, order: np.ndarray
    ) -> np.ndarray:
        """Token whose band each token gets."""
        sequences = self.sequences
        start = sequences.start[order[sequences.row[tokens]]]
        return start + sequences.place[tokens] if _sequential(name, design) else start

    def _rows(self, name: str, design: Design, tokens: np.ndarray) -> np.ndarray:
        """Band of some tokens of the phase: array of shape (n_tokens, n_columns)."""
        names, slices = _bands(name, design), self.made.layout.slices
        kept = np.concatenate([self.kept[slices[own]] for own in names])
        return np.concatenate([self._band(own, tokens) for own in names], axis=1)[:, kept]

    def _band(self, name: str, tokens: np.ndarray) -> np.ndarray:
        made, ids = self.made, self.sequences.ids[tokens]
        if name == "identity":
            return made.embeddings[ids[:, 0]]
        if name == "previous":
            before = ids[:, 1:]
            found = np.where((before >= 0)[:, :, None], made.embeddings[before], 0.0)
            return found.reshape(len(tokens), -1)
        return made.columns[name][self.sequences.table[self.sequences.row[tokens]]]

    def _stream(
        self, units: Units, layer: int, design: Design, moments: Moments
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield features and activity of tokens about their means, cells, and their places."""
        first = seen = 0
        about_x, about_y = moments.about
        for recording, row_of in zip(self.recordings, self.rows_of, strict=True):
            for X, index, rows in self.made.blocks(recording, first):
                inside = phase_tokens(recording.trials, index, self.phase)
                inside = inside & (row_of[index["trial"]] >= 0)
                tokens = np.arange(seen, seen + int(inside.sum()))
                seen += len(tokens)
                if len(tokens):
                    Y = token_activity(recording, units, layer, rows)[inside] - about_y
                    cell = design.folds.cell[self.sequences.row[tokens]]
                    yield X[inside][:, self.kept] - about_x, Y, cell, tokens
            first += len(recording.trials)


def token_tests(
    recordings: Sequence[Recording],
    rows_of: Sequence[np.ndarray],
    phase: str,
    made: TokenDesign,
    kept: np.ndarray,
    design: Design,
    moments: Moments,
    carriers: pd.DataFrame,
    draws: int,
    seed: int,
) -> TokenTests:
    """Draw how the bands of tokens change places.

    Parameters
    ----------
    recordings, rows_of, phase, made
        As for :func:`lmri.encode.tokens.token_moments`.
    kept : ndarray of shape (n_features,), bool
        Features that vary, see :func:`lmri.encode.tokens.moving`.
    design : Design
        Bands of these, and folds.
    moments : Moments
        Their sums, of any layer.
    carriers : DataFrame
        Carriers of the trials of the folds, one column each.
    draws, seed : int
        Number of draws, and their seed.

    Returns
    -------
    TokenTests
        Bands that no trial can exchange with another of as many tokens are not among them.
    """
    sequences = read_sequences(recordings, made, rows_of, phase)

    def draw(name: str, place: int) -> Exchange:
        values = _trial_values(sequences, made, _bands(name, design))
        alike = sequences.count if _sequential(name, design) else None
        return exchanges(values, carriers, draws, seed + place, alike)

    x = moments.x.sum(axis=0)
    gram = moments.xx.sum(axis=0) - np.outer(x, x) / moments.n.sum()
    exchange, left_out = testable(design, gram, draw) if draws else ({}, {})
    return TokenTests(
        tuple(recordings), tuple(rows_of), phase, made, kept, sequences, exchange, left_out
    )


def _bands(name: str, design: Design) -> tuple[str, ...]:
    """Bands that are tested under a name."""
    interest = design.layout.of_role("interest")
    return (name,) if name in interest else interest


def _sequential(name: str, design: Design) -> bool:
    return any(own in SEQUENTIAL for own in _bands(name, design))


def _trial_values(sequences: Sequences, made: TokenDesign, names: Sequence[str]) -> np.ndarray:
    """What each trial says in some bands, its tokens as one number: (n_trials, n_columns)."""
    parts = [made.columns[name][sequences.table] for name in names if name in made.columns]
    columns = [
        *([0] if "identity" in names else []),
        *(range(1, sequences.ids.shape[1]) if "previous" in names else []),
    ]
    if columns:
        said: dict[bytes, int] = {}
        ids = np.ascontiguousarray(sequences.ids[:, columns])
        ends = sequences.start + sequences.count
        codes = [
            said.setdefault(ids[start:end].tobytes(), len(said))
            for start, end in zip(sequences.start, ends, strict=True)
        ]
        parts.append(np.array(codes, dtype=np.float64)[:, None])
    return np.concatenate(parts, axis=1)


def _without(moments: Moments, columns: np.ndarray) -> Moments:
    """Copy sums, those of a band being 0."""
    made = Moments(moments.cells, moments.features, 0)
    made.units, made.n, made.y, made.yy = moments.units, moments.n, moments.y, moments.yy
    made.about = moments.about
    made.x, made.xx, made.xy = moments.x.copy(), moments.xx.copy(), moments.xy.copy()
    made.x[:, columns] = 0
    made.xy[:, columns] = 0
    made.xx[:, columns] = 0
    made.xx[:, :, columns] = 0
    return made


def _add(
    drawn: Moments,
    columns: np.ndarray,
    X: np.ndarray,
    band: np.ndarray,
    Y: np.ndarray,
    cell: np.ndarray,
) -> None:
    """Add the sums of a band that has changed places."""
    others = np.setdiff1d(np.arange(drawn.features), columns)
    for own in np.unique(cell):
        rows = np.flatnonzero(cell == own)
        moved = band[rows]
        drawn.x[own, columns] += moved.sum(axis=0)
        drawn.xy[own, columns] += moved.T @ Y[rows]
        drawn.xx[own][np.ix_(columns, columns)] += moved.T @ moved
        across = X[rows][:, others].T @ moved
        drawn.xx[own][np.ix_(others, columns)] += across
        drawn.xx[own][np.ix_(columns, others)] += across.T
