"""Rival selections: other simple ways to choose as many units, run beside the finding's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmri.intervene import Unit
from lmri.localise.units import Units, ranked
from lmri.store import read_map

if TYPE_CHECKING:
    from lmri.localise.findings import Selection

ATTRIBUTION = "direct"
"""Method of the causal map whose best units are a rival."""


def rival_selections(
    result: Selection, doses: Sequence[int], attribution: np.ndarray | None = None
) -> dict[str, dict[str, list[list[Unit]]]]:
    """Choose as many units otherwise: a selection that does no better than these says little.

    Parameters
    ----------
    result : Selection
        The map.
    doses : sequence of int
        Numbers of units.
    attribution : ndarray of the shape of the units, optional
        Direct attribution of every unit.

    Returns
    -------
    dict of str to dict of str to list of list of tuple of int
        One set by dose for ``bottom`` (the end of the ranking), ``top_load`` (the most active) and,
        where there is an attribution, ``top_attribution``.
    """
    last = ranked(np.nan_to_num(-result.strength, nan=-np.inf))
    orders = {"bottom": last, "top_load": ranked(result.load)}
    if attribution is not None and attribution.size == result.units.size:
        orders["top_attribution"] = ranked(attribution)
    return {name: _by_dose(result.units, order, doses) for name, order in orders.items()}


def direct_attribution(maps: Path, folder: str, kind: str) -> np.ndarray | None:
    """Read how much each unit is attributed to directly, where a causal map says so.

    Parameters
    ----------
    maps : Path
        Folder of the subject's maps.
    folder : str
        Of the causal maps of a contrast.
    kind : str
        Kind of the units.

    Returns
    -------
    ndarray of the shape of the units, float64
        The scores; None without such a map.
    """
    path = maps / folder / f"{kind}.{ATTRIBUTION}.zarr"
    return read_map(path)["score"].values if path.is_dir() else None


def _by_dose(units: Units, order: np.ndarray, doses: Sequence[int]) -> dict[str, list[list[Unit]]]:
    return {str(dose): [units.named(order[:dose])] for dose in doses}
