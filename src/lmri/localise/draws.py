"""Control draws: other units for the same intervention, fixed with the finding.

The sham map decides: the complete selection re-run on random splits of carriers that do not carry
the condition. Layer-matched and load-matched draws are shown beside it; in simulation with damage
proportional to load they "confirm" far too often (design, rule 5). Of dimensions of the residual
there are draws matched on how massive they get, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lmri.intervene import Unit
from lmri.localise.units import Units

NEAREST = 8
"""Units nearest in load from which a load-matched unit is drawn."""

TRIES = 50
"""Attempts per draw before the sets are taken to be exhausted."""


def matched_draws(
    known: Units,
    load: np.ndarray,
    ranked: Sequence[Unit],
    doses: Sequence[int],
    draws: int,
    seed: int,
) -> dict[str, dict[str, list[list[Unit]]]]:
    """Layer-matched and load-matched draws at every dose.

    Parameters
    ----------
    known : Units
        All units of the kind.
    load : ndarray of the shape of the units
        How active each unit is.
    ranked : sequence of tuple of int
        The finding's units, from the best.
    doses : sequence of int
        Numbers of them.
    draws, seed
        As for the draws of each.

    Returns
    -------
    dict of str to dict of str to list of list of tuple of int
        Sets by kind of control and dose.
    """
    by_layer, by_load = {}, {}
    for dose in doses:
        own = list(ranked[:dose])
        by_layer[str(dose)] = layer_matched(own, known, draws, seed)
        by_load[str(dose)] = load_matched(own, load, known, draws, seed)
    return {"layer_matched": by_layer, "load_matched": by_load}


def layer_matched(units: list[Unit], known: Units, draws: int, seed: int) -> list[list[Unit]]:
    """Distinct random sets with as many units per layer, without the finding's own.

    Parameters
    ----------
    units : list of tuple of int
        The finding's units.
    known : Units
        All units of the kind.
    draws : int
        Sets asked for; all of them when fewer exist.
    seed : int
        Seed of the draws.

    Returns
    -------
    list of list of tuple of int
        The sets; none where a layer has too few other units.
    """
    rng = np.random.default_rng([seed, 6, len(units)])
    own = known.positions(units)
    counts = np.bincount(own // known.per_layer, minlength=len(known.layers))
    starts = [layer * known.per_layer for layer in range(len(known.layers))]
    free = [np.setdiff1d(np.arange(s, s + known.per_layer), own) for s in starts]
    if any(len(left) < count for left, count in zip(free, counts, strict=True)):
        return []

    def draw() -> list[Unit]:
        picks = [rng.choice(f, size=n, replace=False) for f, n in zip(free, counts, strict=True)]
        return known.named(np.concatenate(picks))

    return _distinct(draw, draws)


def load_matched(
    units: list[Unit], load: np.ndarray, known: Units, draws: int, seed: int
) -> list[list[Unit]]:
    """Distinct random sets of units used about as much, without the finding's own.

    Parameters
    ----------
    units : list of tuple of int
        The finding's units.
    load : ndarray of the shape of the units
        How active each unit is.
    known : Units
        All units of the kind.
    draws : int
        Sets asked for; all of them when fewer exist.
    seed : int
        Seed of the draws.

    Returns
    -------
    list of list of tuple of int
        The sets; the i-th unit is one of those nearest in load to the finding's i-th. None where
        there are too few other units.
    """
    return _matched(units, load, known, draws, np.random.default_rng([seed, 7, len(units)]))


def massive_matched(
    units: list[Unit], ratios: np.ndarray, known: Units, draws: int, seed: int
) -> list[list[Unit]]:
    """Distinct random sets of dimensions that get about as massive, without the finding's own.

    Parameters
    ----------
    units : list of tuple of int
        The finding's units.
    ratios : ndarray of the shape of the units
        See :func:`lmri.localise.massive.massive_ratios`; compared by their logarithms.
    known : Units
        All dimensions.
    draws : int
        Sets asked for; all of them when fewer exist.
    seed : int
        Seed of the draws.

    Returns
    -------
    list of list of tuple of int
        As :func:`load_matched`.
    """
    return _matched(
        units, np.log1p(ratios), known, draws, np.random.default_rng([seed, 11, len(units)])
    )


def _matched(
    units: list[Unit], load: np.ndarray, known: Units, draws: int, rng: np.random.Generator
) -> list[list[Unit]]:
    flat, own = load.reshape(-1), known.positions(units)
    others = np.setdiff1d(np.arange(flat.size), own)
    if len(others) < len(own):
        return []
    near = [_nearest(flat, others, position, NEAREST + len(own)) for position in own]

    def draw() -> list[Unit]:
        chosen: list[int] = []
        for candidates in near:
            left = [position for position in candidates if position not in chosen][:NEAREST]
            chosen.append(int(left[rng.integers(len(left))]))
        return known.named(np.array(chosen))

    return _distinct(draw, draws)


def _nearest(load: np.ndarray, others: np.ndarray, position: int, most: int) -> np.ndarray:
    """Units nearest in load, in order of distance and then of position."""
    distance = np.abs(load[others] - load[position])
    return others[np.argsort(distance, kind="stable")[:most]]


def _distinct(draw: Callable[[], list[Unit]], draws: int) -> list[list[Unit]]:
    found: dict[frozenset[Unit], list[Unit]] = {}
    for _ in range(draws * TRIES):
        if len(found) == draws:
            break
        chosen = draw()
        found.setdefault(frozenset(chosen), chosen)
    return list(found.values())
