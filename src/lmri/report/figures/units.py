"""The strongest units of a map with many, above the distribution of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from lmri.report.figures.canvas import (
    FINDING,
    INK,
    MUTED,
    RULE,
    SHAM,
    SURFACE,
    new_figure,
    place,
    style,
    to_svg,
)
from lmri.report.figures.memory import drawn_once
from lmri.report.figures.strips import shades
from lmri.report.words import short

ROW = 17
"""Height of a row."""


@drawn_once
def draw_units(
    names: Sequence[str],
    scores: np.ndarray,
    errors: np.ndarray,
    selected: np.ndarray,
    distribution: tuple[np.ndarray, np.ndarray],
    total: str,
    axis: str,
    key: str,
    width: float = 330,
) -> Markup:
    """Draw a row per unit, the strongest first, and one of all units.

    Parameters
    ----------
    names : sequence of str
        Names of the strongest units.
    scores, errors : array of shape (n_units,)
        Their scores, with half of the width of their intervals; NaN draws none.
    selected : array of shape (n_units,), bool
        Whether a unit is drawn full.
    distribution : tuple of arrays of shape (n_bins + 1,) and (n_bins,)
        Borders of steps of the score, and how many of all units are in each.
    total : str
        Name of the row of all units.
    axis : str
        What the horizontal axis measures.
    key : str
        Distinguishes the drawing from all others of the page.
    width : float
        Width of the drawing.

    Returns
    -------
    Markup
        The drawing.
    """
    edges, counts = distribution
    scores, errors = np.asarray(scores, float), np.nan_to_num(np.asarray(errors, float))
    names, total = [short(name) for name in names], short(total)
    longest = max(len(name) for name in (*names, total))
    left, right, bottom, top = 14 + 6 * longest, 12, 40, 6
    rows = len(names)
    at = np.arange(rows, 0, -1.0)  # the row of all units is 0
    filled = np.flatnonzero(counts)
    first, last = (filled[0], filled[-1] + 1) if len(filled) else (0, len(counts))
    low = min([0.0, edges[first], *(scores - errors)])
    high = max([0.0, edges[last], *(scores + errors)])
    with style():
        figure = new_figure(width, bottom + ROW * (rows + 1) + top)
        axes = place(figure, left, bottom, width - left - right, ROW * (rows + 1))
        axes.axvline(0, color=RULE, linewidth=1)
        axes.imshow(
            shades(counts[None], np.zeros_like(counts)[None]),
            aspect="auto",
            interpolation="none",
            extent=(edges[0], edges[-1], -0.3, 0.3),
        )
        for row, score, error, full in zip(at, scores, errors, selected, strict=True):
            colour = FINDING if full else SHAM
            axes.plot([score - error, score + error], [row, row], color=colour, linewidth=1.6)
            axes.plot(
                [score],
                [row],
                "o",
                markersize=5.5,
                markerfacecolor=FINDING if full else SURFACE,
                markeredgecolor=colour,
                markeredgewidth=1.4,
            )
        axes.set_yticks([*at, 0])
        axes.set_yticklabels([*names, total], color=INK)
        axes.set_ylim(-0.6, rows + 0.6)
        axes.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, axis="y")
        axes.tick_params(length=3, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(axis, labelpad=3, color=MUTED)
        return to_svg(figure, key)
