"""Several curves over one axis, told apart by colour, mark and stroke, with a key beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, SymmetricalLogLocator

from lmri.report.figures.canvas import (
    FINDING,
    INK,
    LAYER_MATCHED,
    LOAD_MATCHED,
    MUTED,
    POSITIVE,
    RULE,
    SHAM,
    SURFACE,
    new_figure,
    place,
    style,
    to_svg,
)
from lmri.report.figures.memory import drawn_once

COLOURS = (FINDING, POSITIVE, LAYER_MATCHED, LOAD_MATCHED, SHAM)
MARKS = ("o", "s", "D", "^", "v", "P", "X")
"""Five colours and seven marks: 35 curves before a pair comes again."""

STROKES = ("-", (0, (4, 1.5)), (0, (1, 1)))
"""Of the first curves of each colour, then of the next: colours come again before marks do."""

MANY = 2
"""Decades of a logarithmic axis from which on only powers of ten are marked."""


@dataclass(frozen=True)
class Curve:
    """One curve.

    Attributes
    ----------
    name : str
        As in the key.
    x, y : sequence of float
        Its points, in the order they are joined.
    low, high : sequence of float, optional
        Bounds of an interval around every point.
    faint : sequence of bool, optional
        Points that are drawn hollow and grey: they should not be read.
    bound : sequence of float, optional
        What every point should be above, drawn dashed in the colour of the curve.
    ends : sequence of str, optional
        What is written at the first and the last point: where a path begins and where it ends.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    faint: Sequence[bool] = ()
    bound: Sequence[float] = ()
    ends: Sequence[str] = ()


@drawn_once
def draw_curves(
    curves: Sequence[Curve],
    key: str,
    *,
    names: tuple[str, str],
    line: Curve | None = None,
    level: float | None = None,
    linear: float | None = None,
    top: float | None = None,
    width: float = 560,
    room: float = 150,
) -> Markup:
    """Draw curves.

    Parameters
    ----------
    curves : sequence of Curve
        In the order of the key.
    key : str
        Distinguishes the drawing from all others of the page.
    names : tuple of str
        Of the horizontal and the vertical axis.
    line : Curve, optional
        Drawn dashed, without marks: what would be ideal.
    level : float, optional
        Height of a thin line: no change.
    linear : float, optional
        The vertical axis is logarithmic beyond this distance from 0, if a curve gets there, and
        linear within.
    top : float, optional
        End of the vertical axis; what is above is cut.
    width : float
        Width of the drawing.
    room : float
        Of it, for the key.

    Returns
    -------
    Markup
        The drawing.
    """
    left, right, bottom, above = 56, room, 40, 10
    height = 0.62 * (width - right + 60)
    with style():
        figure = new_figure(width, height)
        axes = place(figure, left, bottom, width - left - right, height - bottom - above)
        logarithmic = linear is not None and any(abs(y) > linear for own in curves for y in own.y)
        if logarithmic:
            axes.set_yscale("symlog", linthresh=linear, linscale=0.7)
        if level is not None:
            axes.axhline(level, color=RULE, linewidth=1)
        if line is not None:
            axes.plot(line.x, line.y, color=MUTED, linewidth=1.2, linestyle="--", label=line.name)
        strokes = cycle(stroke for stroke in STROKES for _ in COLOURS)
        for curve, colour, mark, stroke in zip(curves, cycle(COLOURS), cycle(MARKS), strokes):
            own = {"color": colour, "marker": mark, "markersize": 5, "linestyle": stroke}
            axes.plot(curve.x, curve.y, linewidth=1.6, label=curve.name, **own)
            if len(curve.low):
                axes.vlines(curve.x, curve.low, curve.high, color=colour, linewidth=1, alpha=0.6)
            if len(curve.bound):
                axes.plot(curve.x, curve.bound, color=colour, linewidth=1.2, linestyle="--")
            # A curve of a single point has one end.
            for text, end in zip(curve.ends, (0, -1), strict=False):
                at = curve.x[end], curve.y[end]
                look = {"color": colour, "fontsize": 11, "annotation_clip": False}
                axes.annotate(text, at, (3, 4), textcoords="offset points", **look)
            if any(curve.faint):
                pairs = zip(curve.y, curve.faint, strict=True)
                grey = [y if own else float("nan") for y, own in pairs]
                hollow = {"markerfacecolor": SURFACE, "markeredgecolor": MUTED, "zorder": 3}
                axes.plot(curve.x, grey, mark, markersize=5, **hollow)
        if top is not None:
            axes.set_ylim(top=top)
        counted = all(float(x).is_integer() for curve in curves for x in curve.x)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=counted))
        if logarithmic:
            _mark_powers(axes, linear)
        axes.grid(axis="y", color=RULE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, which="both")
        axes.set_xlabel(names[0], labelpad=3)
        axes.set_ylabel(f"{names[1]} (log)" if logarithmic else names[1], labelpad=6)
        place_key = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}
        axes.legend(frameon=False, fontsize=10, labelcolor=INK, handlelength=1.8, **place_key)
        return to_svg(figure, key)


def _mark_powers(axes: Axes, linear: float) -> None:
    """Mark a logarithmic axis: powers of ten alone leave a single mark where there are few."""
    low, high = axes.get_ylim()
    decades = np.log10(max(abs(low), abs(high)) / max(min(low, high), linear))
    if decades < 1:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    else:
        steps = (1, 2, 5) if decades < MANY else (1,)
        axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=linear, subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
