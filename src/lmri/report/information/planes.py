"""Planes of information: what layers tell of inputs against what they tell of an attribute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from lmri.report import words
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.information.figures import WIDTH
from lmri.report.information.names import SOURCE, estimator_name, target_name
from lmri.report.view import Figure, Panel

TOLD = "probe I(T;Y)"

DIGITS = 3
"""Of I(X;T): a saturated channel differs in the sixth, which would be all there is to see."""

LOOK_FOR = (
    "Good: {good} Both axes belong to how they were measured: the name of the horizontal one is "
    "its channel. Nothing forces a layer to lie left of the one before it."
)
FALSIFY = (
    "Bad: hollow grey points, of which one of the two numbers carries a flag: at the right edge "
    "the channel is saturated, and any labels could be read off. Compression is what two channels "
    "show; the table of what may be said decides, not this figure."
)


def layer_planes(rows: pd.DataFrame, data: str) -> Figure | None:
    """Draw the layers of every subject, one after another.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`lmri.report.information.tables.mutual_frame`.
    data : str
        File with all rows.

    Returns
    -------
    Figure or None
        None where no subject has both numbers.
    """
    channel = _channel(rows["estimator"])
    if channel is None or TOLD not in set(rows["estimator"]):
        return None
    keys = ["subject", "task", "target", "phase", "layer"]
    parts = {
        name: rows[rows["estimator"] == own].set_index(keys)[["value", "flags"]]
        for name, own in (("x", channel), ("y", TOLD))
    }
    parts = {axis: own.add_suffix(f"_{axis}") for axis, own in parts.items()}
    both = parts["x"].join(parts["y"], how="inner").reset_index()
    both = both[both["value_x"].notna() & both["value_y"].notna()]
    panels, told = [], []
    for (subject, task, phase), cell in both.groupby(["subject", "task", "phase"], sort=False):
        curves = [_of_layers(target, own) for target, own in cell.groupby("target", sort=False)]
        title = f"{subject}, {words.readable(str(task))}, {words.phase_name(str(phase))}"
        panels.append(_panel(curves, f"plane-{len(panels)}", channel, title))
        ends = [f"{own.name} {words.number(own.y[-1])}" for own in curves]
        told.append(f"{title}, last layer: {', '.join(ends)}")
    if not panels:
        return None
    return Figure(
        title="Information planes: from the first layer to the last",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=LOOK_FOR.format(
            good=(
                "a path that climbs: later layers tell more of the attribute. The numbers are "
                "its first and its last layer."
            )
        ),
        falsify=FALSIFY,
        source=SOURCE.format("residual"),
        data=data,
        layout="medium",
    )


def training_planes(plane: xr.Dataset, key: str, data: str) -> Figure | None:
    """Draw the checkpoints of a series, a path per layer.

    Parameters
    ----------
    plane : Dataset
        Of a series.
    key : str
        Distinguishes the drawings from all others of the page.
    data : str
        File with all points.

    Returns
    -------
    Figure or None
        None without a point.
    """
    names = ("task", "target", "phase", "channel")
    labels = list(zip(*(plane[name].values.astype(str) for name in names), strict=True))
    panels, told = [], []
    for label in dict.fromkeys(labels):
        task, target, phase, channel = label
        places = [i for i, own in enumerate(labels) if own == label]
        curves = [own for own in _paths(plane, places) if len(own.x)]
        if not curves:
            continue
        what = f"{target_name(target)} ({words.readable(task)}), {words.phase_name(phase)}"
        title = f"{what}: {estimator_name(channel)}"
        panels.append(_panel(curves, f"{key}-{len(panels)}", channel, title))
        last = curves[-1]
        told.append(
            f"{title}, {last.name}: from {words.number(last.x[0])}, {words.number(last.y[0])} to "
            f"{words.number(last.x[-1])}, {words.number(last.y[-1])}"
        )
    if not panels:
        return None
    return Figure(
        title="Information planes over training: a path per layer, a point per checkpoint",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=LOOK_FOR.format(
            good=(
                "paths that climb (fitting) and only then go left (compression), in both channels. "
                "The numbers are the first and the last step."
            )
        ),
        falsify=FALSIFY,
        source="analyses/dynamics/<series>/plane.zarr",
        data=data,
        layout="medium",
    )


def plane_frame(series: str, plane: xr.Dataset) -> pd.DataFrame:
    """Put a plane into rows: one per checkpoint and point."""
    frame = plane.reset_coords(drop=True).to_dataframe().reset_index()
    return frame.drop(columns="point", errors="ignore").assign(series=series)


def _paths(plane: xr.Dataset, places: Sequence[int]) -> Iterator[Curve]:
    for place in places:
        cell = plane.isel(point=place)
        x, y = cell["i_xt"].values, cell["i_ty"].values
        known = np.isfinite(x) & np.isfinite(y)
        faint = (cell["flagged_x"].values | cell["flagged_y"].values)[known].tolist()
        name = f"layer {int(cell['layer'])}"
        ends = _ends(plane["step"].values[known].tolist())
        x, y = x[known].round(DIGITS).tolist(), y[known].tolist()
        yield Curve(name, x, y, faint=faint, ends=ends)


def _of_layers(target: object, own: pd.DataFrame) -> Curve:
    own = own.sort_values("layer")
    faint = ((own["flags_x"] != "") | (own["flags_y"] != "")).tolist()
    x, y = own["value_x"].round(DIGITS).tolist(), own["value_y"].tolist()
    ends = _ends(own["layer"].tolist())
    return Curve(target_name(str(target)), x, y, faint=faint, ends=ends)


def _ends(places: Sequence[int]) -> list[str]:
    """Name the first and the last of some layers or steps; one alone is named once."""
    return [str(place) for place in dict.fromkeys((*places[:1], *places[-1:]))]


def _panel(curves: list[Curve], key: str, channel: str, title: str) -> Panel:
    names = (f"I(X;T), {estimator_name(channel)}", "I(T;Y), probe")
    return Panel(draw_curves(curves, key, names=names, level=0.0, width=WIDTH), title=title)


def _channel(estimators: pd.Series) -> str | None:
    """The kernel bound at the most noise, which saturates last; None without one."""
    found = {
        str(own) for own in estimators if own.startswith("kt_upper ") and own.endswith("I(X;T)")
    }
    return max(found, key=lambda own: float(own.split()[1]), default=None)
