"""What the layers of several subjects have in common, on the page of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from lmri.report import words
from lmri.report.layers.figures import Entries, depth_name, maps_of, peak_curve, tasks_of
from lmri.report.layers.tables import massive_of
from lmri.report.replication import HALF, MOST
from lmri.report.view import Cell, Column, Table

VOID = 0.5
"""Share of the tokens from which on a layer is called void."""


def replication_table(entries: Entries, data: str) -> Table | None:
    """Say on what the subjects agree.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects that can replicate each other, with their maps of layers.
    data : str
        File with the numbers of every subject.

    Returns
    -------
    Table or None
        One row per quantity and task; None with fewer than two subjects.
    """
    rows = [row for row in _replication(entries) if row.subjects > 1]
    if not rows:
        return None
    return Table(
        caption=(
            "What most subjects share, and how many do. Replicates: in at least "
            f"{MOST:.0%} of the subjects; below {HALF:.0%} it does not; between, in part. With "
            "few layers some agreement is chance. States of one base are not independent."
        ),
        columns=[
            Column("What", "and task"),
            Column("Most subjects"),
            Column("Subjects", "that do", "number"),
            Column("Agreement"),
            Column("Over subjects", "lowest to highest", "number"),
        ],
        rows=[
            [
                Cell(row.what, note=words.readable(row.task)),
                Cell(row.most),
                Cell(f"{row.count} of {row.subjects}", "number"),
                Cell(row.standing),
                Cell(row.spread, "number"),
            ]
            for row in rows
        ],
        source="maps/<subject>/probes/",
        data=data,
    )


@dataclass(frozen=True)
class Shared:
    """What most subjects have in common.

    Attributes
    ----------
    what, task, most : str
        Quantity, task, and what most subjects show.
    count, subjects : int
        Subjects that show it, and all.
    spread : str
        The numbers behind it, lowest to highest.
    """

    what: str
    task: str
    most: str
    count: int
    subjects: int
    spread: str

    @property
    def standing(self) -> str:
        """Whether it replicates, by the rule of the other pages."""
        share = self.count / self.subjects
        if share >= MOST:
            return "replicates"
        return "does not replicate" if share < HALF else "replicates in part"


def shared(what: str, task: str, found: Mapping[str, str], numbers: Sequence[float]) -> Shared:
    """Count what the subjects show.

    Parameters
    ----------
    what, task : str
        Quantity and task.
    found : mapping of str to str
        What each subject shows.
    numbers : sequence of float
        The numbers behind it.

    Returns
    -------
    Shared
        What most show; of several that are as frequent the first.
    """
    shown = list(found.values())
    most = max(dict.fromkeys(shown), key=shown.count)
    known = [value for value in numbers if np.isfinite(value)]
    spread = f"{words.number(min(known))} to {words.number(max(known))}" if known else ""
    return Shared(what, task, most, shown.count(most), len(shown), spread)


def _replication(entries: Entries) -> Iterator[Shared]:
    for task in tasks_of(entries, "layer.massive"):
        found = {s: massive_of(own) for s, own in maps_of(entries, "layer.massive", task).items()}
        told = {s: "there are some" if own.states else "there are none" for s, own in found.items()}
        largest = [own.largest for own in found.values()]
        yield shared("Massive activations (largest activation)", task, told, largest)
    for task in tasks_of(entries, "layer.peak"):
        curves = {s: peak_curve(own) for s, own in maps_of(entries, "layer.peak", task).items()}
        curves = {s: own for s, own in curves.items() if np.isfinite(own[1]).any()}
        told = {s: f"most {depth_name(x[int(np.nanargmax(y))])}" for s, (x, y) in curves.items()}
        if told:
            largest = [float(np.nanmax(y)) for _, y in curves.values()]
            yield shared("Peak of the first token (times the others)", task, told, largest)
    for task in tasks_of(entries, "layer.void"):
        for phase, name in (("prompt", "while reading"), ("response", "while answering")):
            maps = maps_of(entries, "layer.void", task)
            void = {s: 1 - own["active"].sel(phase=phase).values for s, own in maps.items()}
            void = {s: values for s, values in void.items() if np.isfinite(values).any()}
            if void:
                told = {s: _void_layers(values, maps[s]) for s, values in void.items()}
                largest = [float(np.nanmax(values)) for values in void.values()]
                yield shared(f"Void layers {name} (share of tokens, most)", task, told, largest)
    for task in tasks_of(entries, "head.sinks"):
        maps = maps_of(entries, "head.sinks", task)
        share = {s: own["sink_share"].values.astype(float) for s, own in maps.items()}
        share = {s: values for s, values in share.items() if np.isfinite(values).any()}
        if share:
            told = {s: _sink_position(values, maps[s]) for s, values in share.items()}
            largest = [float(np.nanmax(values)) for values in share.values()]
            yield shared("Sinks by position (% of heads, most)", task, told, largest)


def _sink_position(share: np.ndarray, own: xr.Dataset) -> str:
    if not np.nanmax(share):
        return "no sink at any position"
    return f"most at position {int(own['position'].values[int(np.nanargmax(share))])}"


def _void_layers(void: np.ndarray, own: xr.Dataset) -> str:
    layers = [str(int(layer)) for layer in own["layer"].values[void >= VOID]]
    if not layers:
        return f"none in {VOID:.0%} of the tokens or more"
    return f"{'layer' if len(layers) == 1 else 'layers'} {words.listing(layers)}"
