"""Encoding of single tokens, streamed: what a token is, and what came before it.

======================  =========  =============================================================
band                    role       columns
======================  =========  =============================================================
``length``, ``position``,          of the trial and the token, see
``frequency``,          nuisance   :mod:`lmri.stimuli.confounds`
``surprisal``
``identity``            interest   input embedding of the token, projected at random
``previous``            interest   the same of the tokens before it, one block for each delay
any column              interest   of the table of trials, as in :mod:`lmri.encode.features`
======================  =========  =============================================================

Delays are those of a finite impulse response and never reach into another trial: where there is no
such token, the columns are 0. Rows are made as the recording is streamed and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.anatomy import phase_tokens
from lmri.encode.activity import Units
from lmri.encode.bands import Layout
from lmri.encode.features import column_band
from lmri.encode.folds import Folds
from lmri.encode.moments import Moments
from lmri.errors import EvidenceError
from lmri.stimuli.confounds import CONFOUNDS, TokenConfounds, trial_lengths
from lmri.store import Recording

ARRAYS = {
    "expert": "tokens/router/expert_id",
    "neuron": "tokens/neuron/activation",
    "shared_neuron": "tokens/shared_neuron/activation",
    "residual": "tokens/residual/residual",
}
"""Kinds of units of which single tokens can be recorded."""

STILL = 1e-9


class Delayed:
    """Embeddings of earlier tokens of the same trial, block by block.

    Parameters
    ----------
    embeddings : ndarray of shape (n_vocabulary, n_columns)
        A row for each token.
    delays : sequence of int
        Delays in tokens, each at least 1.
    """

    def __init__(self, embeddings: np.ndarray, delays: Sequence[int]) -> None:
        self._embeddings, self._delays = embeddings, tuple(delays)
        # What the next block may look back at: trial, position and token.
        self._before = np.zeros((3, 0), dtype=np.int64)

    def rows(self, trial: np.ndarray, position: np.ndarray, token_id: np.ndarray) -> np.ndarray:
        """Make the rows of the next tokens.

        Parameters
        ----------
        trial, position, token_id : ndarray of shape (n_tokens,)
            Arrays of ``tokens/index``; blocks must follow one another.

        Returns
        -------
        ndarray of shape (n_tokens, n_delays * n_columns), float64
            A block of columns for each delay; 0 where the trial has no such token.
        """
        new = np.stack([trial, position, token_id]).astype(np.int64)
        known = np.concatenate([self._before, new], axis=1)
        start = self._before.shape[1]
        width = self._embeddings.shape[1]
        made = np.zeros((len(trial), len(self._delays), width))
        for place, delay in enumerate(self._delays):
            at = np.arange(start, known.shape[1]) - delay
            inside = at >= 0
            inside[inside] = (known[0, at[inside]] == trial[inside]) & (
                known[1, at[inside]] == position[inside] - delay
            )
            made[inside, place] = self._embeddings[known[2, at[inside]]]
        self._before = known[:, max(0, known.shape[1] - max(self._delays, default=0)) :]
        return made.reshape(len(trial), -1)


@dataclass(frozen=True)
class TokenDesign:
    """What rows of tokens are made of.

    Attributes
    ----------
    names : tuple of str
        Bands of interest, see the module.
    embeddings : ndarray of shape (n_vocabulary, n_columns)
        See :func:`lmri.encode.features.projected_embeddings`.
    delays : tuple of int
        Of ``previous``.
    frequency : ndarray of shape (n_vocabulary,)
        Log frequencies of the task.
    columns : mapping of str to ndarray of shape (n_trials, n_columns)
        Columns of the table of trials, of all shards together.
    """

    names: tuple[str, ...]
    embeddings: np.ndarray
    delays: tuple[int, ...]
    frequency: np.ndarray
    columns: Mapping[str, np.ndarray]

    @classmethod
    def of(
        cls,
        table: pd.DataFrame,
        names: Sequence[str],
        embeddings: np.ndarray,
        delays: Sequence[int],
        frequency: np.ndarray,
    ) -> TokenDesign:
        """Make the design of a table of trials, see the attributes."""
        columns = {
            name: column_band(name, table[name]).values
            for name in names
            if name not in {"identity", "previous"}
        }
        return cls(tuple(names), embeddings, tuple(delays), frequency, columns)

    @property
    def layout(self) -> Layout:
        """Its bands."""
        width = self.embeddings.shape[1]
        own = {"identity": width, "previous": width * len(self.delays)}
        sizes = [own.get(name) or self.columns[name].shape[1] for name in self.names]
        roles = ("nuisance",) * len(CONFOUNDS) + ("interest",) * len(self.names)
        return Layout((*CONFOUNDS, *self.names), roles, (*(1 for _ in CONFOUNDS), *sizes))

    def blocks(
        self, recording: Recording, first: int, *arrays: str
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray], slice]]:
        """Stream the rows of a recording.

        Parameters
        ----------
        recording : Recording
            A shard.
        first : int
            Place of its first trial in the table of all shards.

        Yields
        ------
        X : ndarray of shape (n_tokens, n_features)
            Rows of all tokens.
        index : dict of str to ndarray of shape (n_tokens,)
            ``trial`` (row of the shard), ``position``, ``phase`` and ``spans``.
        rows : slice
            Their place among the tokens of the shard.
        """
        confounds = TokenConfounds(trial_lengths(recording), self.frequency)
        delayed = Delayed(self.embeddings, self.delays)
        spans = recording.array("tokens/index/phase").attrs["phases"]
        needed = (*TokenConfounds.NEEDED, "phase")
        start = 0
        for trial, position, token_id, logp, span in recording.stream(
            *(f"tokens/index/{name}" for name in needed)
        ):
            parts = [confounds.rows(trial, position, token_id, logp)]
            for name in self.names:
                if name == "identity":
                    parts.append(self.embeddings[token_id])
                elif name == "previous":
                    parts.append(delayed.rows(trial, position, token_id))
                else:
                    parts.append(self.columns[name][first + trial])
            index = {"trial": trial, "position": position, "phase": span, "spans": spans}
            yield np.concatenate(parts, axis=1), index, slice(start, start + len(trial))
            start += len(trial)


def token_moments(
    recordings: Sequence[Recording],
    design: TokenDesign,
    folds: Folds,
    rows_of: Sequence[np.ndarray],
    units: Units,
    layer: int,
    phase: str,
) -> Moments:
    """Sum the tokens of a phase in one layer.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task.
    design : TokenDesign
        What the features are.
    folds : Folds
        Of the trials.
    rows_of : sequence of ndarray of int
        For every row of a shard its trial among those of the folds; -1 for others.
    units : Units
        The units.
    layer : int
        Place of the layer.
    phase : str
        The phase.

    Returns
    -------
    Moments
        Of all features; see :func:`without_still`.

    Raises
    ------
    EvidenceError
        If single tokens were not recorded.
    """
    sums = Moments(len(folds.apart), sum(design.layout.sizes), units.per_layer)
    first = 0
    for recording, row_of in zip(recordings, rows_of, strict=True):
        for X, index, rows in design.blocks(recording, first):
            inside = phase_tokens(recording.trials, index, phase)
            inside = inside & (row_of[index["trial"]] >= 0)
            if inside.any():
                Y = token_activity(recording, units, layer, rows)
                cell = folds.cell[row_of[index["trial"][inside]]]
                sums.add(X[inside], Y[inside], cell)
        first += len(recording.trials)
    if not sums.n.sum():
        raise EvidenceError(
            f"The encoding of tokens must be of recorded trials with tokens in '{phase}'. Got none."
        )
    return sums


def moving(moments: Moments) -> np.ndarray:
    """Tell which features vary at all: array of shape (n_features,), bool."""
    n, x = moments.n.sum(), moments.x.sum(axis=0)
    squares = np.diagonal(moments.xx, axis1=1, axis2=2).sum(axis=0)
    return squares - x**2 / n > STILL * np.maximum(1, squares)


def without_still(moments: Moments, layout: Layout) -> tuple[Moments, Layout]:
    """Leave out features that do not vary, and bands of such features.

    Parameters
    ----------
    moments : Moments
        Sums of all features.
    layout : Layout
        Their bands.

    Returns
    -------
    Moments
        Of those that vary.
    Layout
        Their bands, with the reasons of the others.
    """
    n, moves = moments.n.sum(), moving(moments)
    sizes = {name: int(moves[own].sum()) for name, own in layout.slices.items()}
    kept = [name for name in layout.names if sizes[name]]
    roles = dict(zip(layout.names, layout.roles, strict=True))
    reasons = {name: f"no variance in {int(n)} tokens" for name in layout.names if not sizes[name]}
    made = Layout(
        tuple(kept),
        tuple(roles[name] for name in kept),
        tuple(sizes[name] for name in kept),
        layout.left_out | reasons,
    )
    return moments.of(np.flatnonzero(moves)), made


def check_recorded(recordings: Sequence[Recording], kind: str) -> None:
    """Raise unless single tokens of a kind of units were recorded.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task.
    kind : str
        The kind.

    Raises
    ------
    EvidenceError
        Naming the array and what to add to the configuration.
    """
    path = ARRAYS.get(kind)
    if path is None:
        raise EvidenceError(f"Single tokens of '{kind}' are not encoded. Encode trials instead.")
    if not all(own.holds(path) for own in recordings):
        quantity = path.split("/")[1]
        raise EvidenceError(
            f"'{path}' was not recorded: add '{quantity}' to 'record.full', if the subject has "
            "such units."
        )


def token_activity(recording: Recording, units: Units, layer: int, rows: slice) -> np.ndarray:
    """Read the activity of tokens in a layer.

    Parameters
    ----------
    recording : Recording
        A shard.
    units : Units
        The units.
    layer : int
        Place of the layer.
    rows : slice
        Places of the tokens in the shard.

    Returns
    -------
    ndarray of shape (n_tokens, n_units), float64
        Their activity; 1 for an expert that a token chooses.
    """
    array = recording.array(ARRAYS[units.kind])
    if units.kind == "expert":
        chosen = array[rows, layer].astype(np.int64)
        made = np.zeros((len(chosen), units.per_layer))
        np.put_along_axis(made, chosen, 1.0, axis=1)
        return made
    if "place" in array.dims:
        node = ARRAYS[units.kind].rpartition("/")[0]
        places = [str(own) for own in recording.array(f"{node}/place")[:]]
        return array[rows, layer, places.index("after")].astype(np.float64)
    return array[rows, layer].astype(np.float64)
