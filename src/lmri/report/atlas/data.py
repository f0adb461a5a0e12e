"""What the atlas shows: whole maps as far as they fit, the strongest units of the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr

from lmri.report import words
from lmri.report.examples.tables import StudyExamples
from lmri.report.inputs import OtherMap, Scan, StudyInputs
from lmri.report.kinds import MapName

BUDGET = 40_000
"""Units on the page, over all maps: about 2 MB. Small maps are shown whole first."""

STRONGEST = 500
"""Units of a map that does not fit."""

DIGITS = 4
"""Significant digits of a number on the page; the map itself has all."""

COLUMNS = {
    "score": "",
    "hedges_g": "Hedges g",
    "mote_sum": "sum of the scores of tokens",
    "rate_target": "rate in the target",
    "rate_control": "rate in the controls",
    "mean_target": "mean in the target",
    "mean_control": "mean in the controls",
    "interaction": "interaction",
    "routing_difference": "difference of the routing",
    "p": "p of the unit alone",
    "q": "q (false discovery rate)",
    "p_max": "p corrected by the maximum",
}
"""Variables of maps that are shown, and their labels; that of the score is its statistic."""

SMALL = ("p", "q", "p_max")
"""Columns in which less is more: a threshold keeps what is at most as large."""


@dataclass(frozen=True)
class AtlasMap:
    """One map of the atlas.

    Attributes
    ----------
    subject, contrast, phase : str
        Whose map of what.
    name : MapName
        Which map.
    path : str
        Where it is, relative to the study.
    units : ndarray of shape (n_units, n_dims), int64
        Layer and place of the units that are shown.
    columns : dict of str to ndarray of shape (n_units,), float64
        By variable.
    found : ndarray of shape (n_units,), bool
        Whether the finding names the unit.
    total : int
        Units of the map; more than are shown where it does not fit.
    examples : dict of int to str
        Where the page of examples shows a unit, by its place in ``units``.
    """

    subject: str
    contrast: str
    phase: str
    name: MapName
    path: str
    units: np.ndarray
    columns: dict[str, np.ndarray]
    found: np.ndarray
    total: int
    examples: dict[int, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """What the script of the page reads."""
        return {
            "subject": self.subject,
            "contrast": f"{words.readable(self.contrast)}, {words.readable(self.phase)}",
            "map": self.name.described,
            "dims": list(self.name.noun.dims),
            "path": self.path,
            "total": self.total,
            "units": self.units.T.tolist(),
            "found": np.flatnonzero(self.found).tolist(),
            "examples": self.examples,
            "columns": [
                {
                    "name": name,
                    "label": COLUMNS[name] or self.name.statistic_name,
                    "small": name in SMALL,
                    "values": _short(values),
                }
                for name, values in self.columns.items()
            ],
        }


def atlas_maps(inputs: StudyInputs) -> list[AtlasMap]:
    """Gather the maps of the atlas.

    Parameters
    ----------
    inputs : StudyInputs
        What was read of the study; maps that could not be read are among its problems already.

    Returns
    -------
    list of AtlasMap
        By subject, contrast, phase and map, as the study has them.
    """
    maps = list(_read(inputs))
    left, whole = BUDGET, set()
    # The smallest first, so that no map of a few experts gives way to one of thousands of neurons.
    for number in sorted(range(len(maps)), key=lambda number: maps[number].total):
        if maps[number].total <= left:
            whole.add(number)
            left -= maps[number].total
    return [own if n in whole else _strongest(own) for n, own in enumerate(maps)]


def atlas_json(maps: list[AtlasMap]) -> str:
    """Write maps for a script element that is no script.

    Parameters
    ----------
    maps : list of AtlasMap
        The maps.

    Returns
    -------
    str
        JSON without a character that could end the element.
    """
    text = json.dumps({"maps": [own.to_dict() for own in maps]}, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _read(inputs: StudyInputs) -> Iterator[AtlasMap]:
    for subject in inputs.subjects:
        for scans in subject.scans.values():
            for scan in scans:
                for own in (scan, *scan.others):
                    if own.statistics is not None:
                        yield _with_examples(_table(subject.name, scan, own), inputs.examples)


def _shown(statistics: xr.Dataset, name: MapName) -> xr.Dataset:
    dims = name.noun.dims
    shown = [own for own in COLUMNS if own in statistics and set(statistics[own].dims) == set(dims)]
    return statistics[shown].transpose(*dims)


def _table(subject: str, scan: Scan, own: Scan | OtherMap) -> AtlasMap:
    name, dims = own.name, own.name.noun.dims
    statistics = _shown(own.statistics, name)
    # Places of the residual have names in a map, and their numbers in the names of units.
    labels = [
        statistics[dim].to_numpy() if dim != "place" else np.arange(statistics.sizes[dim])
        for dim in dims
    ]
    grid = np.meshgrid(*labels, indexing="ij")
    units = np.stack([axis.ravel() for axis in grid], axis=1).astype(np.int64)
    named = {tuple(unit[dim] for dim in dims) for unit in (own.finding or {}).get("units", [])}
    return AtlasMap(
        subject=subject,
        contrast=scan.contrast.name,
        phase=scan.phase,
        name=name,
        path=own.map_path,
        units=units,
        columns={
            str(column): values.to_numpy().astype(np.float64).ravel()
            for column, values in statistics.items()
        },
        found=np.array([tuple(unit) in named for unit in units.tolist()], dtype=bool),
        total=len(units),
    )


def _with_examples(own: AtlasMap, examples: StudyExamples) -> AtlasMap:
    known = examples.anchors(own.subject, own.name.kind, own.name.quantity)
    places = {tuple(unit): number for number, unit in enumerate(own.units.tolist())}
    shown = {places[unit]: anchor for unit, anchor in known.items() if unit in places}
    return replace(own, examples=shown)


def _strongest(own: AtlasMap) -> AtlasMap:
    """Keep the units with the largest scores, either way, and those of the finding."""
    score = np.nan_to_num(np.abs(own.columns["score"]), nan=-1.0)
    order = np.lexsort((-score, ~own.found))
    kept = np.sort(order[: max(STRONGEST, int(own.found.sum()))])
    number = {int(before): after for after, before in enumerate(kept)}
    return replace(
        own,
        units=own.units[kept],
        columns={name: values[kept] for name, values in own.columns.items()},
        found=own.found[kept],
        examples={number[at]: a for at, a in own.examples.items() if at in number},
    )


def _short(values: np.ndarray) -> list[float | None]:
    found = (float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in values.tolist())
    # Most numbers of the page are 0 or 1, and JSON says 0.0 and 1.0 of floats.
    return [int(v) if v in (0, 1) else v for v in found]
