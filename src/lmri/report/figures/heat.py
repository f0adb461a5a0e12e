"""The map: layer x unit, a diverging scale centred at zero, selected units outlined."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lmri.report.figures.canvas import INK, MUTED, new_figure, place, style, to_svg
from lmri.report.figures.memory import drawn_once
from lmri.report.words import short

# Orange and blue stay apart in every common colour deficiency. The magnitude is the opacity, so
# zero is the colour of the page in both schemes.
POSITIVE_RGB = (0xD2, 0x5F, 0x14)
NEGATIVE_RGB = (0x2F, 0x77, 0xB8)

TALLEST = 520
"""Height of the cells of a map with few columns, however many layers it has."""

LETTER, LINE = 5.4, 11.5
"""Width of a letter and height of a line of the names of columns."""


@drawn_once
def draw_map(
    score: np.ndarray,
    units: Sequence[Sequence[int]],
    limit: float,
    key: str,
    width: float = 900,
    scale_bar: bool = True,
    axes_names: tuple[str, str] = ("expert", "layer"),
    rows: Sequence[str] | None = None,
    scale_name: str = "score",
    columns: Sequence[str] | None = None,
) -> Markup:
    """Draw one map.

    Parameters
    ----------
    score : array of shape (n_layers, n_units)
        The statistic, zero where the conditions do not differ.
    units : sequence of (row, column)
        Cells to outline, best first; their rank is written inside when it fits.
    limit : float
        Score of the strongest colour; the scale runs from -limit to limit.
    key : str
        Distinguishes the drawing from all others of the page.
    width : float
        Width of the drawing.
    scale_bar : bool
        Whether to draw the scale above the map.
    axes_names : tuple of str
        What the columns and the rows are; no ticks are drawn at rows without a name.
    rows : sequence of str, optional
        Names of the rows; by default their numbers.
    scale_name : str
        What the scale measures.
    columns : sequence of str, optional
        Names of the columns, broken into lines; by default their numbers.

    Returns
    -------
    Markup
        The drawing.
    """
    n_layers, n_units = score.shape
    rows = None if rows is None else [short(name) for name in rows]
    longest = max((len(name) for name in rows or ()), default=0)
    left, right, bottom, top = max(44, 30 + 6 * longest), 8, 40, 46 if scale_bar else 8
    across = (width - left - right) / n_units
    names = None if columns is None else [_broken(name, across) for name in columns]
    bottom += LINE * max((name.count("\n") for name in names or ()), default=0)
    row = np.clip(across, 360 / n_layers if n_layers > 24 else 18, 26)
    row = min(float(row), max(TALLEST / n_layers, 9))
    with style():
        figure = new_figure(width, bottom + row * n_layers + top)
        axes = place(figure, left, bottom, width - left - right, row * n_layers)
        axes.imshow(
            colours(score, limit),
            origin="lower",
            aspect="auto",
            interpolation="none",
            extent=(-0.5, n_units - 0.5, -0.5, n_layers - 0.5),
        )
        _outline(axes, units, legible=min(across, row) >= 15)
        _label(axes, n_layers, n_units, axes_names, rows)
        if names is not None:
            axes.set_xticks(range(n_units))
            axes.set_xticklabels(names, linespacing=1.05)
        if scale_bar:
            above = bottom + row * n_layers + 27
            _scale(place(figure, left + 42, above, 190, 9), limit, scale_name)
        return to_svg(figure, key)


def colours(score: np.ndarray, limit: float) -> np.ndarray:
    """Colour a statistic: hue by sign, opacity by magnitude.

    Parameters
    ----------
    score : array of shape (n_layers, n_units)
        The statistic; NaN is transparent.
    limit : float
        Magnitude of full opacity.

    Returns
    -------
    array of shape (n_layers, n_units, 4), uint8
        Red, green, blue, opacity.
    """
    score = np.nan_to_num(np.asarray(score, dtype=float))
    pixels = np.empty((*score.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.where((score >= 0)[..., None], POSITIVE_RGB, NEGATIVE_RGB)
    pixels[..., 3] = np.round(255 * np.clip(np.abs(score) / limit, 0, 1))
    return pixels


def _outline(axes: Axes, units: Sequence[Sequence[int]], legible: bool) -> None:
    for rank, (layer, unit) in enumerate(units, start=1):
        axes.add_patch(
            Rectangle(
                (unit - 0.5, layer - 0.5),
                1,
                1,
                fill=False,
                edgecolor=INK,
                linewidth=1.8,
                clip_on=False,
                zorder=3,
            )
        )
        if legible:
            axes.text(
                unit, layer, str(rank), ha="center", va="center_baseline", size=11, weight="bold"
            )


def _label(
    axes: Axes,
    n_layers: int,
    n_units: int,
    names: tuple[str, str],
    rows: Sequence[str] | None,
) -> None:
    axes.set_xticks(_ticks(n_units, 9))
    places = _ticks(n_layers, 6 if rows is None else 24)
    axes.set_yticks(places if names[1] or rows else [])
    if rows is not None:
        axes.set_yticklabels([rows[at] for at in places])
    axes.set_xlabel(names[0], labelpad=3)
    axes.set_ylabel(names[1], labelpad=6)
    axes.tick_params(length=3)
    for spine in axes.spines.values():
        spine.set_visible(True)


def _broken(name: str, across: float) -> str:
    """Break a name into lines that fit below a column; what does not is cut."""
    most = max(int(across / LETTER), 4)
    lines = textwrap.wrap(name, most)[:3] or [""]
    return "\n".join(lines)


def _ticks(count: int, most: int) -> list[int]:
    step = next(
        step for step in (1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 64, 128, count) if count / step <= most
    )
    return list(range(0, count, step))


def _scale(axes: Axes, limit: float, name: str) -> None:
    ramp = np.linspace(-limit, limit, 101)[None, :]
    axes.imshow(
        colours(ramp, limit), aspect="auto", interpolation="none", extent=(-limit, limit, 0, 1)
    )
    axes.set_yticks([])
    axes.set_xticks([-limit, 0, limit])
    axes.set_xticklabels([f"\N{MINUS SIGN}{limit:g}", "0", f"+{limit:g}"])
    axes.tick_params(length=2, pad=1, labelsize=10)
    axes.text(
        -0.04, 0.5, name, transform=axes.transAxes, ha="right", va="center", size=10, color=MUTED
    )
