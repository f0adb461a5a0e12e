"""How well an approximation agrees with what it approximates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from lmri.report.figures.canvas import (
    FINDING,
    INK,
    MARGIN,
    MUTED,
    RULE,
    SURFACE,
    new_figure,
    place,
    style,
    to_svg,
)
from lmri.report.figures.memory import drawn_once
from lmri.report.figures.strips import shades
from lmri.report.words import short

GOOD = 0.9
"""Correlation from which on an approximation is drawn as good."""

STEP = 11
"""Height of one subject."""

BINS = 36
"""Steps of each axis of a comparison unit by unit."""


@drawn_once
def draw_agreement(
    rows: Mapping[str, Sequence[tuple[float, float, float]]], key: str, width: float = 330
) -> Markup:
    """Draw correlations with their intervals.

    Parameters
    ----------
    rows : mapping of str to sequence of tuple
        By name of a method, the correlation of every subject and both ends of its interval; NaN
        where there is none.
    key : str
        Distinguishes the drawing from all others of the page.
    width : float
        Width of the drawing.

    Returns
    -------
    Markup
        A row per method; in it, the subjects from top to bottom.
    """
    names = [short(name) for name in rows]
    longest = max(map(len, names))
    left, right, bottom, top = 14 + 6.2 * longest, 12, 40, 6
    heights = [STEP * max(len(found), 1) + 9 for found in rows.values()]
    total = sum(heights)
    with style():
        figure = new_figure(width, bottom + total + top)
        axes = place(figure, left, bottom, width - left - right, total)
        axes.axvspan(GOOD, 1, color=MARGIN, alpha=0.18, lw=0)
        axes.axvline(0, color=RULE, linewidth=1)
        centres, end = [], float(total)
        for found, height in zip(rows.values(), heights, strict=True):
            if end < total:
                axes.axhline(end, color=RULE, linewidth=0.6)
            for number, entry in enumerate(found):
                _interval(axes, entry, end - 4.5 - STEP * (number + 0.5))
            centres.append(end - height / 2)
            end -= height
        axes.set_yticks(centres)
        axes.set_yticklabels(names, color=INK)
        axes.set_ylim(0, total)
        axes.set_xlim(-1.04, 1.04)  # the same in all drawings: they are to be compared
        axes.spines["left"].set_visible(False)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
        axes.tick_params(length=0, axis="y")
        axes.tick_params(length=3, axis="x")
        axes.set_xlabel("correlation with patching", labelpad=3, color=MUTED)
        return to_svg(figure, key)


@drawn_once
def draw_comparison(
    patched: np.ndarray, estimated: np.ndarray, axis: str, key: str, width: float = 230
) -> Markup:
    """Draw estimated effects against patched ones, unit by unit.

    Parameters
    ----------
    patched, estimated : array of shape (n_units,)
        Effects of the same units.
    axis : str
        Unit of the effects.
    key : str
        Distinguishes the drawing from all others of the page.
    width : float
        Width of the drawing.

    Returns
    -------
    Markup
        A square with a scale for each axis; darker where there are more units, with the line on
        which both are equal.
    """
    known = np.isfinite(patched) & np.isfinite(estimated)
    patched, estimated = patched[known], estimated[known]
    x, y = (_edges(values) for values in (patched, estimated))
    counts = np.histogram2d(estimated, patched, [y, x])[0].astype(int)
    left, right, bottom, top = 50, 8, 40, 8
    size = width - left - right
    with style():
        figure = new_figure(width, size + bottom + top)
        axes = place(figure, left, bottom, size, size)
        ends = (min(x[0], y[0]), max(x[-1], y[-1]))
        axes.plot(ends, ends, color=FINDING, linewidth=1.2)
        axes.axhline(0, color=RULE, linewidth=0.8)
        axes.axvline(0, color=RULE, linewidth=0.8)
        axes.imshow(
            shades(counts, np.zeros_like(counts)),
            origin="lower",
            aspect="auto",
            interpolation="none",
            extent=(x[0], x[-1], y[0], y[-1]),
            zorder=2,
        )
        axes.set_xlim(x[0], x[-1])
        axes.set_ylim(y[0], y[-1])
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(length=3)
        axes.set_xlabel(f"patched, {axis}", labelpad=3)
        axes.set_ylabel("estimated", labelpad=4)
        return to_svg(figure, key)


def _edges(values: np.ndarray) -> np.ndarray:
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.06 * ((high - low) or 1.0)
    return np.linspace(low - room, high + room, BINS + 1)


def _interval(axes, entry: tuple[float, float, float], at: float) -> None:
    value, low, high = entry
    if not np.isfinite(value):
        side = axes.get_yaxis_transform()
        axes.text(0.02, at, "does not vary", transform=side, va="center", size=10, color=MUTED)
        return
    if np.isfinite(low) and np.isfinite(high):
        axes.plot([low, high], [at, at], color=FINDING, linewidth=1.8, solid_capstyle="round")
    axes.plot(
        [value],
        [at],
        "o",
        markersize=6,
        markerfacecolor=FINDING,
        markeredgecolor=SURFACE,
        markeredgewidth=1,
    )
