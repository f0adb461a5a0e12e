"""The deciding comparison: the finding's effect beside the effects of all sham maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from lmri.report.figures.canvas import (
    FINDING,
    INK,
    MARGIN,
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

BIN = 0.02
"""Effects this near to each other are stacked."""

FINDING_ROW, POSITIVE_ROW, SHAM_ROW = 3.0, 2.1, 0.1
STACK_HEIGHT = 1.25
DOT_STEP = 0.085
LINE_HEIGHT = 0.27
NAME_GAP = -0.03
"""Right end of the names of the rows, as a share of the width of the axes."""


@drawn_once
def draw_shams(
    shams: Sequence[float],
    finding: tuple[float, float, float],
    positive: tuple[float, float, float],
    margin: float,
    label: str,
    key: str,
) -> Markup:
    """Draw the effects at the primary endpoint.

    Parameters
    ----------
    shams : sequence of float
        Effect of each sham map.
    finding, positive : tuple of float
        Effect, low and high end of its interval, of the finding and of the positive control; NaN
        where there is none.
    margin : float
        Effects within it count as none.
    label : str
        What the horizontal axis shows.
    key : str
        Distinguishes the drawing from all others of the page.

    Returns
    -------
    Markup
        The drawing.
    """
    width, height, bottom = 480, 270, 44
    left = 84  # room for the names of the rows
    with style():
        figure = new_figure(width, height)
        axes = place(figure, left, bottom, width - left - 8, height - bottom - 8)
        axes.axvspan(-margin, margin, color=MARGIN, alpha=0.18, lw=0)
        axes.axvline(0, color=RULE, linewidth=1)
        _whisker(axes, finding, FINDING_ROW, FINDING, "D", filled=True)
        _whisker(axes, positive, POSITIVE_ROW, POSITIVE, "s", filled=False)
        x, y = stack(np.asarray(shams, dtype=float))
        axes.plot(x, y, "o", markersize=3.8, color=SHAM, alpha=0.75, markeredgewidth=0)
        _name(axes, FINDING_ROW, "finding")
        _name(axes, POSITIVE_ROW, "positive", "control")
        _name(axes, SHAM_ROW + STACK_HEIGHT / 2, str(len(x)), "sham maps")
        axes.set_yticks([])
        axes.set_ylim(-0.08, 3.75)
        axes.set_xlim(*_range([*x, *finding, *positive, -margin, margin]))
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, labelsize=12)
        axes.set_xlabel(label, labelpad=4, size=12)
        return to_svg(figure, key)


def stack(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stack values that are nearly equal, each at its own place.

    Parameters
    ----------
    values : array of shape (n_draws,)
        Effects; NaN are dropped.

    Returns
    -------
    x, y : array of shape (n_draws,)
        Value and height of each dot; columns too tall are pressed together.
    """
    values = np.sort(values[np.isfinite(values)])
    columns = np.round(values / BIN)
    order = np.zeros(len(values))
    for column in np.unique(columns):
        members = np.flatnonzero(columns == column)
        order[members] = np.arange(len(members))
    step = min(DOT_STEP, STACK_HEIGHT / max(order.max(initial=0), 1))
    return values, SHAM_ROW + order * step


def _name(axes: Axes, row: float, *lines: str) -> None:
    """Name a row, left of the axes: inside them the band would run through the words."""
    top = row + LINE_HEIGHT * (len(lines) - 1) / 2
    for number, line in enumerate(lines):
        axes.text(
            NAME_GAP,
            top - LINE_HEIGHT * number,
            line,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            size=12,
            color=INK,
        )


def _whisker(
    axes: Axes,
    effect: tuple[float, float, float],
    y: float,
    colour: str,
    marker: str,
    filled: bool,
) -> None:
    value, low, high = effect
    if not np.isfinite(value):
        across = axes.get_yaxis_transform()
        axes.text(0, y, "not run", transform=across, va="center", size=12, color=MUTED)
        return
    axes.plot([low, high], [y, y], color=colour, linewidth=2.4, solid_capstyle="round")
    axes.plot(
        [value],
        [y],
        marker=marker,
        markersize=9,
        markerfacecolor=colour if filled else SURFACE,
        markeredgecolor=SURFACE if filled else colour,
        markeredgewidth=1 if filled else 2,
        zorder=4,
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    known = [value for value in values if np.isfinite(value)]
    low, high = min([*known, -0.2]), max([*known, 1.0])
    return low - 0.03, high + 0.03
