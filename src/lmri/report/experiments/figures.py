"""Figures that experiments declare, a panel for each subject."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from markupsafe import Markup

from lmri.report import words
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.figures.heat import LETTER, draw_map
from lmri.report.figures.rows import Mark, draw_rows
from lmri.report.view import Figure, Panel

WIDTH = 430


def draw_declared(figure: dict, table: pd.DataFrame, key: str, source: str, data: str) -> Figure:
    """Draw a figure that an experiment declares.

    Parameters
    ----------
    figure : dict
        As in ``outcome.json``.
    table : DataFrame
        The table of all subjects; ``subject`` says whose a row is.
    key : str
        Distinguishes it from all others of the page.
    source, data : str
        Where the numbers come from; where they are repeated.

    Returns
    -------
    Figure
        A panel for each subject that has rows.
    """
    draw = DRAWINGS[figure["kind"]]
    limit = _limit(figure, table)
    panels = [
        Panel(draw(figure, own, f"{key}-{number}", limit), title=str(subject))
        for number, (subject, own) in enumerate(table.groupby("subject", sort=False))
    ]
    return Figure(
        title=figure["title"],
        panels=panels,
        alt=_told(figure, table),
        look_for=figure["caption"],
        falsify=figure["against"],
        source=source,
        data=data,
        layout="medium",
    )


def _lines(figure: dict, table: pd.DataFrame, key: str, limit: float) -> Markup:
    curves = [
        Curve(
            name,
            *(own[figure[axis]].to_numpy(dtype=float) for axis in ("x", "y")),
            *(own[figure[end]].to_numpy(dtype=float) for end in ("low", "high") if _bound(figure)),
        )
        for name, own in _series(figure, table)
    ]
    names = words.readable(figure["x"]), words.readable(figure["y"])
    room = max(150.0, LETTER * max(len(curve.name) for curve in curves) + 44)
    return draw_curves(curves, key, names=names, width=WIDTH - 150 + room, room=room)


def _rows(figure: dict, table: pd.DataFrame, key: str, limit: float) -> Markup:
    marks = [
        Mark(
            words.readable(row[figure["x"]]),
            name,
            float(row[figure["y"]]),
            *(float(row[figure[end]]) for end in ("low", "high") if _bound(figure)),
        )
        for name, own in _series(figure, table)
        for row in own.to_dict("records")
    ]
    bars = figure["kind"] == "bars"
    return draw_rows(marks, key, axis=words.readable(figure["y"]), bars=bars, width=WIDTH)


def _heat(figure: dict, table: pd.DataFrame, key: str, limit: float) -> Markup:
    wide = table.pivot_table(
        index=figure["y"], columns=figure["x"], values=figure["series"], sort=False
    )
    return draw_map(
        wide.to_numpy(dtype=float),
        [],
        limit,
        key,
        width=WIDTH,
        axes_names=(words.readable(figure["x"]), words.readable(figure["y"])),
        rows=[words.readable(name) for name in wide.index],
        columns=[words.readable(name) for name in wide.columns],
        scale_name=words.readable(figure["series"]),
    )


DRAWINGS: dict[str, Callable[[dict, pd.DataFrame, str, float], Markup]] = {
    "line": _lines,
    "dots": _rows,
    "bars": _rows,
    "heat": _heat,
}
"""By the kind of a figure."""


def _bound(figure: dict) -> bool:
    return figure["low"] is not None and figure["high"] is not None


def _series(figure: dict, table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    if figure["series"] is None:
        return [(words.readable(figure["y"]), table)]
    groups = table.groupby(figure["series"], sort=False)
    return [(words.readable(str(name)), own) for name, own in groups]


def _limit(figure: dict, table: pd.DataFrame) -> float:
    """Of the colours of a heat map, the same for all subjects."""
    if figure["kind"] != "heat":
        return 1.0
    most = np.nanmax(np.abs(table[figure["series"]].to_numpy(dtype=float)), initial=0.0)
    return float(f"{most:.2g}") or 1.0


def _told(figure: dict, table: pd.DataFrame) -> str:
    """The numbers in words: the range in each subject."""
    value = figure["series"] if figure["kind"] == "heat" else figure["y"]
    told = [
        f"{subject}: {words.readable(value)} from {words.number(own[value].min())} to "
        f"{words.number(own[value].max())}"
        for subject, own in table.groupby("subject", sort=False)
    ]
    return f"{'; '.join(told)}."
