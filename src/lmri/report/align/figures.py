"""Identification by layer, decoding from few trials, and layers against layers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from lmri.report import words
from lmri.report.align.tables import SHARED, SOURCE, Alignment, Place, by_whom
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.figures.heat import draw_map
from lmri.report.view import Figure, Panel

WIDTH = 420
MOST_PAIRS = 6
"""Pairs of subjects of which layers are drawn against layers; all are in the file."""

ARMS = {
    "adapter": "adapter, shared",
    "scratch": "these trials alone",
    "permuted": "adapter, mixed up",
}


def identification_figure(rows: pd.DataFrame, place: Place, data: str) -> Figure | None:
    """Draw how well a stimulus is told from another, by layer; a panel per subject."""
    own = _of(rows, place)
    if own.empty:
        return None
    panels, told = [], []
    for subject, part in own.groupby("subject", sort=False):
        curves = []
        for by, cell in part.groupby("by", sort=False):
            faint = (cell["two_way_p"] > 0.05).tolist()
            name = f"by {by}" if by != SHARED else "shared space"
            curves.append(
                Curve(name, cell["layer"].tolist(), cell["two_way"].tolist(), faint=faint)
            )
        edge = part.groupby("layer", sort=True)["two_way_high"].max()
        line = Curve("chance, 97.5 %", edge.index.tolist(), edge.tolist())
        drawing = draw_curves(
            curves,
            f"identify-{place.task}-{place.phase}-{place.quantity}-{len(panels)}",
            names=("layer", "two-way identification"),
            line=line,
            level=0.5,
            width=WIDTH,
        )
        panels.append(Panel(drawing, title=str(subject)))
        best = part.loc[part["two_way"].idxmax()]
        told.append(
            f"{subject}: at most {words.number(best['two_way'])}, by "
            f"{by_whom(best['by'], own['subject'].nunique())} in layer "
            f"{best['layer']}"
        )
    n = int(own["n"].iloc[0])
    return Figure(
        title=f"Which of {n} stimuli was it? {_name(place)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Good: points above the dashed line, the 97.5 % quantile of the same score with places "
            "(and what else trials share) exchanged. The map between subjects is fitted on other "
            "entities, so a place that neither space was fitted on is recognised."
        ),
        falsify=(
            "Bad: hollow points, or a score that rests on conditions: the table has it among "
            "stimuli of one condition too. Chance is .5."
        ),
        source=SOURCE,
        data=data,
        layout="medium",
    )


def transfer_figure(rows: pd.DataFrame, place: Place, data: str) -> Figure | None:
    """Draw decoding of a new subject over the number of trials, in its most readable layer."""
    own = _of(rows, place)
    if own.empty:
        return None
    panels, told = [], []
    for subject, part in own.groupby("subject", sort=False):
        reach = part[part["arm"] == "all"]
        layer = int(reach.loc[reach["accuracy"].idxmax(), "layer"])
        part = part[part["layer"] == layer]
        curves = []
        for arm, name in ARMS.items():
            cell = part[part["arm"] == arm].sort_values("trials")
            ends = cell["low"].tolist(), cell["high"].tolist()
            curves.append(Curve(name, cell["trials"].tolist(), cell["accuracy"].tolist(), *ends))
        most = part[part["arm"] == "all"].sort_values("trials")
        line = Curve("all trials", most["trials"].tolist(), most["accuracy"].tolist())
        drawing = draw_curves(
            curves,
            f"transfer-{place.task}-{place.phase}-{place.quantity}-{len(panels)}",
            names=("trials of each condition", "balanced accuracy"),
            line=line,
            level=1 / int(part["classes"].iloc[0]),
            width=WIDTH,
        )
        panels.append(Panel(drawing, title=f"{subject}, layer {layer}"))
        few = part[part["trials"] == part["trials"].min()].set_index("arm")["accuracy"]
        told.append(
            f"{subject}, layer {layer}, fewest trials: adapter {words.number(few['adapter'])}, "
            f"decoder of these trials {words.number(few['scratch'])}, mixed up "
            f"{words.number(few['permuted'])}"
        )
    return Figure(
        title=f"Conditions of a new subject from few trials: {_name(place)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Good: the adapter above the decoder that is trained from the same trials alone, and "
            "far above that of mixed-up trials. The thin line is chance, the dashed one a decoder "
            "of all trials of the subject; bars are 90 % of the draws of trials. The layer is the "
            "one where the dashed line is highest."
        ),
        falsify=(
            "Bad: an adapter below the decoder of these trials: what other subjects share is then "
            "no help, and the condition is easily read without them. An adapter that mixed-up "
            "trials serve as well uses no correspondence."
        ),
        source=SOURCE,
        data=data,
        layout="medium",
    )


def layers_figure(alignment: Alignment, place: Place, measure: str, data: str) -> Figure | None:
    """Draw CKA or RSA of all layers of a pair of subjects."""
    own = alignment.found[place]
    if measure not in own:
        return None
    names = [str(name) for name in own["subject"].values]
    panels, told = [], []
    for a, b in list(combinations(names, 2))[:MOST_PAIRS]:
        values = own[measure].sel(subject=a, other=b).values
        rows, columns = (np.isfinite(values).any(axis=axis) for axis in (1, 0))
        if not rows.any():
            continue
        layers = own["layer"].values
        shown = values[np.ix_(rows, columns)]
        drawing = draw_map(
            shown,
            [],
            1.0,
            f"{measure}-{place.task}-{place.phase}-{place.quantity}-{len(panels)}",
            width=300,
            axes_names=(f"layer of {words.short(b)}", "layer"),
            rows=[str(layer) for layer in layers[rows]],
            columns=[str(layer) for layer in layers[columns]],
            scale_name=measure.upper(),
        )
        panels.append(Panel(drawing, title=f"{a} and {b}"))
        at = np.unravel_index(np.nanargmax(shown), shown.shape)
        told.append(
            f"{a} and {b}: at most {words.number(shown[at])}, layer {layers[rows][at[0]]} with "
            f"layer {layers[columns][at[1]]}"
        )
    if not panels:
        return None
    texts = MEASURES[measure]
    return Figure(
        title=f"{texts[0]}: {_name(place)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=texts[1],
        falsify=texts[2],
        source=SOURCE,
        data=data,
        layout="medium",
    )


MEASURES = {
    "cka": (
        "Kernel alignment of layers (debiased CKA)",
        "Good: an orange diagonal: layers of equal depth order the trials alike.",
        "Bad: a value within the null of the table. Trials that share a place are alike in any "
        "layer that sees the place, so the null is not 0.",
    ),
    "rsa": (
        "Distances between items of layers (crossnobis RSA)",
        "Good: an orange diagonal: items that are far apart in one subject are in the other.",
        "Bad: intervals in the table that hold 0; with few items they are wide.",
    ),
}


def _of(rows: pd.DataFrame, place: Place) -> pd.DataFrame:
    if rows.empty:
        return rows
    chosen = (rows["task"] == place.task) & (rows["phase"] == place.phase)
    return rows[chosen & (rows["quantity"] == place.quantity)]


def _name(place: Place) -> str:
    return (
        f"{words.readable(place.quantity)} of {words.readable(place.task)}, "
        f"{words.phase_name(place.phase)}"
    )
