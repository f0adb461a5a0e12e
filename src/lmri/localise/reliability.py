"""Split-half reliability: how alike maps are that share no carrier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmri.localise.activity import UNITS_AT_ONCE, Activity
from lmri.localise.design import Design
from lmri.localise.inference import relabellings
from lmri.localise.labelling import Labelling
from lmri.localise.shams import Best
from lmri.localise.statistics import is_cut
from lmri.localise.units import ROUNDING

SPLITS = 20
"""Random halvings of the carriers."""

TRIES = 10
"""Relabellings drawn for a half, of which the first is taken that leaves it all conditions."""


@dataclass(frozen=True)
class Reliability:
    """Agreement of maps of two halves of the carriers, averaged over random halvings.

    Attributes
    ----------
    correlation : float
        Pearson correlation of the scores over units.
    dice : float
        Dice coefficient of the ``best`` units of both halves.
    chance : float
        The Dice coefficient of maps of the same halves, each relabelled on its own: units that
        vary more than others are among the strongest of any map. NaN where no half could be.
    best : int
        Units compared by the Dice coefficient.
    splits : int
        Halvings.
    """

    correlation: float
    dice: float
    chance: float
    best: int
    splits: int


def split_half(
    activity: Activity, design: Design, best: int, seed: int, splits: int = SPLITS
) -> Reliability | None:
    """Compare maps of halves that share no carrier.

    The values of every carrier are halved within each of their classes; a trial belongs to a half
    if all its carriers do. Trials of mixed carriers are in neither, so that a place or a year that
    a unit responds to cannot make both maps alike.

    Parameters
    ----------
    activity : Activity
        Rows, units and their scores.
    design : Design
        The design.
    best : int
        Units whose overlap is reported, at least 1.
    seed : int
        Seed of the halvings.
    splits : int
        Halvings.

    Returns
    -------
    Reliability or None
        None where a class has a single carrier, which cannot be halved, or a half lacks a
        condition.
    """
    sizes = [np.unique(list(kind.values()), return_counts=True)[1] for kind in design.classes]
    if min(int(size.min()) for size in sizes) < 2:
        return None
    rng = np.random.default_rng([seed, 11])
    labelling = design.encode(activity.labels)
    halvings = [
        np.stack([_halves(activity, design, rng, i) for i in range(len(design.carriers))])
        for _ in range(splits)
    ]
    halves = [(half == side).all(axis=0) for half in halvings for side in (0, 1)]
    own = labelling.own()
    labels = [np.where(half, own, -1) for half in halves]
    used = np.flatnonzero(design.weights)
    if not all(_complete(row, used) for row in labels):
        return None
    labels += _relabelled(labelling, halves, used, rng)
    sides = activity.sides(np.stack(labels), design.weights)
    sums = np.zeros((splits, 6))
    tops = [Best(best) for _ in labels]
    for block in activity.blocks():
        for part in block.parts(UNITS_AT_ONCE):
            scores = part.scores(sides)
            for top, row in zip(tops, scores, strict=True):
                strength = np.abs(row) if activity.two_sided else row
                # Units that do not respond at all are alike for no reason.
                top.add(np.where(strength > ROUNDING, strength, np.nan), part.where.start)
            first, second = scores[: len(halves)].reshape(splits, 2, -1).swapaxes(0, 1)
            sums += _sums(first, second)
    known = _correlation(sums)
    known = known[np.isfinite(known)]
    correlation = float(known.mean()) if known.size else np.nan
    dice, chance = _mean_dice(tops[: len(halves)]), _mean_dice(tops[len(halves) :])
    return Reliability(correlation, dice, chance, best, splits)


def _complete(labels: np.ndarray, used: np.ndarray) -> bool:
    """Whether some rows have all conditions that are compared."""
    return bool(np.isin(used, labels).all())


def _relabelled(
    labelling: Labelling, halves: list[np.ndarray], used: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Pairs of halves whose carriers are exchanged, each half on its own."""
    drawn = relabellings(labelling, TRIES * len(halves), rng).reshape(len(halves), TRIES, -1)
    found = [
        _first_complete(np.where(half, rows, -1), used)
        for half, rows in zip(halves, drawn, strict=True)
    ]
    kept: list[np.ndarray] = []
    for first, second in zip(found[0::2], found[1::2], strict=True):
        if first is not None and second is not None:
            kept += [first, second]
    return kept


def _first_complete(rows: np.ndarray, used: np.ndarray) -> np.ndarray | None:
    return next((row for row in rows if _complete(row, used)), None)


def _mean_dice(tops: list[Best]) -> float:
    """Mean Dice coefficient of the best units of pairs of maps; NaN without any."""
    pairs = list(zip(tops[0::2], tops[1::2], strict=True))
    if not pairs:
        return np.nan
    shared = [2 * len(np.intersect1d(a.positions, b.positions)) for a, b in pairs]
    sizes = [max(1, len(a.positions) + len(b.positions)) for a, b in pairs]
    return float(np.mean(np.divide(shared, sizes)))


def _halves(
    activity: Activity, design: Design, rng: np.random.Generator, position: int
) -> np.ndarray:
    """Half (0 or 1) of every row by one carrier; -1 where the design does not use its value."""
    half_of: dict[str, int] = {}
    kind = design.classes[position]
    for label in sorted(set(kind.values())):
        values = rng.permutation(sorted(value for value, own in kind.items() if own == label))
        # Which half is the larger one is left to chance.
        first = (len(values) + int(rng.integers(2))) // 2
        half_of |= {str(value): int(i >= first) for i, value in enumerate(values)}
    column = activity.labels[f"carrier_{design.carriers[position]}"]
    return column.map(half_of).fillna(-1).to_numpy(dtype=np.int64)


def _sums(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sums over units that a correlation needs, for each halving."""
    # One that is cut would count for more than all others.
    known = np.isfinite(first) & np.isfinite(second) & ~is_cut(first) & ~is_cut(second)
    a, b = np.where(known, first, 0.0), np.where(known, second, 0.0)
    return np.stack(
        [known.sum(1), a.sum(1), b.sum(1), (a * a).sum(1), (b * b).sum(1), (a * b).sum(1)], axis=1
    )


def _correlation(sums: np.ndarray) -> np.ndarray:
    count, a, b, aa, bb, ab = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = ab - a * b / count
        spread = (aa - a * a / count) * (bb - b * b / count)
        return np.where(spread > 0, covariance / np.sqrt(spread), np.nan)
