"""Information planes, and compression by layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import pandas as pd
from markupsafe import Markup

from lmri.report import words
from lmri.report.bottleneck.names import (
    activation_name,
    channel_name,
    layer_name,
    penalised,
    setting_name,
)
from lmri.report.bottleneck.tables import SOURCE
from lmri.report.figures.canvas import INK, RULE, SURFACE, new_figure, place, style, to_svg
from lmri.report.figures.curves import COLOURS, Curve, draw_curves
from lmri.report.figures.memory import drawn_once
from lmri.report.view import Figure, Panel

PLANE = "ebab"
"""Channel of the planes; others are in the file."""

OUTPUT = "output"
"""The layer after the softmax."""

WIDTH = 430
"""Width of a panel, of which three are side by side."""

STEP = 0.05
"""Layers between the curves of a figure, so that intervals do not hide each other."""


def plane_figure(planes: pd.DataFrame, data: str) -> Figure | None:
    """Draw the information plane of every setting.

    Parameters
    ----------
    planes : DataFrame
        Mean information by setting, channel, layer and epoch.
    data : str
        File with all rows.

    Returns
    -------
    Figure or None
        None without rows.
    """
    rows = planes[planes["channel"] == PLANE]
    if rows.empty:
        return None
    ends = float(rows["i_xt"].max()) * 1.04, float(rows["i_ty"].max()) * 1.04
    panels = [
        Panel(_draw_plane(own, f"plane-{number}", ends), title=setting_name(own.iloc[0]))
        for number, (_, own) in enumerate(rows.groupby("setting", sort=False))
    ]
    last = rows["epoch"].max()
    return Figure(
        title="Information planes, averaged over initialisations",
        panels=panels,
        alt=(
            f"For {words.plural(len(panels), 'setting')}: what every layer tells of the input and "
            f"of the label, from the untrained networks to epoch {last}."
        ),
        look_for=(
            "A path that ends to the left of its own rightmost point has lost information about "
            "the input. Open circles are the untrained networks, filled ones the end of training; "
            f"the channel is {channel_name(PLANE)}."
        ),
        falsify=(
            "Paths that only go right and up: fitting without compression. At the right border "
            "every input has a symbol of its own, and nothing there can be read as information. "
            "An average can bend where no single network does, and the other way round."
        ),
        source=SOURCE.format("planes"),
        data=data,
        layout="medium",
    )


def compression_figure(compression: pd.DataFrame, data: str, *, with_l2: bool) -> Figure | None:
    """Draw compression by layer, a panel per channel and a curve per activation.

    Parameters
    ----------
    compression : DataFrame
        Mean compression by setting, channel and layer.
    data : str
        File with all rows.
    with_l2 : bool
        Whether to show settings with a penalty, or those without.

    Returns
    -------
    Figure or None
        None without rows.
    """
    # Of a setting in which nothing was learned there is nothing to draw; the networks say so.
    rows = compression[(penalised(compression) == with_l2) & (compression["n"] > 0)]
    if rows.empty:
        return None
    layers = list(dict.fromkeys(rows["layer"]))
    penalties = sorted(rows["l2"].unique())
    name_of = setting_name if len(penalties) > 1 else lambda row: activation_name(row["activation"])
    # One scale for all channels: they are there to be compared.
    top = min(1.0, 1.05 * float(rows[["compression", "high"]].max(axis=None)))
    panels = []
    for number, (channel, own) in enumerate(rows.groupby("channel", sort=False)):
        settings = list(own.groupby("setting", sort=False))
        middle = (len(settings) - 1) / 2
        curves = [
            Curve(
                name_of(one.iloc[0]),
                [layers.index(layer) + 1 + STEP * (place - middle) for layer in one["layer"]],
                *(one[name].tolist() for name in ("compression", "low", "high")),
            )
            for place, (_, one) in enumerate(settings)
        ]
        names = (f"layer ({len(layers)} is the output)", "compression")
        drawing = draw_curves(
            curves,
            f"compression-{int(with_l2)}-{number}",
            names=names,
            level=0.0,
            top=top,
            width=WIDTH,
        )
        panels.append(Panel(drawing, title=channel_name(str(channel))))
    hidden = rows[rows["layer"] != layers[-1]]
    means = hidden.groupby(["activation", "channel"], sort=False)["compression"].mean()
    told = [
        f"{activation_name(name)} {words.number(own.min())} to {words.number(own.max())}"
        for name, own in means.groupby("activation", sort=False)
    ]
    return Figure(
        title=f"Compression by layer, {_penalty(penalties) if with_l2 else 'without L2'}",
        panels=panels,
        alt=f"Mean of the hidden layers over the channels: {'; '.join(told)}.",
        look_for=(
            "Curves above 0 in every panel: the layer has lost a share of the largest "
            "information it had. Lines up and down are 95 % intervals over initialisations."
        ),
        falsify=(
            "Panels that disagree: what is lost in one channel alone is a matter of its bins or "
            "its noise. The score is never below 0, so small values are no finding."
        ),
        source=SOURCE.format("compression"),
        data=data,
        layout="medium",
    )


def _penalty(penalties: Sequence[float]) -> str:
    return f"with L2 {words.listing(f'{own:g}' for own in penalties)}"


@drawn_once
def _draw_plane(rows: pd.DataFrame, key: str, ends: Sequence[float]) -> Markup:
    """Draw the path of every layer in one plane."""
    width, height = 400, 300
    with style():
        figure = new_figure(width, height)
        axes = place(figure, 46, 40, width - 46 - 88, height - 50)
        for (layer, own), colour in zip(
            rows.groupby("layer", sort=False), cycle((*COLOURS, INK)), strict=False
        ):
            path = own.sort_values("epoch")
            x, y = path["i_xt"].to_numpy(), path["i_ty"].to_numpy()
            line = "--" if layer == OUTPUT else "-"
            axes.plot(x, y, line, color=colour, linewidth=1.4, label=layer_name(str(layer)))
            axes.plot(x[:1], y[:1], "o", color=colour, markerfacecolor=SURFACE, markersize=5)
            axes.plot(x[-1:], y[-1:], "o", color=colour, markersize=6)
        axes.set_xlim(0, ends[0])
        axes.set_ylim(0, ends[1])
        axes.grid(color=RULE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.set_xlabel("I(X;T), nat", labelpad=3)
        axes.set_ylabel("I(T;Y), nat", labelpad=5)
        where = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}
        axes.legend(frameon=False, fontsize=10, labelcolor=INK, handlelength=1.2, **where)
        return to_svg(figure, key)
