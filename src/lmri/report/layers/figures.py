"""The figures of the page of layers: lines over depth and position, and void layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from lmri.report import words
from lmri.report.figures.heat import draw_map
from lmri.report.figures.lines import draw_lines
from lmri.report.layers.probes import Probes
from lmri.report.view import Figure, Panel

WIDTH = 330

OFFSET = {"before": 0.0, "mid": 0.5, "after": 1.0}
"""How far into its layer a place of the residual stream is."""

Entries = Sequence[tuple[str, Probes]]
"""Subjects with their maps of layers."""

Curve = Callable[[xr.Dataset], tuple[np.ndarray, np.ndarray]]
"""Gets a map; returns places, ascending, and the value at each."""


def tasks_of(entries: Entries, kind: str) -> list[str]:
    """Tasks that have a map of a kind in any subject, each once."""
    return list(dict.fromkeys(task for _, probes in entries for task in probes.of(kind)))


def maps_of(entries: Entries, kind: str, task: str) -> dict[str, xr.Dataset]:
    """Maps of a kind on a task by subject."""
    return {subject: own[task] for subject, probes in entries if task in (own := probes.of(kind))}


def depth_name(depth: float) -> str:
    """Name a depth in words: ``after attention of layer 0``."""
    layer = int(np.ceil(depth)) - 1
    if layer < 0:
        return "before the first layer"
    return f"after attention of layer {layer}" if depth % 1 else f"after layer {layer}"


def peak_curve(peak: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Peak of the residual stream against depth: what enters a layer has left the one before."""
    places, values = [], []
    for number, layer in enumerate(peak["layer"].values):
        for place in peak["place"].values:
            if str(place) == "before" and number:
                continue
            places.append(float(layer) + OFFSET.get(str(place), 1.0))
            values.append(float(peak["peak"].sel(layer=layer, place=place)))
    order = np.argsort(places, kind="stable")
    return np.array(places)[order], np.array(values)[order]


def growth_curve(void: xr.Dataset, phase: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean norm that the residual stream has gained after each layer."""
    change = void["change"].sel(phase=phase).values.astype(float)
    layers = void["layer"].values.astype(float) + 1
    return np.concatenate([[layers[0] - 1], layers]), np.concatenate([[0.0], np.cumsum(change)])


def sink_curve(sinks: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Share of the heads for which each position is a sink, in percent."""
    return sinks["position"].values.astype(float), sinks["sink_share"].values.astype(float)


def received_curve(sinks: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Attention that the first token receives in each layer, mean over heads."""
    first = sinks["alpha"].transpose("position", "layer", "head").values[0]
    return sinks["layer"].values.astype(float), first.mean(axis=1)


def drain_curve(drain: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Norm of the first token's value over that of the others by layer, mean over heads."""
    values = drain["drain"].transpose("layer", "head").values
    return drain["layer"].values.astype(float), values.mean(axis=1)


@dataclass(frozen=True)
class Drawn:
    """What a panel per task draws.

    Attributes
    ----------
    kind : str
        Kind of map.
    curve : callable
        What is drawn of it.
    name : str
        Name of the curve, where a figure has several.
    level : float or None
        Value at which a line is drawn across.
    """

    kind: str
    curve: Curve
    name: str = ""
    level: float | None = None


def curve_figure(
    entries: Entries,
    curves: Sequence[Drawn],
    *,
    title: str,
    axis: str,
    look_for: str,
    falsify: str,
    key: str,
    data: str,
) -> Figure | None:
    """Draw quantities of every subject as lines, a panel per task and quantity.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their maps of layers.
    curves : sequence of Drawn
        The quantities.
    title, look_for, falsify : str
        As for a figure.
    axis : str
        What the horizontal axis is.
    key, data : str
        Begin of the drawings' keys; file with the numbers.

    Returns
    -------
    Figure or None
        None where nothing is known.
    """
    panels, told, several = [], [], len(entries) > 1
    for drawn, task in ((d, t) for d in curves for t in tasks_of(entries, d.kind)):
        maps = maps_of(entries, drawn.kind, task)
        lines = {subject: drawn.curve(own) for subject, own in maps.items()}
        lines = {s: line for s, line in lines.items() if np.isfinite(line[1]).any()}
        if not lines:
            continue
        # Subjects with other layers would need an axis of their own; the file has them.
        steps = next(iter(lines.values()))[0]
        same = {s: y for s, (x, y) in lines.items() if np.array_equal(x, steps)}
        marked = max(same, key=lambda subject, own=same: float(np.nanmax(own[subject])))
        drawing = draw_lines(
            steps,
            same,
            marked,
            f"{key}-{len(panels)}",
            WIDTH,
            axis=axis,
            level=drawn.level,
            named=False,
        )
        where = ", ".join(filter(None, (words.readable(task), drawn.name)))
        orange = f" (orange: {marked})" if several else ""
        panels.append(Panel(drawing, title=f"{words.sentence(where)}{orange}"))
        told.append(_told(where, same[marked], marked, steps, axis))
    if not panels:
        return None
    lines_are = "One line per subject, orange the one with the largest value. " if several else ""
    kinds = list(dict.fromkeys(drawn.kind for drawn in curves))
    return Figure(
        title=title,
        panels=panels,
        alt=f"{title}. {' '.join(told)}",
        look_for=f"{lines_are}{look_for}",
        falsify=falsify,
        source=", ".join(f"maps/<subject>/probes/{kind}.<task>.zarr" for kind in kinds),
        data=data,
        layout="medium",
    )


def void_figure(entries: Entries, data: str) -> Figure | None:
    """Show in which share of the tokens each layer is void, by phase and task.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their maps of layers.
    data : str
        File with the numbers.

    Returns
    -------
    Figure or None
        None where nothing is known.
    """
    panels, told, alpha = [], [], 0.0
    for task in tasks_of(entries, "layer.void"):
        maps = maps_of(entries, "layer.void", task)
        alpha = float(next(iter(maps.values())).attrs.get("alpha", np.nan))
        for phase in ("prompt", "response"):
            rows = {
                subject: 1 - own["active"].sel(phase=phase).values.astype(float)
                for subject, own in maps.items()
            }
            rows = {subject: row for subject, row in rows.items() if np.isfinite(row).any()}
            if not rows:
                continue
            widest = max(len(row) for row in rows.values())
            grid = np.full((len(rows), widest), np.nan)
            for at, row in enumerate(rows.values()):
                grid[at, : len(row)] = row
            drawing = draw_map(
                grid[::-1],
                [],
                1.0,
                f"void-{len(panels)}",
                width=WIDTH,
                scale_bar=False,
                axes_names=("layer", ""),
                rows=[words.short(subject) for subject in rows][::-1],
            )
            name = {"prompt": "while it reads", "response": "while it answers"}[phase]
            counted = words.spread([int(own["tokens"].sel(phase=phase)) for own in maps.values()])
            title = f"{words.sentence(words.readable(task))}, {name} (n = {counted} tokens)"
            panels.append(Panel(drawing, title=title))
            known = np.flatnonzero(np.isfinite(grid).any(axis=0))
            mean = np.nanmean(grid[:, known], axis=0)
            told.append(
                f"{title}: layer {known[mean.argmax()]} is void most, in {mean.max():.0%} of the "
                "tokens on average"
            )
    if not panels:
        return None
    return Figure(
        title="Void layers",
        panels=panels,
        alt=f"Share of tokens in which each layer is void, by subject. {'; '.join(told)}.",
        look_for=(
            "A row is a subject, a column a layer; the stronger the orange, the more tokens it is "
            "void in, full colour is all of them. A layer is void in a token if the norm of the "
            f"residual stream rises by less than {words.number(alpha, 1)} of the range of its "
            "changes in earlier layers. What could be skipped is a column that is orange in all "
            "rows."
        ),
        falsify=(
            "Other columns in each row: the layers of one model, not of such models. Void says "
            "that the norm hardly grows, not that nothing happens: a layer may turn the stream "
            "without making it longer. The first layer has nothing before it to be compared with, "
            "and is void only where the norm falls; nothing was skipped to tell."
        ),
        source="maps/<subject>/probes/layer.void.<task>.zarr",
        data=data,
        layout="medium",
    )


def _told(where: str, values: np.ndarray, marked: str, steps: np.ndarray, axis: str) -> str:
    at = int(np.nanargmax(values))
    return (
        f"{words.sentence(where)}: the largest value is {words.number(values[at])}, in {marked} at "
        f"{axis} {steps[at]:g}."
    )
