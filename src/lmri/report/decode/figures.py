"""Figures of decoding: where labels can be read, and whether and how long the code stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from lmri.report import words
from lmri.report.decode.tables import SOURCE
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.figures.heat import draw_map
from lmri.report.view import Figure, Panel

LEVEL = 0.05
WIDTH = 400
NAMES, COLUMN = 140, 50
"""Widths of the names of rows, and of a column that its name fits under."""

MOST_LAYERS = 3
"""Layers of which a matrix or trace is drawn; all of them are in the file."""

Found = Mapping[str, xr.Dataset]


def profile_figure(found: Found, task: str, question: str, data: str) -> Figure | None:
    """Draw the accuracy of a label by layer and position, a panel per subject.

    Parameters
    ----------
    found : mapping of str to Dataset
        Profiles of a task by subject.
    task, question : str
        Which label.
    data : str
        File with all rows.

    Returns
    -------
    Figure or None
        None where no subject has it.
    """
    panels, told = [], []
    for number, (subject, own) in enumerate(found.items()):
        if question not in own["question"].values:
            continue
        cell = own.sel(question=question, statistic="balanced_accuracy")
        chance = float(cell["chance"])
        value = cell["value"].transpose("layer", "position").values
        beyond = cell["p_max"].transpose("layer", "position").values <= LEVEL
        drawing = draw_map(
            np.where(beyond, value - chance, 0.0),
            [],
            round(1 - chance, 2),
            f"decode-{task}-{question}-{number}",
            width=900 if _is_wide(found) else WIDTH,
            axes_names=("", "layer"),
            rows=[str(layer) for layer in cell["layer"].values],
            scale_name="above chance",
            columns=[str(name).replace("_", " ") for name in cell["position"].values],
        )
        panels.append(Panel(drawing, title=subject))
        best = cell["value"].where(cell["p_max"] <= LEVEL)
        told.append(_best(subject, best, chance, str(cell["classes"].values)))
    if not panels:
        return None
    return Figure(
        title=f"Where {words.readable(question)} can be read in {words.readable(task)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Good: colour that begins at a layer and a position and stays. It is balanced "
            "accuracy above chance, full where every held-out trial is told right, on carriers "
            "that the decoder was not trained on. Blank: not beyond the best of all layers and "
            f"positions under exchanged labels (p at most {LEVEL:g})."
        ),
        falsify=(
            "Bad: blank cells; or colour before the words that make the label were read, which "
            "would be a label of something else. That a label can be read does not say that the "
            "model reads it."
        ),
        source=SOURCE.format("profile"),
        data=data,
        layout="large" if _is_wide(found) else "medium",
    )


def _is_wide(found: Found) -> bool:
    """Whether there are more positions than can be named in a small drawing."""
    return max(len(own["position"]) for own in found.values()) > 8


def _best(subject: str, best: xr.DataArray, chance: float, classes: str) -> str:
    if not np.isfinite(best).any():
        return f"{subject}: nowhere beyond chance ({words.number(chance)}); {classes}"
    at = best.stack(cell=("position", "layer"))
    first = at.isel(cell=int(np.nanargmax(at.values)))
    return (
        f"{subject}: at most {words.number(float(first))} (chance {words.number(chance)}), first "
        f"in layer {int(first['layer'])} at {str(first['position'].values).replace('_', ' ')}; "
        f"{classes}"
    )


def shown_layers(layers: Sequence[int]) -> list[int]:
    """Layers that are drawn: all of few, else the first, a middle and the last."""
    if len(layers) <= MOST_LAYERS:
        return list(layers)
    return [layers[0], layers[len(layers) // 2], layers[-1]]


def generalisation_figure(found: Found, task: str, question: str, data: str) -> Figure | None:
    """Draw how a decoder of one position does at the others, a panel per subject and layer."""
    panels, told = [], []
    for subject, whole in found.items():
        if question not in whole["question"].values:
            continue
        own = whole.sel(question=question, statistic="auc")
        for layer in shown_layers(own["layer"].values.tolist()):
            matrix = own.sel(layer=layer)["value"].transpose("train_position", "test_position")
            names = [str(name).replace("_", " ") for name in matrix["test_position"].values]
            # Maps are drawn from the bottom: turned over, the diagonal falls from the upper left.
            drawing = draw_map(
                np.nan_to_num(matrix.values - 0.5)[::-1],
                [],
                0.5,
                f"general-{task}-{question}-{len(panels)}",
                width=max(WIDTH, NAMES + COLUMN * len(names)),
                axes_names=("judged at", "trained at"),
                rows=names[::-1],
                scale_name="AUC - .5",
                columns=names,
            )
            panels.append(Panel(drawing, title=f"{subject}, layer {layer}"))
            value = matrix.values
            same = float(np.nanmean(np.diag(value)))
            other = float(np.nanmean(value[~np.eye(len(value), dtype=bool)]))
            told.append(
                f"{subject}, layer {layer}: mean AUC {words.number(same)} where it was trained, "
                f"{words.number(other)} elsewhere"
            )
    if not panels:
        return None
    return Figure(
        title=f"Does the code of {words.readable(question)} stay the same?",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "A square of orange: one code for all these positions. Only the diagonal, from the "
            "upper left: a code of its own at every position."
        ),
        falsify=(
            "Blue is below chance: what spoke for the label where the decoder was trained speaks "
            "against it there. Drawn without a threshold; p by cell is in the file."
        ),
        source=SOURCE.format("generalisation"),
        data=data,
        layout="medium",
    )


def control_figure(found: Found, task: str, phase: str, data: str) -> Figure | None:
    """Draw accuracy with shared entities beside that of control tasks, a panel per label."""
    panels, told = [], []
    for subject, own in found.items():
        for question in own["question"].values:
            if phase not in own["position"].values:
                continue
            cell = own.sel(question=question, position=phase)
            layers = cell["layer"].values.tolist()
            control, spread = cell["control"].values, 2 * cell["control_sd"].values
            curves = [
                Curve("label", layers, cell["accuracy"].values.tolist()),
                Curve(
                    "control task",
                    layers,
                    control.tolist(),
                    (control - spread).tolist(),
                    (control + spread).tolist(),
                ),
            ]
            drawing = draw_curves(
                curves, f"control-{task}-{len(panels)}", names=("layer", "accuracy"), width=WIDTH
            )
            panels.append(Panel(drawing, title=f"{subject}, {words.readable(str(question))}"))
            gain = cell["selectivity"].values
            told.append(
                f"{subject}, {words.readable(str(question))}: selectivity up to "
                f"{words.signed(float(gain.max()))} (layer {layers[int(np.argmax(gain))]})"
            )
    if not panels:
        return None
    return Figure(
        title=f"Read, or remembered? Control tasks in {words.readable(task)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            f"Balanced accuracy at {words.phase_name(phase)} where training and test share "
            "entities. Good: the label well above the control task, in which every entity has a "
            "class at random; bars are two standard deviations over control tasks."
        ),
        falsify=(
            "Bad: both curves alike: a decoder that remembers entities does as well. The profile "
            "above shares no entity and needs no subtraction."
        ),
        source=SOURCE.format("control"),
        data=data,
        layout="medium",
    )


def trace_figure(found: Found, task: str, question: str, data: str) -> Figure | None:
    """Draw the probability of a label by token, a panel per subject and layer."""
    panels, told = [], []
    for subject, whole in found.items():
        if question not in whole["question"].values:
            continue
        own = whole.sel(question=question)
        for layer in shown_layers(own["layer"].values.tolist()):
            cell = own.sel(layer=layer)
            curves = [_trace(cell, str(name)) for name in cell["condition"].values]
            drawing = draw_curves(
                [curve for curve in curves if len(curve.x)],
                f"trace-{task}-{question}-{len(panels)}",
                names=("tokens after the end of the prompt", "probability"),
                level=0.5,
                width=WIDTH + 60,
            )
            panels.append(Panel(drawing, title=f"{subject}, layer {layer}"))
            at = float(cell["auc"].sel(offset=0))
            told.append(
                f"{subject}, layer {layer}: AUC {words.number(at)} at the end of the prompt"
            )
    if not panels:
        return None
    return Figure(
        title=f"The trace of {words.readable(question)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "A decoder that was trained at the last token of the prompt (0), on other carriers. "
            "Good: the conditions part before 0 and stay apart in the response; a cliff is where "
            "they meet again. Bars: 95 % over carriers; trials without such a token do not count."
        ),
        falsify=(
            "Bad: all conditions high or low together. That is how a token differs from the one "
            "the decoder was trained at, and says nothing of the label."
        ),
        source=SOURCE.format("trace"),
        data=data,
        layout="medium",
    )


def _trace(cell: xr.Dataset, condition: str) -> Curve:
    own = cell.sel(condition=condition)
    known = np.isfinite(own["probability"].values)
    x, y, low, high = (
        own[name].values[known].tolist() for name in ("offset", "probability", "low", "high")
    )
    return Curve(words.short(words.readable(condition)), x, y, low, high)
