"""An effect beside those of every control draw of every kind, a dot each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from lmri.report.figures.canvas import (
    FINDING,
    INK,
    MARGIN,
    RULE,
    SHAM,
    SURFACE,
    new_figure,
    place,
    style,
    to_svg,
)
from lmri.report.figures.memory import drawn_once
from lmri.report.figures.shams import BIN, NAME_GAP

ROW = 44
"""Height of a row."""

REACH = 0.34
"""Height of a stack of dots, on either side of the middle of its row, of rows."""


@drawn_once
def draw_controls(
    draws: Mapping[str, Sequence[float]],
    finding: tuple[float, float, float],
    margin: float,
    label: str,
    key: str,
) -> Markup:
    """Draw the effects of all control draws below that of the finding.

    Parameters
    ----------
    draws : mapping of str to sequence of float
        Effects by the name of the control, in the order of the rows.
    finding : tuple of float
        Effect, low and high end of its interval; NaN where there is none.
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
    width, bottom, left = 480, 44, 150
    height = bottom + ROW * (1 + len(draws)) + 8
    values = [float(v) for own in draws.values() for v in own if np.isfinite(v)]
    ends = [*values, *(end for end in finding if np.isfinite(end)), -margin, margin]
    with style():
        figure = new_figure(width, height)
        axes = place(figure, left, bottom, width - left - 8, height - bottom - 8)
        axes.axvspan(-margin, margin, color=MARGIN, alpha=0.18, lw=0)
        axes.axvline(0, color=RULE, linewidth=1)
        if np.isfinite(finding[0]):
            axes.plot(finding[1:], [0, 0], color=FINDING, linewidth=2.4, solid_capstyle="round")
            axes.plot(
                *([finding[0]], [0], "D"),
                markersize=9,
                color=FINDING,
                markeredgecolor=SURFACE,
                zorder=4,
            )
        for row, own in enumerate(draws.values(), start=1):
            x, shift = swarm(np.asarray(own, dtype=float))
            axes.plot(x, row + shift, "o", markersize=3.2, color=SHAM, alpha=0.7, markeredgewidth=0)
        names = ["finding", *(f"{name} ({len(own)})" for name, own in draws.items())]
        for row, name in enumerate(names):
            axes.text(
                *(NAME_GAP, row, name),
                transform=axes.get_yaxis_transform(),
                ha="right",
                va="center",
                size=11,
                color=INK,
            )
        axes.set_yticks([])
        axes.set_ylim(len(draws) + 0.5, -0.5)
        axes.set_xlim(min([*ends, -0.2]) - 0.03, max([*ends, 1.0]) + 0.03)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0, labelsize=12)
        axes.set_xlabel(label, labelpad=4, size=12)
        return to_svg(figure, key)


def swarm(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spread equal values about the middle of a row.

    Parameters
    ----------
    values : ndarray of shape (n_draws,)
        Effects; NaN are dropped.

    Returns
    -------
    x, shift : ndarray of shape (n_draws,)
        Centre of the bin, and how far from the middle each dot stands.
    """
    values = np.sort(values[np.isfinite(values)])
    centres = np.round(values / BIN) * BIN
    shifts = np.zeros(len(centres))
    for centre in np.unique(centres):
        members = np.flatnonzero(centres == centre)
        reach = min(REACH, 0.04 * (len(members) - 1))
        shifts[members] = np.linspace(-reach, reach, len(members)) if len(members) > 1 else 0.0
    return centres, shifts
