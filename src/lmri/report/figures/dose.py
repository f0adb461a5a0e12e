"""Dose-response: a score against the number of units switched off, with all control draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from lmri.report.figures.canvas import (
    FINDING,
    LAYER_MATCHED,
    LOAD_MATCHED,
    MARGIN,
    MASSIVE_MATCHED,
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

CONTROLS = {
    "sham": (SHAM, "o", -0.17),
    "layer_matched": (LAYER_MATCHED, "^", 0.17),
    "load_matched": (LOAD_MATCHED, "s", 0.32),
    "massive_matched": (MASSIVE_MATCHED, "v", -0.38),
}
"""Colour, marker and sideways shift of each kind of control draw."""


@drawn_once
def draw_dose(
    arms: pd.DataFrame,
    doses: Sequence[int],
    primary_dose: int | None,
    key: str,
    margin: float | None = None,
    size: tuple[float, float] = (460, 360),
    lowest: float = 0.0,
    many: str = "experts",
) -> Markup:
    """Draw one dose-response curve.

    Parameters
    ----------
    arms : DataFrame
        Rows of ``arms.parquet`` of one condition, score and mode: the finding and its controls,
        which are drawn by their change from their own intact score.
    doses : sequence of int
        Numbers of units, ascending.
    primary_dose : int or None
        The dose to mark.
    key : str
        Distinguishes the drawing from all others of the page.
    margin : float, optional
        Half the height of the band around the intact score that counts as no effect.
    size : tuple of float
        Width and height of the drawing.
    lowest : float
        Where the vertical axis of a share begins.
    many : str
        Plural of the units, for the axis.

    Returns
    -------
    Markup
        The drawing.
    """
    width, height = size
    compact = width < 300
    left, right, bottom, top = (38, 6, 40, 8) if compact else (44, 8, 42, 12)
    places = {dose: position for position, dose in enumerate([0, *doses])}
    with style():
        figure = new_figure(width, height)
        axes = place(figure, left, bottom, width - left - right, height - bottom - top)
        finding = arms[arms["arm"] == "finding"].sort_values("dose", kind="stable")
        if primary_dose in places:
            axes.axvspan(
                places[primary_dose] - 0.45,
                places[primary_dose] + 0.45,
                color=RULE,
                alpha=0.45,
                lw=0,
            )
        intact = float(finding["intact"].iloc[0]) if len(finding) else None
        if margin is not None and intact is not None:
            axes.axhspan(intact - margin, intact + margin, color=MARGIN, alpha=0.18, lw=0)
        _draw_controls(axes, arms, places, compact, intact)
        _draw_finding(axes, finding, places, compact)
        _finish(axes, places, arms, lowest, compact, many)
        return to_svg(figure, key)


def spread(values: np.ndarray, reach: float, bins: int = 40) -> np.ndarray:
    """Shift dots sideways so that equal values do not hide each other.

    Parameters
    ----------
    values : array of shape (n_draws,)
        Heights of the dots.
    reach : float
        Largest shift, to either side.
    bins : int
        Values this fraction of their range apart count as equal.

    Returns
    -------
    array of shape (n_draws,)
        Shifts in [-reach, reach], symmetrical about 0 in every bin.
    """
    values = np.asarray(values, dtype=float)
    shifts = np.zeros(len(values))
    groups = np.round(values * bins).astype(int)
    largest = max((np.sum(groups == group) for group in np.unique(groups)), default=1)
    step = min(2 * reach / max(largest - 1, 1), reach / 3)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        shifts[members] = (np.arange(len(members)) - (len(members) - 1) / 2) * step
    return shifts


def _draw_controls(
    axes: Axes, arms: pd.DataFrame, places: dict[int, int], compact: bool, intact: float | None
) -> None:
    for arm, (colour, marker, shift) in CONTROLS.items():
        rows = arms[(arms["arm"] == arm) & arms["dose"].isin(list(places))]
        for dose, draws in rows.groupby("dose", sort=True):
            draws = draws.sort_values("draw", kind="stable")
            changes = draws["value"].to_numpy(float) - draws["intact"].to_numpy(float)
            # Controls may be run on fewer trials, whose intact score is another one.
            own = draws["intact"].to_numpy(float) if intact is None else intact
            values = changes + own
            reach = 0.15 if arm == "sham" else 0.06
            axes.plot(
                places[int(dose)] + shift + spread(values, reach),
                values,
                linestyle="none",
                marker=marker,
                markersize=2.4 if compact else 3.6,
                markerfacecolor=colour,
                markeredgecolor="none",
                alpha=0.6,
                clip_on=False,
                zorder=2,
            )


def _draw_finding(axes: Axes, finding: pd.DataFrame, places: dict[int, int], compact: bool) -> None:
    finding = finding[finding["dose"].isin(list(places))]
    if finding.empty:
        return
    intact = finding["intact"].to_numpy(float)
    x = np.array([0, *(places[int(dose)] for dose in finding["dose"])])
    y = np.array([intact[0], *finding["value"]])
    # The interval in the file is that of the change, so it is put about the changed score.
    low = y - np.array([intact[0], *(intact + finding["low"].to_numpy(float))])
    high = np.array([intact[0], *(intact + finding["high"].to_numpy(float))]) - y
    axes.errorbar(
        x,
        y,
        yerr=np.clip(np.nan_to_num(np.stack([low, high])), 0, None),
        color=FINDING,
        linewidth=1.4 if compact else 2.2,
        elinewidth=1.2 if compact else 1.6,
        capsize=0,
        marker="D",
        markersize=4 if compact else 6.5,
        markeredgecolor=SURFACE,
        markeredgewidth=0.8,
        clip_on=False,
        zorder=4,
    )


def _finish(
    axes: Axes,
    places: dict[int, int],
    arms: pd.DataFrame,
    lowest: float,
    compact: bool,
    many: str,
) -> None:
    axes.set_xlim(-0.4, len(places) - 0.5)
    axes.set_xticks(list(places.values()))
    axes.set_xticklabels([str(dose) for dose in places])
    values = arms["value"].to_numpy(float)
    if len(values) == 0 or (np.nanmin(values) >= 0 and np.nanmax(values) <= 1):
        axes.set_ylim(lowest - 0.03 * (1 - lowest), 1 + 0.03 * (1 - lowest))
        ticks = np.linspace(lowest, 1, 3 if compact else 5)
        axes.set_yticks(ticks)
        axes.set_yticklabels([f"{tick:.2f}".rstrip("0").rstrip(".") for tick in ticks])
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    size = 12 if compact else 11
    axes.tick_params(length=0, labelsize=size)
    what = "forced on" if set(arms["mode"]) - {"none"} == {"force"} else "switched off"
    axes.set_xlabel(f"{many} {what}", labelpad=2, size=size, color=MUTED)
