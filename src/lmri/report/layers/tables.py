"""The tables of massive activations, on the page of layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from lmri.report import words
from lmri.report.layers.figures import Entries, maps_of, tasks_of
from lmri.report.view import Cell, Column, Table

MOST_FOUND = 40
"""Massive dimensions in the table; all are in its data file."""


@dataclass(frozen=True)
class Massive:
    """Massive activations of one subject on one task.

    Attributes
    ----------
    largest : float
        Largest magnitude of any dimension in any token.
    where : str
        Layer and place of it.
    ratio : float
        Largest over the mean median of the same place, at the place where that is most.
    states, first, tokens : int
        States with a massive activation at the place that has most; those of them that are the
        first of their text; tokens.
    absolute, relative : float
        The two criteria.
    """

    largest: float
    where: str
    ratio: float
    states: int
    first: int
    tokens: int
    absolute: float
    relative: float

    @property
    def scale(self) -> str:
        """What the criteria say of the same model with its activity multiplied by a number."""
        if not self.largest or self.ratio <= self.relative:
            return "none at any scale"
        factor = words.number(self.absolute / self.largest)
        return f"from {factor} times this scale on" if self.absolute else "at any scale"


def massive_of(own: xr.Dataset) -> Massive:
    """Read a map of massive activations.

    Parameters
    ----------
    own : Dataset
        The map of one subject on one task.

    Returns
    -------
    Massive
        Its numbers.
    """
    dims = ("layer", "place")
    largest, median, states, first = (
        own[name].transpose(*dims).values.astype(float)
        for name in ("largest", "median", "states", "at_first")
    )
    layer, place = np.unravel_index(int(np.nanargmax(largest)), largest.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(median > 0, largest / median, np.nan)
    most = np.unravel_index(int(states.argmax()), states.shape)
    return Massive(
        largest=float(largest[layer, place]),
        where=(
            f"layer {int(own['layer'].values[layer])}, "
            f"{words.place_name(str(own['place'].values[place]))}"
        ),
        ratio=float(np.nanmax(ratio)) if np.isfinite(ratio).any() else np.nan,
        states=int(states[most]),
        first=int(first[most]),
        tokens=int(own.attrs.get("tokens", 0)),
        absolute=float(own.attrs.get("absolute", np.nan)),
        relative=float(own.attrs.get("relative", np.nan)),
    )


def massive_table(entries: Entries, data: str, *, every: bool = False) -> Table | None:
    """Say how far the largest activations stand out, and whether that depends on the scale.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their maps of layers.
    data : str
        File with the rows of all tasks.
    every : bool
        A row per subject and task; else one per subject, of the task with most massive states
        and, of those, the largest activation.

    Returns
    -------
    Table or None
        None without any.
    """
    rows = list(_massive(entries))
    if not rows:
        return None
    if not every:
        strength = {row[:2]: (row[2].states, row[2].largest) for row in rows}
        best = [
            max((key for key in strength if key[0] == subject), key=strength.__getitem__)
            for subject in dict.fromkeys(row[0] for row in rows)
        ]
        rows = sorted((row for row in rows if row[:2] in best), key=lambda row: best.index(row[:2]))
    first = rows[0][2]
    return Table(
        caption=(
            "A massive activation is one dimension of a state that is above "
            f"{first.absolute:g} (absolute) and above {first.relative:g} times the median of its "
            "state (relative). The absolute criterion depends on the scale of a model: multiplied "
            "by a number, all activity could pass it or not. The relative one does not; the last "
            "column says what both would find at another scale. The ratio is that of the largest "
            "of all tokens to the mean median of its place, so that near the limit only the "
            "counted states decide."
            + ("" if every else " Of each subject the task with most of them, else the largest.")
        ),
        columns=[
            Column("Subject"),
            Column("Task"),
            Column("Largest", f"absolute limit {first.absolute:g}", "number"),
            Column("Over the median", f"relative limit {first.relative:g}", "number"),
            Column("Massive states", "of all tokens", "number"),
            Column("Scale test", "both criteria"),
        ],
        rows=[_massive_row(*row) for row in rows],
        source="maps/<subject>/probes/layer.massive.<task>.zarr",
        data=data,
    )


def found_frame(entries: Entries) -> pd.DataFrame:
    """List every dimension that is ever massive.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their maps of layers.

    Returns
    -------
    DataFrame
        ``subject``, ``task``, ``layer``, ``place``, ``dimension``, ``states``, ``tokens`` and
        ``mean``, those with most states first.
    """
    frames = [
        pd.DataFrame(
            {
                "subject": subject,
                "task": task,
                "layer": own["found_layer"].values.astype(int),
                "place": own["found_place"].values.astype(str),
                "dimension": own["found_dim"].values.astype(int),
                "states": own["found_states"].values.astype(int),
                "tokens": int(own.attrs.get("tokens", 0)),
                "mean": own["found_mean"].values.astype(float),
            }
        )
        for task in tasks_of(entries, "layer.massive")
        for subject, own in maps_of(entries, "layer.massive", task).items()
    ]
    known = [frame for frame in frames if len(frame)]
    if not known:
        return pd.DataFrame()
    found = pd.concat(known, ignore_index=True)
    return found.sort_values("states", ascending=False, kind="stable", ignore_index=True)


def found_table(found: pd.DataFrame, data: str) -> Table:
    """List the dimensions that are massive most often.

    Parameters
    ----------
    found : DataFrame
        From :func:`found_frame`.
    data : str
        File with all rows.

    Returns
    -------
    Table
        At most :data:`MOST_FOUND` rows.
    """
    shown = found.head(MOST_FOUND)
    cut = f" The first {len(shown)} of {len(found)}." if len(found) > len(shown) else ""
    return Table(
        caption=(
            "Dimensions of the residual stream that are massive, those in most states first. One "
            "or two of the same number in all layers and tasks are what large models have; many, "
            f"each in a few states, are a heavy tail.{cut}"
        ),
        columns=[
            Column("Dimension"),
            Column("Subject"),
            Column("Task"),
            Column("Layer", "and place", "number"),
            Column("States", "of all tokens", "number"),
            Column("Mean", "with sign", "number"),
        ],
        rows=[
            [
                Cell(words.whole(row["dimension"])),
                Cell(str(row["subject"])),
                Cell(words.readable(row["task"])),
                Cell(words.whole(row["layer"]), "number", words.place_name(row["place"])),
                Cell(f"{row['states']} of {row['tokens']}", "number"),
                Cell(words.signed(row["mean"]), "number"),
            ]
            for row in shown.to_dict("records")
        ],
        source="maps/<subject>/probes/layer.massive.<task>.zarr",
        data=data,
    )


def _massive(entries: Entries) -> Iterator[tuple[str, str, Massive]]:
    for task in tasks_of(entries, "layer.massive"):
        for subject, own in maps_of(entries, "layer.massive", task).items():
            yield subject, task, massive_of(own)


def massive_frame(entries: Entries) -> pd.DataFrame:
    """The numbers of :func:`massive_table` as a table for a file."""
    rows = [
        {"subject": subject, "task": task, **vars(found), "scale_test": found.scale}
        for subject, task, found in _massive(entries)
    ]
    return pd.DataFrame(rows)


def _massive_row(subject: str, task: str, found: Massive) -> list[Cell]:
    first = f"{found.first} the first of their text" if found.states else ""
    return [
        Cell(subject),
        Cell(words.readable(task)),
        Cell(words.number(found.largest, 1), "number", found.where),
        Cell(words.number(found.ratio, 0), "number"),
        Cell(f"{found.states} of {found.tokens}", "number", first),
        Cell(found.scale),
    ]
