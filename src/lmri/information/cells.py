"""Cells of a profile: what is gathered of a phase in a layer, and written of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import xarray as xr

from lmri.information.states import Rows, Sample

POINTS = 2000
"""States of a cell that are held at most."""

DIMS = ("phase", "layer")


class Source(Protocol):
    """What states are read from, see :class:`lmri.information.states.States`."""

    phases: list[str]
    layers: list[int]

    def rows(self, layer: int, phases: Sequence[int]) -> Sequence[Rows]:
        """Read the states of a layer in chunks."""

    def labels(self, column: str) -> np.ndarray:
        """Read a column of the table of trials for every owner of a row."""


def samples_of(
    states: Source, layer: int, seed: int, keep: np.ndarray | None = None
) -> list[Sample]:
    """Draw a sample of the trials of every phase.

    Parameters
    ----------
    states : Source
        States of a task.
    layer : int
        One of its layers.
    seed : int
        Of the draw.
    keep : ndarray of shape (n_owners,), bool, optional
        Which trials count; by default all that are read.

    Returns
    -------
    list of Sample
        At most :data:`POINTS` trials for each phase.
    """
    samples = [Sample(POINTS, seed) for _ in states.phases]
    for rows in states.rows(layer, range(len(states.phases))):
        own = np.full(len(rows.owners), True) if keep is None else keep[rows.owners]
        if own.any():
            samples[rows.phase].add(rows.values[own], rows.owners[own])
    return samples


def empty_cells(states: Source, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays over (phase, layer) to fill: NaN, no ``samples``, no ``flags`` and no ``reason``."""
    shape = (len(states.phases), len(states.layers))
    found: dict[str, np.ndarray] = {name: np.full(shape, np.nan) for name in names}
    found |= {name: np.full(shape, "", dtype=object) for name in ("flags", "reason")}
    return found | {"samples": np.zeros(shape, dtype=np.int64)}


def cell_dataset(found: dict[str, np.ndarray], states: Source, settings: dict) -> xr.Dataset:
    """Label what was found over (phase, layer); settings become attributes."""
    text = {name: values.astype(str) for name, values in found.items() if values.dtype == object}
    return xr.Dataset(
        {name: (DIMS, values) for name, values in (found | text).items()},
        coords={"phase": states.phases, "layer": states.layers},
        attrs=settings,
    )
