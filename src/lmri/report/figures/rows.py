"""Values with their intervals, a row for each name, several marks in a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from lmri.report.figures.canvas import INK, RULE, SURFACE, new_figure, place, style, to_svg
from lmri.report.figures.curves import COLOURS, MARKS
from lmri.report.figures.memory import drawn_once
from lmri.report.words import short

STEP = 15
"""Height of one mark."""

LONGEST = 36
"""Letters of a name."""


@dataclass(frozen=True)
class Mark:
    """One value.

    Attributes
    ----------
    row, series : str
        Name of its row; of what its colour stands for.
    value, low, high : float
        The value and its interval; NaN where there is none.
    """

    row: str
    series: str
    value: float
    low: float = math.nan
    high: float = math.nan


@drawn_once
def draw_rows(
    marks: Sequence[Mark], key: str, *, axis: str, bars: bool = False, width: float = 430
) -> Markup:
    """Draw values along a horizontal axis.

    Parameters
    ----------
    marks : sequence of Mark
        Rows stand in the order in which they come first, as do series within them.
    key : str
        Distinguishes the drawing from all others of the page.
    axis : str
        What the values are.
    bars : bool
        Whether values are bars from 0.
    width : float
        Width of the drawing.

    Returns
    -------
    Markup
        The drawing, with a key above it where there is more than one series.
    """
    rows = list(dict.fromkeys(own.row for own in marks))
    series = list(dict.fromkeys(own.series for own in marks))
    looks = dict(zip(series, zip(cycle(COLOURS), cycle(MARKS)), strict=False))
    names = [short(name, LONGEST) for name in rows]
    left, right, bottom = 16 + 6.2 * max(map(len, names), default=0), 12, 40
    top = 8 + (18 * len(series) if len(series) > 1 else 0)
    row_height = STEP * len(series) + 9
    height = row_height * len(rows)
    with style():
        figure = new_figure(width, bottom + height + top)
        axes = place(figure, left, bottom, width - left - right, height)
        axes.axvline(0, color=RULE, linewidth=1)
        for name in series:
            colour, mark = looks[name]
            own = [entry for entry in marks if entry.series == name]
            shift = STEP * (series.index(name) - (len(series) - 1) / 2)
            at = [row_height * (rows.index(entry.row) + 0.5) + shift for entry in own]
            values = [entry.value for entry in own]
            if bars:
                axes.barh(at, values, height=STEP * 0.7, color=colour, alpha=0.75, label=name)
            else:
                look = {"markersize": 6, "color": colour, "markeredgecolor": SURFACE}
                axes.plot(values, at, mark, label=name, zorder=3, **look)
            ends = [entry.low for entry in own], [entry.high for entry in own]
            axes.hlines(at, *ends, color=INK if bars else colour, linewidth=1.4)
        axes.set_yticks([row_height * (number + 0.5) for number in range(len(rows))])
        axes.set_yticklabels(names, color=INK)
        axes.set_ylim(height, 0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x", color=RULE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xlabel(axis, labelpad=3)
        if len(series) > 1:
            where = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
            axes.legend(frameon=False, fontsize=10, labelcolor=INK, **where)
        return to_svg(figure, key)
