"""Maps of layers and heads that need no contrast, as the report keeps them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import xarray as xr

from lmri.errors import StoreError
from lmri.report.reader import Reader
from lmri.store import read_map

FOLDER = "probes"

VARIABLES = {
    "layer.massive": {
        "hits": ("layer", "place"),
        "states": ("layer", "place"),
        "at_first": ("layer", "place"),
        "largest": ("layer", "place"),
        "median": ("layer", "place"),
        "found_layer": ("found",),
        "found_place": ("found",),
        "found_dim": ("found",),
        "found_states": ("found",),
        "found_mean": ("found",),
    },
    "layer.peak": {"peak": ("layer", "place")},
    "layer.void": {
        "active": ("phase", "layer"),
        "last_active": ("phase", "layer"),
        "change": ("phase", "layer"),
        "tokens": ("phase",),
    },
    "head.sinks": {
        "alpha": ("position", "layer", "head"),
        "sink_share": ("position",),
        "texts": ("position",),
    },
    "head.drain": {"drain": ("layer", "head")},
}
"""What is shown of each kind of map, with its dimensions."""


@dataclass(frozen=True)
class Probes:
    """Maps of one subject by kind and task.

    Attributes
    ----------
    maps : dict of str to dict of str to Dataset
        By kind, a key of :data:`VARIABLES`, and task.
    left_out : dict of str to str
        Why a map is not there, by its name.
    """

    maps: dict[str, dict[str, xr.Dataset]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, xr.Dataset]:
        """Maps of a kind by task."""
        return self.maps.get(kind, {})


def read_probes(reader: Reader, subject: str, tasks: list[str]) -> Probes:
    """Read the maps of layers of a subject.

    Parameters
    ----------
    reader : Reader
        Notes what is missing.
    subject : str
        The subject.
    tasks : list of str
        Tasks of the study: each has a map of every kind, or a reason why not.

    Returns
    -------
    Probes
        What there is.
    """
    folder = f"maps/{subject}/{FOLDER}"
    left_out = reader.read(subject, f"{folder}/left_out.json", read_reasons, {})
    maps: dict[str, dict[str, xr.Dataset]] = {}
    for kind in VARIABLES:
        for task in tasks:
            name = f"{kind}.{task}"
            if name in left_out:
                continue
            found = reader.read(
                subject, f"{folder}/{name}.zarr", lambda path, k=kind: _read(path, k), None
            )
            if found is not None:
                maps.setdefault(kind, {})[task] = found
    return Probes(maps, left_out)


def _read(path: Path, kind: str) -> xr.Dataset:
    dataset, wanted = read_map(path), VARIABLES[kind]
    for name, dims in wanted.items():
        if name not in dataset or set(dataset[name].dims) != set(dims):
            raise StoreError(f"{path}: has no '{name}' by {', '.join(dims)}. Localise again.")
    return dataset[list(wanted)]


def read_reasons(path: Path) -> dict[str, str]:
    """Read why things were left out, by their name; a path of the machine is taken off.

    Raises
    ------
    StoreError
        If there is no such file, or it is no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        # A reason begins with the store that it is about, on the machine that made the maps.
        return {
            str(name): re.sub(r"^\S*\.zarr: ", "", str(reason)) for name, reason in found.items()
        }
    except OSError:
        raise StoreError(f"{path}: no such file. Was the job that writes it finished?") from None
    except (ValueError, AttributeError) as error:
        raise StoreError(f"{path}: not readable JSON ({error}). Run its stage again.") from None
