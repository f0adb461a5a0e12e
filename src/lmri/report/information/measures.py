"""Figures of resolution, codes, units, single tokens and weights, by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from lmri.report import words
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.information.figures import GREY, WIDTH, panels_figure, plain_curve
from lmri.report.information.names import SOURCE, target_name
from lmri.report.view import Figure, Panel

Profiles = Mapping[str, xr.Dataset]

CHANCE = 0.05
"""Above this p an accuracy is drawn grey."""

READERS = {"nearest": "nearest codes", "logistic": "logistic", "k_means": "clusters"}
"""Ways of reading a class off codes, each with a p of its own."""

KEYS = 64
"""Keys of which the least entropy of a head is drawn, where it was computed."""

MOST = 5
"""Layers that a resolution curve is drawn of at most: more cannot be told apart."""


def resolution_figure(
    found: Profiles, task: str, phases: Sequence[str], data: str
) -> Figure | None:
    """Draw how much of the input layers tell at each resolution."""

    def curves(own: xr.Dataset, phase: str | None) -> list[Curve]:
        drawn = []
        for layer in _spread(own["layer"].values):
            cell = own.sel(phase=phase, layer=layer)
            known = np.isfinite(cell["upper"].values)
            x = np.log10(cell["noise"].values[known])
            faint = (cell["upper_flags"].values[known] != "").tolist()
            name = f"layer {layer}" if layer >= 0 else "before the first"
            drawn.append(Curve(name, x.tolist(), cell["upper"].values[known].tolist(), faint=faint))
        return drawn

    def independent(own: xr.Dataset, phase: str | None) -> Curve:
        cell = own.sel(phase=phase).isel(layer=-1)
        x = np.log10(cell["noise"].values)
        return Curve("independent units", x.tolist(), cell["independent"].values.tolist())

    return panels_figure(
        found,
        phases,
        f"resolution-{task}",
        curves,
        names=("noise, log10 of the RMS", "nats, at most"),
        line=independent,
        title=f"At which resolution layers of {words.readable(task)} tell inputs apart",
        look_for=(
            "Good: curves that leave their ceiling, ln n, at different noise: a layer that needs "
            "less noise to lose its inputs keeps them closer together. The dashed line is what the "
            "units of the last layer would tell if they had nothing in common."
        ),
        falsify=(
            "Bad: hollow points only (at the ceiling: every input is told from every other, as in "
            "any wide layer), or curves on the dashed line, which say nothing but how many units "
            f"there are. {GREY}"
        ),
        source=SOURCE.format("resolution"),
        data=data,
    )


def code_figure(found: Profiles, task: str, phases: Sequence[str], data: str) -> Figure | None:
    """Draw how well codes alone tell classes, a panel per subject, class and phase."""
    panels, told = [], []
    for subject, own in found.items():
        for target in own["target"].values:
            for phase in (name for name in phases if name in own["phase"].values):
                cell = own.sel(target=target, phase=phase)
                chance = plain_curve("largest class", cell["chance"])
                drawn = [
                    plain_curve(name, cell[variable], _no_more(cell, variable))
                    for variable, name in READERS.items()
                ]
                drawn = [curve for curve in drawn if len(curve.x)]
                if not drawn:
                    continue
                key = f"codes-{task}-{len(panels)}"
                names = ("layer", "accuracy")
                drawing = draw_curves(drawn, key, names=names, line=chance, width=WIDTH)
                title = f"{subject}, {target_name(str(target))}, {words.phase_name(phase)}"
                panels.append(Panel(drawing, title=title))
                told.append(f"{title}: {words.number(max(drawn[0].y))} at most by nearest codes")
    if not panels:
        return None
    return Figure(
        title=f"What the pattern of units that are on tells in {words.readable(task)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Good: accuracies on trials of other carriers well above the dashed line, the share of "
            "the largest class, in the same layers by several ways. A code is which units are "
            "above 0, or which experts are chosen where neurons are those of experts."
        ),
        falsify=(
            "Bad: on or below the dashed line, or grey: classes that are exchanged among carriers "
            "do as well (p above .05). Where nearly every trial has a code of its own the file "
            "says so: any labels could then be learnt from the trials they were read off."
        ),
        source=SOURCE.format("codes"),
        data=data,
        layout="medium",
    )


def entropy_figure(found: Profiles, task: str, phases: Sequence[str], data: str) -> Figure | None:
    """Draw how evenly units use their range in each condition."""

    def curves(own: xr.Dataset, phase: str | None) -> list[Curve]:
        drawn = []
        for name in own["class"].values:
            cell = own.sel({"class": name, "phase": phase})
            mean = cell["relative"].mean("unit")
            reference = " (reference)" if name == own.attrs.get("reference") else ""
            label = f"{words.readable(str(name))}{reference}"
            drawn.append(plain_curve(label, mean, cell["flags"].values != ""))
        return drawn

    return panels_figure(
        found,
        phases,
        f"units-{task}",
        curves,
        names=("layer", "relative entropy"),
        title=f"How evenly units of {words.readable(task)} use their range",
        look_for=(
            "Good: a condition well below the reference, in some layers: its units are confined to "
            "a part of the range they have in the reference. Bins are set by reference trials of "
            "half the carriers; what is drawn, of all conditions, is of the others: the reference "
            "is what no difference looks like."
        ),
        falsify=f"Bad: all conditions on the curve of the reference. {GREY}",
        source=SOURCE.format("unit_entropy"),
        data=data,
    )


def massive_figure(found: Profiles, task: str, phases: Sequence[str], data: str) -> Figure | None:
    """Draw how far the largest dimension is above the median one."""

    def curves(own: xr.Dataset, _: str | None) -> list[Curve]:
        drawn = []
        for place in own["place"].values:
            cell = own.sel(place=place)
            faint = cell["flags"].values != ""
            name = words.place_name(str(place))
            drawn.append(plain_curve(name, cell["ratio"], faint, 2 * cell["ratio_error"].values))
        return drawn

    return panels_figure(
        found,
        [None],
        f"massive-{task}",
        curves,
        names=("layer", "largest over median"),
        linear=100.0,
        title=f"The largest activation over the median one in {words.readable(task)}",
        look_for=(
            "Good: curves below a hundred: no dimension outweighs the others. A curve that leaps "
            "up after an early layer and stays is a massive activation; then read ranks and noise "
            "in units of the root mean square with care."
        ),
        falsify=f"Bad: intervals as wide as the leap. {GREY}",
        source=SOURCE.format("massive"),
        data=data,
    )


def active_figure(found: Profiles, task: str, phases: Sequence[str], data: str) -> Figure | None:
    """Draw which share of the neurons a token needs."""

    def curves(own: xr.Dataset, _: str | None) -> list[Curve]:
        drawn = []
        for kind in own["kind"].values:
            cell = own.sel(kind=kind)
            faint = cell["flags"].values != ""
            for variable, name in (("active", "active"), ("nonzero", "not exactly 0")):
                error = 2 * cell[f"{variable}_error"].values
                label = f"{words.readable(str(kind))}: {name}"
                drawn.append(plain_curve(label, cell[variable], faint, error))
        return drawn

    return panels_figure(
        found,
        [None],
        f"active-{task}",
        curves,
        names=("layer", "share of neurons"),
        title=f"Which share of the neurons a token of {words.readable(task)} needs",
        look_for=(
            "Good: a share of active neurons well below one half: the others together have at most "
            "a fifth of the norm of the activity, and could be skipped. Neurons of experts are "
            "those of the chosen ones."
        ),
        falsify=(
            "Bad: a share near that of evenly spread activity, .96: nothing can be spared. Of "
            f"smooth activation functions no neuron is exactly 0. {GREY}"
        ),
        source=SOURCE.format("active"),
        data=data,
    )


def answer_figure(found: Profiles, task: str, phases: Sequence[str], data: str) -> Figure | None:
    """Draw how well the spread of answers tells which are wrong."""

    def curves(own: xr.Dataset, _: str | None) -> list[Curve]:
        return [plain_curve("wrong above right", own["told"], own["flags"].values != "")]

    def chance(own: xr.Dataset, _: str | None) -> Curve:
        layers = own["layer"].values.tolist()
        return Curve("chance", layers, [0.5] * len(layers))

    return panels_figure(
        found,
        [None],
        f"answers-{task}",
        curves,
        names=("layer", "share of pairs"),
        line=chance,
        title=f"Does the spread of answers tell which are wrong in {words.readable(task)}?",
        look_for=(
            "Good: above .5 in colour: of a wrong and a right answer to two questions, the other "
            "answers to the question of the wrong one spread more (EigenScore). Below .5 in colour "
            "it is the other way round."
        ),
        falsify=f"Bad: grey or on the dashed line: no more than chance, or few questions. {GREY}",
        source=SOURCE.format("eigenscore"),
        data=data,
    )


def logit_figure(found: Profiles, task: str, phases: Sequence[str], data: str) -> Figure | None:
    """Draw how large the logits of attention can be, from the weights."""

    def curves(own: xr.Dataset, _: str | None) -> list[Curve]:
        return [
            plain_curve("largest head", own["largest_logit"].max("head")),
            plain_curve("smallest head", own["largest_logit"].min("head")),
        ]

    return panels_figure(
        found,
        [None],
        "logits",
        curves,
        names=("layer", "largest logit"),
        title="How large the logits of attention can be, whatever the text",
        look_for=(
            "Good: layers of one size. The bound follows from the weights and is far above what "
            f"texts reach; what counts is its course. {_least_entropy(found)}"
        ),
        falsify=(
            "Bad: a layer many times above the others, or one that grows fast over training: "
            "attention that can become that sharp may collapse."
        ),
        source="analyses/information/<subject>/logits.zarr",
        data=data,
    )


def _least_entropy(found: Profiles) -> str:
    told = []
    for subject, own in found.items():
        if KEYS in own["keys"].values:
            least = float(own["least_entropy"].sel(keys=KEYS).min() / np.log(KEYS))
            told.append(f"{words.number(least)} for {subject}")
    if not told:
        return ""
    return f"Of {KEYS} keys the least entropy is, as a share of the largest, {words.listing(told)}."


def _no_more(cell: xr.Dataset, variable: str) -> np.ndarray:
    p = cell[f"{variable}_p"].values
    return np.isfinite(p) & (p > CHANCE)


def _spread(layers: np.ndarray) -> list[int]:
    """At most :data:`MOST` layers, evenly from the first to the last."""
    places = np.unique(np.linspace(0, len(layers) - 1, min(MOST, len(layers))).round().astype(int))
    return [int(own) for own in layers[places]]
