"""What the report keeps of a map: enough to draw it and to name its units, however large it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from lmri.report.kinds import MapName, Noun

MOST_CELLS = 256
"""Units of a layer that are drawn as cells; more are drawn as a distribution."""

BINS = 120
"""Steps of a distribution."""

KEPT_UNITS = 256
"""Units of a map that are listed in its data file."""

ROUNDING = 1e-9
"""Scores up to this are none."""


@dataclass(frozen=True)
class Distribution:
    """Units of every layer by their score.

    Attributes
    ----------
    edges : ndarray of shape (BINS + 1,)
        Borders of the steps.
    units, selected : ndarray of shape (n_layers, BINS), int64
        Units in each step; those of them that the map selects.
    """

    edges: np.ndarray
    units: np.ndarray
    selected: np.ndarray


@dataclass(frozen=True)
class Profile:
    """A map, reduced.

    Attributes
    ----------
    name : MapName
        Which map.
    noun : Noun
        Words for its units.
    layers : tuple of int
        Layers that have such units.
    shape : tuple of int
        Units of a layer, one number for each part of their names after the layer.
    units, selected, rising, missing : int
        All units; those selected; those of them whose score is positive; units without a score.
    two_sided : bool
        Whether units that fall count like those that rise.
    low, high : float
        Smallest and largest score; NaN without any.
    top : DataFrame
        The strongest units with every variable, best first.
    by_layer : dict of int to int
        Selected units of every layer.
    cells : ndarray of shape (n_layers, n_units) or None
        Scores to draw as cells; None where a layer has too many.
    distribution : Distribution or None
        Drawn in their place.
    attributes : mapping
        Attributes of the map.
    routing : float
        Of neurons of experts, the routing difference of the strongest one's expert; else NaN.
    """

    name: MapName
    noun: Noun
    layers: tuple[int, ...]
    shape: tuple[int, ...]
    units: int
    selected: int
    rising: int
    missing: int
    two_sided: bool
    low: float
    high: float
    top: pd.DataFrame
    by_layer: dict[int, int]
    cells: np.ndarray | None
    distribution: Distribution | None
    attributes: Mapping
    routing: float

    @property
    def largest(self) -> float:
        """Largest magnitude of a score; 0 without any."""
        ends = [abs(end) for end in (self.low, self.high) if math.isfinite(end)]
        return max(ends, default=0.0)

    @property
    def strongest(self) -> dict:
        """The strongest unit with every variable; empty where no unit has a score."""
        return {} if self.top.empty else self.top.iloc[0].to_dict()

    @property
    def strongest_unit(self) -> list[int]:
        """Coordinates of the strongest unit; empty where no unit has a score."""
        return [int(self.strongest[dim]) for dim in self.noun.dims] if self.strongest else []

    def attribute(self, name: str) -> float:
        """A number among the attributes; NaN where it is not there."""
        try:
            return float(self.attributes.get(name, math.nan))
        except (TypeError, ValueError):
            return math.nan


def profile(name: str, statistics: xr.Dataset, alpha: float, noun: Noun | None = None) -> Profile:
    """Reduce a map to what the report shows of it.

    Parameters
    ----------
    name : str
        Name of the map.
    statistics : Dataset
        The map.
    alpha : float
        Level of the max-statistic, to tell which units are selected.
    noun : Noun, optional
        Words for its units, with their dimensions; by default those of the kind.

    Returns
    -------
    Profile
        Of a size that does not depend on the number of units of a layer.
    """
    noun = noun or MapName(name).noun
    dims = noun.dims
    score = statistics["score"].transpose(*dims).values.astype(float)
    two_sided = bool(int(statistics.attrs.get("two_sided", 0)))
    selected = _selected(statistics, dims, score, alpha, two_sided)
    layers = tuple(int(layer) for layer in statistics["layer"].values)
    rows = (len(layers), -1)
    flat, chosen = score.reshape(rows), selected.reshape(rows)
    finite = score[np.isfinite(score)]
    few = flat.shape[1] <= MOST_CELLS
    top = _top(statistics, dims, np.abs(score) if two_sided else score)
    return Profile(
        name=MapName(name),
        noun=noun,
        layers=layers,
        shape=score.shape[1:],
        units=score.size,
        selected=int(selected.sum()),
        rising=int((selected & (score > 0)).sum()),
        missing=score.size - len(finite),
        two_sided=two_sided,
        low=float(finite.min()) if len(finite) else math.nan,
        high=float(finite.max()) if len(finite) else math.nan,
        top=top,
        by_layer=dict(zip(layers, chosen.sum(axis=1).tolist(), strict=True)),
        cells=flat if few else None,
        distribution=None if few else _distribution(flat, chosen),
        attributes=dict(statistics.attrs),
        routing=_routing(statistics, top),
    )


def _selected(
    statistics: xr.Dataset, dims: tuple[str, ...], score: np.ndarray, alpha: float, two_sided: bool
) -> np.ndarray:
    if "p_max" not in statistics:
        return np.zeros(score.shape, dtype=bool)
    p_max = statistics["p_max"].transpose(*dims).values
    strength = np.abs(score) if two_sided else score
    return (np.nan_to_num(strength) > ROUNDING) & (p_max <= alpha)


def _top(statistics: xr.Dataset, dims: tuple[str, ...], strength: np.ndarray) -> pd.DataFrame:
    """The strongest units in the order of the map's own ranks."""
    ordered = statistics.transpose(*dims, missing_dims="ignore")
    flat = strength.reshape(-1)
    rank = ordered["rank"].values.reshape(-1) if "rank" in ordered else -np.nan_to_num(flat)
    known = np.flatnonzero(np.isfinite(flat))
    best = known[np.argsort(rank[known], kind="stable")][:KEPT_UNITS]
    places = np.unravel_index(best, strength.shape)
    columns = {dim: ordered[dim].values[at] for dim, at in zip(dims, places, strict=True)}
    for name, variable in ordered.data_vars.items():
        if variable.dims == dims:
            columns[str(name)] = variable.values[places]
    return pd.DataFrame(columns)


def _distribution(score: np.ndarray, selected: np.ndarray) -> Distribution:
    finite = score[np.isfinite(score)]
    end = float(np.abs(finite).max()) if len(finite) else 1.0
    edges = np.linspace(-(end or 1.0), end or 1.0, BINS + 1)
    counts = [
        [np.histogram(row[np.isfinite(row)], edges)[0] for row in rows]
        for rows in (score, np.where(selected, score, np.nan))
    ]
    return Distribution(edges, *(np.array(rows) for rows in counts))


def _routing(statistics: xr.Dataset, top: pd.DataFrame) -> float:
    if "routing_difference" not in statistics or top.empty:
        return math.nan
    where = {dim: top.iloc[0][dim] for dim in ("layer", "expert")}
    return float(statistics["routing_difference"].sel(where))
