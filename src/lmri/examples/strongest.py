"""The trials in which each unit is most active, kept while all of them pass by."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, field

import numpy as np

from lmri.examples.reading import Trial


@dataclass(frozen=True, order=True)
class Example:
    """A trial in which a unit is active; compared by strength, the first of equals ahead.

    Attributes
    ----------
    strength : float
        How far from zero the unit is, at most, on this side of it.
    earlier : int
        Minus the number of trials before it, over all tasks.
    task, shard, row : str, int, int
        Where it stands: task, place of the recording among those of the task, row of its table.
    position : int
        Token of the largest activity.
    start : int
        First token that is kept.
    length : int
        Tokens of the whole trial.
    ids, spans : ndarray of shape (n_kept,)
        Tokens around it and codes of their spans.
    activity : ndarray of shape (n_kept,), float32
        Of the unit at these tokens.
    """

    strength: float
    earlier: int
    task: str = field(compare=False)
    shard: int = field(compare=False)
    row: int = field(compare=False)
    position: int = field(compare=False)
    start: int = field(compare=False)
    length: int = field(compare=False)
    ids: np.ndarray = field(compare=False, repr=False)
    spans: np.ndarray = field(compare=False, repr=False)
    activity: np.ndarray = field(compare=False, repr=False)

    @property
    def context(self) -> np.ndarray:
        """Kept tokens up to the one of the largest activity: array of shape (n,), int32."""
        return self.ids[: self.position - self.start + 1]


class Strongest:
    """Keeps, of each unit, the trials in which it is farthest above zero and farthest below.

    What a causal model does at a token follows from the tokens up to there, and what an encoder
    does from all of them. Trials that are the same so far are one observation, however often they
    come, and the first of them is kept.

    Parameters
    ----------
    units : int
        Number of units.
    most : int
        Trials of each, on either side of zero.
    window : int
        Tokens before and after that of the largest activity that are kept.
    causal : bool
        Whether what comes after a token cannot matter to it.

    Attributes
    ----------
    tokens : int
        Tokens so far.
    active : ndarray of shape (n_units,), int64
        Tokens at which the activity is not 0.
    total : ndarray of shape (n_units,), float64
        Sum of the activity.
    """

    def __init__(self, units: int, most: int, window: int, *, causal: bool = True) -> None:
        self._sides = [_Side(sign, units, most, window, causal) for sign in (1, -1)]
        self._passed = 0
        self.tokens = 0
        self.active = np.zeros(units, dtype=np.int64)
        self.total = np.zeros(units)

    def add(self, trial: Trial, task: str, shard: int) -> None:
        """Look at one more trial.

        Parameters
        ----------
        trial : Trial
            With the activity of all units.
        task : str
            Its task.
        shard : int
            Place of its recording among those of the task.
        """
        self.tokens += len(trial.ids)
        self.active += (trial.activity != 0).sum(axis=0)
        self.total += trial.activity.sum(axis=0, dtype=np.float64)
        for side in self._sides:
            side.add(trial, task, shard, self._passed)
        self._passed += 1

    def examples(self, unit: int) -> list[list[Example]]:
        """Trials that were kept of a unit.

        Parameters
        ----------
        unit : int
            Its place.

        Returns
        -------
        list of list of Example
            Those above zero and those below, the strongest first; a side without any is left out.
        """
        sides = [side.examples(unit) for side in self._sides]
        return [side for side in sides if side]


class _Side:
    """The strongest trials of each unit on one side of zero."""

    def __init__(self, sign: int, units: int, most: int, window: int, causal: bool) -> None:
        self._sign, self._most, self._window, self._causal = sign, most, window, causal
        self._kept: list[list[tuple[Example, bytes]]] = [[] for _ in range(units)]
        self._known: list[set[bytes]] = [set() for _ in range(units)]
        self._floor = np.zeros(units)

    def add(self, trial: Trial, task: str, shard: int, passed: int) -> None:
        strength = self._sign * trial.activity
        peaks = strength.argmax(axis=0)
        largest = np.take_along_axis(strength, peaks[None], axis=0)[0]
        for unit in np.flatnonzero(largest > self._floor).tolist():
            peak = int(peaks[unit])
            seen = trial.ids[: peak + 1] if self._causal else trial.ids
            known = hashlib.blake2b(seen.tobytes(), digest_size=16).digest()
            if known not in self._known[unit]:
                own = slice(max(0, peak - self._window), peak + self._window + 1)
                example = Example(
                    float(largest[unit]),
                    -passed,
                    task,
                    shard,
                    trial.row,
                    peak,
                    own.start,
                    len(trial.ids),
                    trial.ids[own].copy(),
                    trial.spans[own].copy(),
                    trial.activity[own, unit].copy(),
                )
                self._keep(unit, example, known)

    def examples(self, unit: int) -> list[Example]:
        return [example for example, _ in sorted(self._kept[unit], reverse=True)]

    def _keep(self, unit: int, example: Example, known: bytes) -> None:
        kept = self._kept[unit]
        heapq.heappush(kept, (example, known))
        self._known[unit].add(known)
        if len(kept) > self._most:
            self._known[unit].discard(heapq.heappop(kept)[1])
        if len(kept) == self._most:
            self._floor[unit] = kept[0][0].strength
