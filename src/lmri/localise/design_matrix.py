"""Design matrices of tokens and of trials, by nilearn.

A token is a frame of one unit of time: an event at ``onset`` 10 with ``duration`` 5 is 1 in the
rows of positions 10 to 14. There is no haemodynamic response and no drift; with delays a condition
has a column for every delay in tokens (finite impulse response), which tells how long after an
event units answer. nilearn knows one run; trials are laid out with gaps longer than the longest
delay, so that no event reaches into the next trial.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from lmri.checks import quoted
from lmri.errors import EvidenceError
from lmri.stimuli.confounds import TokenConfounds, trial_lengths
from lmri.store import Recording

TOGETHER = 64
"""Trials that nilearn lays out in one run: a call has a fixed cost."""

DECIMALS = 9
"""nilearn interpolates, which leaves rounding errors where a regressor is 0 or 1."""

CONSTANT = "constant"


class TokenDesign:
    """Design matrix of tokens, made for the rows that are asked for.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each trial.
    events : DataFrame
        ``trial`` (position in ``lengths``), ``onset`` and ``duration`` (tokens), ``trial_type``
        (the condition) and optionally ``modulation`` (height, by default 1). An event that is
        longer than its trial ends with it.
    delays : sequence of int, optional
        Delays in tokens; columns are then ``<condition>_delay_<delay>``.
    constant : bool, default True
        Whether there is a column of ones, ``constant``; leave it out where the conditions cover all
        tokens.

    Attributes
    ----------
    columns : tuple of str
        Conditions (or their delays) in alphabetical order, then ``constant``.

    Raises
    ------
    EvidenceError
        If an event is not within its trial.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        events: pd.DataFrame,
        *,
        delays: Sequence[int] | None = None,
        constant: bool = True,
    ) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._delays = None if delays is None else [int(delay) for delay in delays]
        _check_events(events, self._lengths)
        self._events = events.sort_values(["trial", "onset"], kind="stable", ignore_index=True)
        names = sorted(events["trial_type"].unique())
        if self._delays is not None:
            names = [f"{name}_delay_{delay}" for name in names for delay in self._delays]
        self.columns = (*names, CONSTANT) if constant else tuple(names)

    def rows(self, trial: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Rows of tokens, in any order.

        Parameters
        ----------
        trial : ndarray of shape (n_tokens,), int
            Trial of each token.
        position : ndarray of shape (n_tokens,), int
            Its position in the trial.

        Returns
        -------
        ndarray of shape (n_tokens, n_columns), float64
            Rows of the design matrix.
        """
        made = np.empty((len(trial), len(self.columns)))
        trials = np.unique(trial)
        for start in range(0, len(trials), TOGETHER):
            chosen = trials[start : start + TOGETHER]
            inside = np.isin(trial, chosen)
            starts, matrix = self._run(chosen)
            at = starts[np.searchsorted(chosen, trial[inside])] + position[inside]
            made[inside] = matrix[at]
        return made

    def _run(self, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First row of each trial in a run of them, and the matrix of the run."""
        gap = 1 + max(self._delays or [0])
        starts = 1 + np.concatenate([[0], np.cumsum(self._lengths[trials] + gap)])
        events = self._events[self._events["trial"].isin(trials)].copy()
        order = np.searchsorted(trials, events["trial"])
        longest = self._lengths[events["trial"]] - events["onset"]
        events["duration"] = np.minimum(events["duration"], longest)
        # Half a token early: nilearn's grid may miss a whole number by rounding.
        events["onset"] += starts[order] - 0.5
        table = _first_level(starts[-1], events.drop(columns="trial"), self._delays)
        table = table.reindex(columns=list(self.columns), fill_value=0.0)
        return starts[:-1], table.to_numpy()


def token_blocks(
    recording: Recording, array: str, design: TokenDesign, frequency: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stream the rows of a design and of the units of a recording, for least squares.

    Parameters
    ----------
    recording : Recording
        The recording.
    array : str
        The units, for example ``tokens/neuron/activation``; dimensions after the first are joined.
    design : TokenDesign
        Its design.
    frequency : ndarray of shape (n_vocabulary,), float64, optional
        Log frequencies of the task's tokens; then the confounds of
        :data:`lmri.stimuli.confounds.CONFOUNDS` follow the columns of the design.

    Yields
    ------
    X : ndarray of shape (n_rows, n_columns), float64
        Rows of the design matrix.
    Y : ndarray of shape (n_rows, n_units)
        The same rows of the units.
    """
    names = ["trial", "position"] if frequency is None else TokenConfounds.NEEDED
    confounds = None if frequency is None else TokenConfounds(trial_lengths(recording), frequency)
    for values, *index in recording.stream(array, *(f"tokens/index/{name}" for name in names)):
        X = design.rows(index[0], index[1])
        if confounds is not None:
            X = np.concatenate([X, confounds.rows(*index)], axis=1)
        yield X, values.reshape(len(values), -1)


def trial_design(conditions: Iterable[str], confounds: pd.DataFrame | None = None) -> pd.DataFrame:
    """Design matrix with one row for each trial.

    Conditions cover all trials, so there is no column of ones: a coefficient is the level of its
    condition, and a contrast of conditions has weights that sum to 0.

    Parameters
    ----------
    conditions : iterable of str
        Condition of each trial.
    confounds : DataFrame, optional
        Columns of numbers, one row for each trial.

    Returns
    -------
    DataFrame
        float64; conditions in alphabetical order, then the confounds.

    Raises
    ------
    EvidenceError
        If a confound is missing for a trial, or is named as a condition.
    """
    names = list(conditions)
    onset = np.arange(len(names)) + 0.5
    events = pd.DataFrame({"onset": onset, "duration": 1, "trial_type": names})
    table = _first_level(len(names) + 2, events, None).iloc[1:-1]
    table = table.drop(columns=CONSTANT).reset_index(drop=True)
    if confounds is None:
        return table
    missing = [name for name in confounds if not np.isfinite(confounds[name]).all()]
    if missing or len(confounds) != len(names):
        raise EvidenceError(
            f"Confounds must have a finite value for each of the {len(names)} trials. Got "
            f"{len(confounds)} trials, and columns with gaps: {quoted(missing) or 'none'}."
        )
    twice = set(table) & set(confounds)
    if twice:
        raise EvidenceError(f"A confound must not be named as a condition. Got {quoted(twice)}.")
    return table.join(confounds.astype(np.float64).reset_index(drop=True))


def _first_level(frames: int, events: pd.DataFrame, delays: list[int] | None) -> pd.DataFrame:
    # Imported here: it takes seconds, and few commands need it.
    from nilearn.glm.first_level import make_first_level_design_matrix

    # It tells on the terminal that it reads modulations.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # A run of a few trials may lack contrast between columns; all rows are judged by the fit.
        warnings.filterwarnings("ignore", message="Matrix is singular")
        warnings.filterwarnings("ignore", message="divide by zero", category=RuntimeWarning)
        table = make_first_level_design_matrix(
            np.arange(frames),
            events if len(events) else None,
            hrf_model=None if delays is None else "fir",
            fir_delays=delays,
            drift_model=None,
            min_onset=0,
            oversampling=1,
        )
    return table.astype(np.float64).round(DECIMALS)


def _check_events(events: pd.DataFrame, lengths: np.ndarray) -> None:
    needed = ("trial", "onset", "duration", "trial_type")
    missing = [name for name in needed if name not in events]
    if missing:
        raise EvidenceError(
            f"Events must have the columns {quoted(needed)}. {quoted(missing)} is missing."
        )
    known = events["trial"].isin(range(len(lengths)))
    length = np.where(known, lengths[events["trial"].where(known, 0).astype(int)], 0)
    inside = known & (events["onset"] >= 0) & (events["onset"] < length) & (events["duration"] >= 1)
    whole = (events[["onset", "duration"]] % 1 == 0).all(axis=1)
    bad = events[~(inside & whole)]
    if len(bad):
        first = bad.iloc[0]
        raise EvidenceError(
            "An event must start at a token of its trial and last at least 1 token, in whole "
            f"tokens. Got onset {first['onset']} and duration {first['duration']} in trial "
            f"{first['trial']} ('{first['trial_type']}')."
        )
