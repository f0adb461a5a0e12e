"""Many units: their distribution by layer, those selected in colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from lmri.report.figures.canvas import MUTED, new_figure, place, style, to_svg
from lmri.report.figures.heat import POSITIVE_RGB
from lmri.report.figures.memory import drawn_once

GREY_RGB = (0x7F, 0x89, 0x92)
"""Legible on the cards of both schemes."""

FAINTEST = 90
"""Opacity, of 255, of a step with one unit: a single strong unit must be seen."""


@drawn_once
def draw_strips(
    edges: np.ndarray,
    units: np.ndarray,
    selected: np.ndarray,
    layers: Sequence[int],
    key: str,
    width: float = 430,
    name: str = "score",
) -> Markup:
    """Draw how the scores of each layer are distributed.

    Parameters
    ----------
    edges : array of shape (n_bins + 1,)
        Borders of the steps of the score.
    units, selected : array of shape (n_layers, n_bins)
        Units in each step, and those of them that the map selects.
    layers : sequence of int
        Numbers of the layers.
    key : str
        Distinguishes the drawing from all others of the page.
    width : float
        Width of the drawing.
    name : str
        What the horizontal axis measures.

    Returns
    -------
    Markup
        One row per layer; at its right, how many units of it are selected.
    """
    left, right, bottom, top = 44, 66, 40, 22
    row = float(np.clip(360 / len(layers), 9, 26))
    height = row * len(layers)
    with style():
        figure = new_figure(width, bottom + height + top)
        axes = place(figure, left, bottom, width - left - right, height)
        axes.imshow(
            shades(units, selected),
            origin="lower",
            aspect="auto",
            interpolation="none",
            extent=(edges[0], edges[-1], -0.5, len(layers) - 0.5),
        )
        shown = range(0, len(layers), max(1, -(-len(layers) // 12)))
        axes.set_yticks(list(shown))
        axes.set_yticklabels([str(layers[at]) for at in shown])
        axes.set_ylabel("layer", labelpad=6)
        axes.set_xlabel(name, labelpad=3)
        axes.tick_params(length=3)
        side = {"transform": axes.get_yaxis_transform(), "size": 10, "color": MUTED}
        for at in shown:
            count = f"{int(selected[at].sum())}"
            axes.text(1.04, at, count, va="center_baseline", **side)
        axes.text(1.0, len(layers) - 0.5 + 8 / row, "selected", va="center", **side)
        return to_svg(figure, key)


def shades(units: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Colour steps of a distribution: opacity by the logarithm of the number of units.

    Parameters
    ----------
    units, selected : array of shape (n_layers, n_bins)
        Units in each step, and those of them that are selected.

    Returns
    -------
    array of shape (n_layers, n_bins, 4), uint8
        Orange where a selected unit is, grey elsewhere, transparent without units.
    """
    pixels = np.zeros((*units.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.where((selected > 0)[..., None], POSITIVE_RGB, GREY_RGB)
    scale = np.log1p(units) / np.log1p(max(int(units.max(initial=0)), 1))
    opacity = np.round(FAINTEST + (255 - FAINTEST) * scale)
    opacity = np.where(selected > 0, np.maximum(opacity, 200), opacity)
    pixels[..., 3] = np.where(units > 0, opacity, 0)
    return pixels
