"""Confounds of token-level and trial-level designs.

Conditions that differ in them differ in activity too: how long the text is, where in it a token
stands, how common the token is and how surprising.

====================  =========================================================================
``length``            tokens of the trial; averaged over a phase, the tokens of the phase
``position``          position in the trial, from 0
``frequency``         log of the token's share of all tokens of the task
``surprisal``         ``-log p`` of the token given those before it, in nat; 0 for the first one
====================  =========================================================================
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lmri.anatomy import phase_tokens
from lmri.errors import EvidenceError
from lmri.store import Recording

CONFOUNDS = ("length", "position", "frequency", "surprisal")


def token_frequency(recordings: Iterable[Recording]) -> np.ndarray:
    """Log of each token's share of all tokens, streamed.

    Parameters
    ----------
    recordings : iterable of Recording
        All shards of a task.

    Returns
    -------
    ndarray of shape (largest token id + 1,), float64
        ``log(n_token / n)``; ``-inf`` for a token that does not occur.

    Raises
    ------
    EvidenceError
        If there is no token.
    """
    counts = np.zeros(0, dtype=np.int64)
    for recording in recordings:
        for (ids,) in recording.stream("tokens/index/token_id"):
            new = np.bincount(ids, minlength=len(counts))
            new[: len(counts)] += counts
            counts = new
    if not counts.any():
        raise EvidenceError("Token frequencies need recordings with tokens. Got none.")
    with np.errstate(divide="ignore"):
        return np.log(counts / counts.sum())


def trial_lengths(recording: Recording) -> np.ndarray:
    """Tokens of each trial of a recording: array of shape (n_trials,), int64."""
    lengths = np.zeros(len(recording.trials), dtype=np.int64)
    for (trial,) in recording.stream("tokens/index/trial"):
        lengths += np.bincount(trial, minlength=len(lengths))
    return lengths


class TokenConfounds:
    """Confounds of tokens, block by block in the order of the recording.

    Parameters
    ----------
    lengths : ndarray of shape (n_trials,), int64
        Tokens of each trial, see :func:`trial_lengths`.
    frequency : ndarray of shape (n_vocabulary,), float64
        Log frequencies, see :func:`token_frequency`.
    """

    NEEDED = ("trial", "position", "token_id", "logp_next")
    """Arrays of ``tokens/index``, in the order of the arguments of :meth:`rows`."""

    def __init__(self, lengths: np.ndarray, frequency: np.ndarray) -> None:
        self._lengths = lengths
        self._frequency = frequency
        self._before = (-1, -1, 0.0)  # trial, position and surprise of what follows

    def rows(
        self,
        trial: np.ndarray,
        position: np.ndarray,
        token_id: np.ndarray,
        logp_next: np.ndarray,
    ) -> np.ndarray:
        """Confounds of the next tokens.

        Parameters
        ----------
        trial, position, token_id, logp_next : ndarray of shape (n_tokens,)
            The arrays of ``tokens/index``; blocks must follow one another, since the surprise of a
            token is stored with the token before it.

        Returns
        -------
        ndarray of shape (n_tokens, 4), float64
            Columns as in :data:`CONFOUNDS`.
        """
        # The token before each, the first of which was in the block before.
        before = [
            np.concatenate([[last], values[:-1]])
            for last, values in zip(self._before, (trial, position, -logp_next), strict=True)
        ]
        follows = (before[0] == trial) & (before[1] == position - 1)
        surprisal = np.where(follows, before[2], 0.0)
        if len(trial):
            self._before = (trial[-1], position[-1], -logp_next[-1])
        length = self._lengths[trial]
        return np.column_stack([length, position, self._frequency[token_id], surprisal])


def trial_confounds(recording: Recording, phase: str, frequency: np.ndarray) -> pd.DataFrame:
    """Average the confounds over the tokens of a phase, streamed.

    Parameters
    ----------
    recording : Recording
        The recording.
    phase : str
        A phase, as for :func:`lmri.anatomy.phase_tokens`.
    frequency : ndarray of shape (n_vocabulary,), float64
        Log frequencies, see :func:`token_frequency`.

    Returns
    -------
    DataFrame
        float64, one row for each row of ``recording.trials``, columns as in :data:`CONFOUNDS`:
        ``length`` is the number of the phase's tokens, the others are means over them, NaN for a
        trial without any.
    """
    trials = len(recording.trials)
    spans = recording.array("tokens/index/phase").attrs["phases"]
    names = [f"tokens/index/{name}" for name in (*TokenConfounds.NEEDED, "phase")]
    confounds = TokenConfounds(np.zeros(trials), frequency)
    sums = np.zeros((trials, len(CONFOUNDS)))
    for trial, position, token_id, logp_next, span in recording.stream(*names):
        rows = confounds.rows(trial, position, token_id, logp_next)
        index = {"trial": trial, "position": position, "phase": span, "spans": spans}
        inside = phase_tokens(recording.trials, index, phase)
        rows[:, 0] = 1  # counts the tokens
        for column, values in enumerate(rows[inside].T):
            sums[:, column] += np.bincount(trial[inside], values, minlength=trials)
    counts = sums[:, :1]
    means = np.divide(sums[:, 1:], counts, out=np.full((trials, 3), np.nan), where=counts > 0)
    return pd.DataFrame(np.hstack([counts, means]), columns=list(CONFOUNDS))
