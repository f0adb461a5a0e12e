"""Control draws: other units for the same intervention, fixed with the finding.

The sham map decides: the complete selection re-run on random splits of carriers that do not carry
the condition. Layer-matched and load-matched draws are shown beside it; in simulation with damage
proportional to load they "confirm" far too often (design, rule 5).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from lmri.checks import check_choice
from lmri.errors import EvidenceError
from lmri.localise.design import Design, null_design, null_splits
from lmri.localise.resonance import Cells, scores

Unit = tuple[int, int]

NEAREST = 8
"""Units nearest in load from which a load-matched unit is drawn."""

TRIES = 50
"""Attempts per draw before the sets are taken to be exhausted."""


def ranking(values: np.ndarray, layers: tuple[int, ...]) -> list[Unit]:
    """Units from the largest score to the smallest; ties by layer and expert.

    Parameters
    ----------
    values : ndarray of shape (layers, experts)
        Scores.
    layers : tuple of int
        Layer ids.

    Returns
    -------
    list of (int, int)
        (layer, expert) of every unit.
    """
    order = np.argsort(-values, axis=None, kind="stable")
    rows, experts = np.unravel_index(order, values.shape)
    return [(layers[row], int(expert)) for row, expert in zip(rows, experts, strict=True)]


def sham_maps(
    cells: Cells,
    design: Design,
    trials: pd.DataFrame,
    condition: str,
    *,
    draws: int,
    most: int,
    seed: int,
    usable: Callable[[list[Unit]], bool] = lambda units: True,
) -> list[list[Unit]]:
    """Re-run the selection on random splits of null carriers.

    A map that the subject cannot be run without (too few experts left in a layer) is no control:
    it is dropped and the next split is drawn in its place.

    Parameters
    ----------
    cells : Cells
        Counts of the selection trials.
    design : Design
        The design of the contrast.
    trials : DataFrame
        Selection trials.
    condition : str
        The null condition.
    draws : int
        Number of sham maps; no two use the same split.
    most : int
        Units kept of each ranking.
    seed : int
        Seed of the splits.
    usable : callable
        Whether the subject can be run without the first units of a map.

    Returns
    -------
    list of list of (int, int)
        Ranked units of every sham map; fewer than ``draws`` where too few are usable.

    Raises
    ------
    EvidenceError
        As :func:`check_shams`.
    """
    check_shams(design, trials, condition, draws)
    rng = np.random.default_rng([seed, 5])
    null_cells = cells.labels["condition"] == condition
    seen: set[tuple] = set()
    maps: list[list[Unit]] = []
    for _ in range(draws * TRIES):
        if len(maps) == draws:
            break
        sham = null_design(design, trials, condition, rng)
        split = tuple(tuple(sorted(kind.items())) for kind in sham.classes)
        if split in seen:
            continue
        seen.add(split)
        labels = np.where(null_cells, sham.encode(cells.labels).own(), -1)
        units = ranking(scores(cells, sham, labels, sham.weights), cells.layers)[:most]
        if usable(units):
            maps.append(units)
    return maps


def check_shams(design: Design, trials: pd.DataFrame, condition: str, draws: int) -> None:
    """Check that there is a null condition with enough carriers for the sham maps.

    Parameters
    ----------
    design : Design
        The design of the contrast.
    trials : DataFrame
        Selection trials.
    condition : str
        The null condition.
    draws : int
        Number of sham maps.

    Raises
    ------
    EvidenceError
        If the condition is unknown, or its carriers allow fewer different splits than draws.
    """
    known = set(trials["condition"])
    check_choice(condition, known, "null_condition", "the sham maps", EvidenceError)
    possible = null_splits(design, trials, condition)
    if possible < draws:
        raise EvidenceError(
            f"The carriers of the null condition '{condition}' allow only {possible} different "
            f"sham maps. {draws} are needed: add null carriers to the selection split."
        )


def layer_matched(
    units: list[Unit], layers: tuple[int, ...], experts: int, draws: int, seed: int
) -> list[list[Unit]]:
    """Distinct random sets with as many units per layer, without the finding's own.

    Parameters
    ----------
    units : list of (int, int)
        The finding's units.
    layers : tuple of int
        Layer ids.
    experts : int
        Experts per layer.
    draws : int
        Sets asked for; all of them when fewer exist.
    seed : int
        Seed of the draws.

    Returns
    -------
    list of list of (int, int)
        The sets.
    """
    rng = np.random.default_rng([seed, 6, len(units)])
    free = {layer: [e for e in range(experts) if (layer, e) not in units] for layer in layers}

    def draw() -> list[Unit]:
        chosen: list[Unit] = []
        for layer in layers:
            count = sum(own == layer for own, _ in units)
            picks = rng.choice(free[layer], size=count, replace=False)
            chosen += [(layer, int(pick)) for pick in picks]
        return chosen

    return _distinct(draw, draws)


def load_matched(
    units: list[Unit], load: np.ndarray, layers: tuple[int, ...], draws: int, seed: int
) -> list[list[Unit]]:
    """Distinct random sets of units used about as often, without the finding's own.

    Parameters
    ----------
    units : list of (int, int)
        The finding's units.
    load : ndarray of shape (layers, experts)
        How often each unit is chosen.
    layers : tuple of int
        Layer ids.
    draws : int
        Sets asked for; all of them when fewer exist.
    seed : int
        Seed of the draws.

    Returns
    -------
    list of list of (int, int)
        The sets; the i-th unit is one of those nearest in load to the finding's i-th.
    """
    rng = np.random.default_rng([seed, 7, len(units)])
    by_unit = {(layers[i], e): load[i, e] for i, e in np.ndindex(*load.shape)}
    others = [unit for unit in by_unit if unit not in units]
    near = [sorted(others, key=lambda u: (abs(by_unit[u] - by_unit[own]), u)) for own in units]

    def draw() -> list[Unit]:
        chosen: list[Unit] = []
        for candidates in near:
            left = [unit for unit in candidates if unit not in chosen][:NEAREST]
            chosen.append(left[rng.integers(len(left))])
        return chosen

    return _distinct(draw, draws)


def _distinct(draw: Callable[[], list[Unit]], draws: int) -> list[list[Unit]]:
    found: dict[frozenset[Unit], list[Unit]] = {}
    for _ in range(draws * TRIES):
        if len(found) == draws:
            break
        chosen = draw()
        found.setdefault(frozenset(chosen), chosen)
    return list(found.values())
