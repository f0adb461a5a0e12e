"""Scores over the checkpoints of a series, or over the layers or positions of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from lmri.report.figures.canvas import (
    FINDING,
    INK,
    MUTED,
    RULE,
    SHAM,
    new_figure,
    place,
    style,
    to_svg,
)
from lmri.report.figures.memory import drawn_once

FLAT = 1e-9
"""Range of values below which they are drawn as a level line, not as its rounding errors."""


@drawn_once
def draw_lines(
    steps: Sequence[float],
    lines: Mapping[str, np.ndarray],
    marked: str,
    key: str,
    width: float = 430,
    axis: str = "step of training",
    level: float | None = None,
    named: bool = True,
) -> Markup:
    """Draw one line per head, or per subject.

    Parameters
    ----------
    steps : sequence of float
        Steps of training, or places in a model, ascending.
    lines : mapping of str to array of shape (n_steps,)
        Score of each by its name; NaN where it is not known.
    marked : str
        Name of the one that stands out; it is drawn last and named.
    key : str
        Distinguishes the drawing from all others of the page.
    width : float
        Width of the drawing.
    axis : str
        What the horizontal axis is.
    level : float, optional
        Score at which a line is drawn across: that of nothing special.
    named : bool
        Whether the marked one is named beside its end; long names have no room there.

    Returns
    -------
    Markup
        The drawing.
    """
    height = 0.56 * width
    left, right, bottom, top = 44, 40 if named else 12, 40, 10
    with style():
        figure = new_figure(width, height)
        axes = place(figure, left, bottom, width - left - right, height - bottom - top)
        if level is not None:
            axes.axhline(level, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for name, values in lines.items():
            if name != marked:
                axes.plot(steps, values, color=SHAM, linewidth=1, alpha=0.55)
        if marked in lines:
            values = np.asarray(lines[marked], dtype=float)
            axes.plot(steps, values, color=FINDING, linewidth=2.2, marker="D", markersize=4)
            known = np.flatnonzero(np.isfinite(values))
            if len(known) and named:
                end = known[-1]
                axes.annotate(
                    marked,
                    (steps[end], values[end]),
                    xytext=(6, 0),
                    textcoords="offset points",
                    va="center",
                    color=INK,
                    annotation_clip=False,
                )
        low, high = axes.dataLim.intervaly
        if high - low < FLAT:
            axes.set_ylim(low - 0.5, high + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.set_xlabel(axis, labelpad=3)
        return to_svg(figure, key)
