"""Change points: between which checkpoints a number jumps, or bends.

Segments of constant level, or of constant slope, that leave the least sum of squares for their
number; the number is the one with the least Bayesian information criterion, in which the place of a
change counts as two parameters (Zhang and Siegmund 2007: 3 ln n for a change of level), since it
was searched for. All divisions are searched, not one after another. Whether there is any change at
all is tested against exchanged checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lmri.checks import check_choice
from lmri.errors import EvidenceError
from lmri.information.dynamics.series import checked, dependent

MODELS = {"level": 1, "slope": 2}
"""Parameters of a segment."""

LEAST = 6
"""Checkpoints that are needed."""

FEW = 15
"""Checkpoints below which a result is flagged ``few_checkpoints``."""

MOST_CHANGES = 5


@dataclass(frozen=True)
class ChangePoints:
    """Where a series changes.

    Attributes
    ----------
    after, until : ndarray of shape (n_changes,), float64
        Steps between which each change lies.
    fitted : ndarray of shape (n_steps,), float64
        The segments.
    jumps : ndarray of shape (n_changes,), float64
        Fitted value right after each change minus that right before it.
    p : float
        Of any change: ``(1 + as large) / (1 + draws)`` for the share of the sum of squares that
        the best single change explains.
    flags : tuple of str
        ``failed_null`` (p above .05: read no change into the series), ``few_checkpoints``,
        ``dependent_steps`` (what the segments leave is autocorrelated, so p is too small and
        changes may be too many).
    """

    after: np.ndarray
    until: np.ndarray
    fitted: np.ndarray
    jumps: np.ndarray
    p: float
    flags: tuple[str, ...]


def change_points(
    steps: Sequence[float],
    values: Sequence[float],
    *,
    model: str = "level",
    most: int = MOST_CHANGES,
    draws: int = 999,
    seed: int = 0,
) -> ChangePoints:
    """Find the change points of a series.

    Parameters
    ----------
    steps : sequence of float
        Steps of the checkpoints, ascending. Slopes are along these: give logarithms where
        checkpoints are spaced by them.
    values : sequence of float
        The number at each.
    model : str
        ``level``: segments are constant. ``slope``: they are lines.
    most : int
        Changes that are looked for at most.
    draws : int
        Exchanges of the checkpoints for the null, of values, or of what one line leaves.
    seed : int
        Of the exchanges.

    Returns
    -------
    ChangePoints
        The changes.

    Raises
    ------
    EvidenceError
        If there are fewer than 6 checkpoints, or a number is not finite.
    """
    check_choice(model, MODELS, "model", "the change points", EvidenceError)
    steps, values = checked(steps, values, LEAST, "Change points")
    position = (steps - steps[0]) / (steps[-1] - steps[0])
    size = MODELS[model] + 1
    changes = _best(_costs(position, values, model), size, most, MODELS[model])
    bounds = [0, *changes, len(values)]
    parts = [slice(*pair) for pair in pairwise(bounds)]
    fitted = np.concatenate([_line(position[own], values[own], model) for own in parts])
    flat = _line(position, values, model)
    observed = _explained(position, values - flat, model, size)
    generator = np.random.default_rng(seed)
    null = [
        _explained(position, generator.permutation(values - flat), model, size)
        for _ in range(draws)
    ]
    p = (1 + sum(value >= observed for value in null)) / (1 + draws)
    flags = (
        ("failed_null", p > 0.05),
        ("few_checkpoints", len(values) < FEW),
        ("dependent_steps", dependent(values - fitted)),
    )
    at = np.array(changes, dtype=np.int64)
    return ChangePoints(
        after=steps[at - 1],
        until=steps[at],
        fitted=fitted,
        jumps=fitted[at] - fitted[at - 1],
        p=float(p),
        flags=tuple(name for name, raised in flags if raised),
    )


def _costs(position: np.ndarray, values: np.ndarray, model: str) -> np.ndarray:
    """Sum of squares that a segment from i to j - 1 leaves: (n + 1, n + 1), from running sums."""
    values = values - values.mean()
    sums = [np.r_[0, np.cumsum(own)] for own in (values, values**2, position, position**2)]
    y, yy, x, xx = (own[None] - own[:, None] for own in sums)
    xy = np.r_[0, np.cumsum(position * values)]
    xy = xy[None] - xy[:, None]
    count = np.arange(len(values) + 1)
    count = np.maximum(count[None] - count[:, None], 1)
    left = yy - y**2 / count
    if model == "slope":
        spread, covariance = xx - x**2 / count, xy - x * y / count
        tiny = np.finfo(float).eps * xx.max()
        left = left - np.divide(
            covariance**2, spread, out=np.zeros_like(spread), where=spread > tiny
        )
    return np.clip(left, 0, None)


def _best(costs: np.ndarray, size: int, most: int, parameters: int) -> list[int]:
    """Starts of the segments after the first, by the Bayesian information criterion."""
    n = len(costs) - 1
    floor = max(np.finfo(float).eps * costs[0, n], np.finfo(float).tiny)  # an exact fit
    total = np.full((n // size + 1, n + 1), np.inf)  # by number of segments and end
    origin = np.zeros(total.shape, dtype=np.int64)
    total[1, size:] = costs[0, size:]
    best, least = [], n * np.log(max(total[1, n], floor) / n) + parameters * np.log(n)
    for segments in range(2, min(most + 1, n // size) + 1):
        for end in range(segments * size, n + 1):
            starts = np.arange((segments - 1) * size, end - size + 1)
            sums = total[segments - 1, starts] + costs[starts, end]
            origin[segments, end] = starts[sums.argmin()]
            total[segments, end] = sums.min()
        free = segments * parameters + 2 * (segments - 1)
        criterion = n * np.log(max(total[segments, n], floor) / n) + free * np.log(n)
        if criterion < least:
            best, least = _traced(origin, segments, n), criterion
    return best


def _traced(origin: np.ndarray, segments: int, end: int) -> list[int]:
    starts = []
    for number in range(segments, 1, -1):
        end = int(origin[number, end])
        starts.append(end)
    return starts[::-1]


def _explained(position: np.ndarray, residuals: np.ndarray, model: str, size: int) -> float:
    """Share of the sum of squares that the best single change explains."""
    costs = _costs(position, residuals, model)
    n = len(residuals)
    starts = np.arange(size, n - size + 1)
    if not len(starts) or not costs[0, n] > 0:
        return 0.0
    return float(1 - (costs[0, starts] + costs[starts, n]).min() / costs[0, n])


def _line(position: np.ndarray, values: np.ndarray, model: str) -> np.ndarray:
    if model == "level":
        return np.full(len(values), values.mean())
    centred = position - position.mean()
    return values.mean() + centred * (centred @ values) / (centred @ centred)
