"""Profiles by layer: information with its null, spectra, classes, heads, the lens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from lmri.report import words
from lmri.report.figures.curves import Curve, draw_curves
from lmri.report.information.names import SOURCE, estimator_name, target_name
from lmri.report.view import Figure, Panel

WIDTH = 400
"""Of a drawing: several stand beside each other."""

CHANCE = 0.05
"""Above this p a reduction of the coding rate is drawn grey."""

Rows = pd.DataFrame
Profiles = Mapping[str, xr.Dataset]

GREY = "Hollow grey points carry a flag: the table says which, and they should not be read."


def attribute_figure(rows: Rows, task: str, target: str, key: str, data: str) -> Figure | None:
    """Draw what states tell of an attribute, a panel per subject and phase.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`lmri.report.information.tables.mutual_frame`.
    task, target : str
        Which of them.
    key : str
        Distinguishes the drawings from all others of the page.
    data : str
        File with all rows.

    Returns
    -------
    Figure or None
        None without a number.
    """
    own = rows[(rows["task"] == task) & (rows["target"] == target) & rows["value"].notna()]
    own = own[own["estimator"].str.startswith(("probe ", "compressed ", "ross "))]
    panels, told = [], []
    for number, ((subject, phase), cell) in enumerate(
        own.groupby(["subject", "phase"], sort=False)
    ):
        curves = [_curve(name, part) for name, part in cell.groupby("estimator", sort=True)]
        # Only for the key: each curve has its null, dashed.
        line = Curve("null, 95 %", [], [])
        names = ("layer", "nats")
        drawing = draw_curves(
            curves, f"{key}-{number}", names=names, line=line, level=0.0, width=WIDTH
        )
        panels.append(Panel(drawing, title=f"{subject}, {words.phase_name(phase)}"))
        told.append(_strongest(str(subject), str(phase), cell))
    if not panels:
        return None
    return Figure(
        title=f"What layers tell of the {target_name(target)} in {words.readable(task)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Good: a curve whose interval lies above the dashed line of its colour, which is the "
            "95 % quantile of the same estimate with exchanged carriers, and two estimators that "
            "rise in the same layers. The probe is judged on held-out carriers and reads what is "
            "linear."
        ),
        falsify=(
            "Bad: points on or below their dashed line; neighbours that rise alone, since they "
            f"recognise the carrier without its class; a probe below 0, which overfits. {GREY}"
        ),
        source=SOURCE.format("residual"),
        data=data,
        layout="medium",
    )


def _curve(name: object, part: Rows) -> Curve:
    part = part.sort_values("layer")
    faint = (part["flags"] != "").tolist()
    ends = part["low"].tolist(), part["high"].tolist()
    return Curve(
        estimator_name(str(name)),
        part["layer"].tolist(),
        part["value"].tolist(),
        *ends,
        faint,
        part["null_upper"].tolist(),
    )


def _headline(cell: Rows) -> Rows:
    """Estimates of the probe, which saturation cannot inflate, or else of the first estimator."""
    probe = cell["estimator"].str.startswith("probe ")
    return cell[probe] if probe.any() else cell[cell["estimator"] == cell["estimator"].iloc[0]]


def _strongest(subject: str, phase: str, cell: Rows) -> str:
    first = _headline(cell)
    best = first.loc[first["value"].idxmax()]
    flagged = f", flagged {best['flags'].replace('_', ' ')}" if best["flags"] else ""
    return (
        f"{subject}, {words.phase_name(phase)}: {estimator_name(best['estimator'])} at most "
        f"{words.number(best['value'])} nats, in layer {int(best['layer'])}{flagged}"
    )


def expert_figure(rows: Rows, task: str, data: str) -> Figure | None:
    """Draw what the choice of experts tells, a curve per attribute."""
    own = rows[(rows["task"] == task) & rows["value"].notna()]
    panels, told = [], []
    for number, ((subject, phase), cell) in enumerate(
        own.groupby(["subject", "phase"], sort=False)
    ):
        curves = []
        for target, part in cell.groupby("target", sort=False):
            part = part.sort_values("layer")
            name = target_name(str(target))
            faint = (part["flags"] != "").tolist()
            curves.append(Curve(name, part["layer"].tolist(), part["value"].tolist(), faint=faint))
        names = ("layer", "nats")
        drawing = draw_curves(
            curves, f"experts-{task}-{number}", names=names, level=0.0, width=WIDTH
        )
        panels.append(Panel(drawing, title=f"{subject}, {words.phase_name(str(phase))}"))
        told.append(_strongest(str(subject), str(phase), cell))
    if not panels:
        return None
    return Figure(
        title=f"What the choice of experts tells in {words.readable(task)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Good: a value well above 0 that is not grey. It needs no noise, bins or probe, and "
            "the mean of its null is taken out, so 0 is chance."
        ),
        falsify=f"Bad: a value around 0: routing ignores the attribute. {GREY}",
        source=SOURCE.format("expert"),
        data=data,
        layout="medium",
    )


def spectral_figure(found: Profiles, task: str, phases: Sequence[str], data: str) -> Figure | None:
    """Draw how many dimensions states fill."""
    asked = (
        ("effective_rank", "raw", "effective rank"),
        ("participation_ratio", "raw", "participation ratio"),
        ("participation_ratio", "standardised", "same, standardised"),
        ("dimension_two_nn", None, "intrinsic (TwoNN)"),
    )

    def curves(own: xr.Dataset, phase: str) -> list[Curve]:
        drawn = []
        for variable, scaling, name in asked:
            at = {"phase": phase} | ({} if scaling is None else {"scaling": scaling})
            if scaling is None or scaling in own["scaling"].values:
                values, flags = own[variable].sel(at), own[f"{variable}_flags"].sel(at)
                drawn.append(plain_curve(name, values, flags.values != ""))
        return drawn

    return panels_figure(
        found,
        phases,
        f"spectral-{task}",
        curves,
        names=("layer", "dimensions"),
        linear=1.0,
        title=f"How many dimensions the states of {words.readable(task)} fill",
        look_for=(
            "Good: curves that go together (layer −1 is before the first block). "
            "Ranks of the covariance see the whole cloud, the intrinsic dimension its two "
            "nearest neighbours; standardised, a few massive dimensions no longer decide."
        ),
        falsify=(
            "Bad: a fall of the raw curves alone, which is about massive dimensions, or a rank "
            f"above a tenth of the trials, which would rise with more of them. {GREY}"
        ),
        source=SOURCE.format("spectral"),
        data=data,
    )


def class_figure(found: Profiles, task: str, phases: Sequence[str], data: str) -> Figure | None:
    """Draw how much shorter classes are coded by themselves."""

    def curves(own: xr.Dataset, phase: str) -> list[Curve]:
        drawn = []
        for target in own["target"].values:
            cell = own.sel(phase=phase, target=target)
            faint = (cell["flags"].values != "") | (cell["p"].values > CHANCE)
            drawn.append(plain_curve(target_name(str(target)), cell["excess"], faint))
        return drawn

    return panels_figure(
        found,
        phases,
        f"classes-{task}",
        curves,
        names=("layer", "nats above chance"),
        title=f"Rate reduction by class in {words.readable(task)}",
        look_for="Good: above 0 in colour: classes fill subspaces of their own.",
        falsify=(
            f"Bad: around 0, or grey: p above {CHANCE:g}, or a flag. Any classes of few trials "
            "have a rate reduction; only what is above that of exchanged ones is drawn."
        ),
        source=SOURCE.format("rate_reduction"),
        data=data,
    )


def lens_figure(found: Profiles, task: str, phases: Sequence[str], data: str) -> Figure | None:
    """Draw what each layer would say of the next token."""
    panels, told = [], []
    for number, (subject, own) in enumerate(found.items()):
        curves = []
        for phase in own["phase"].values:
            cell = own.sel(phase=phase)
            if np.isfinite(cell["information"]).any():
                flags = cell["information_flags"].values != ""
                error = 2 * cell["information_error"].values
                name = words.short(words.phase_name(str(phase)))
                curves.append(plain_curve(name, cell["information"], flags, error))
        if curves:
            names = ("layer", "nats")
            drawing = draw_curves(
                curves, f"lens-{task}-{number}", names=names, level=0.0, width=WIDTH
            )
            panels.append(Panel(drawing, title=subject))
            last = own["information"].isel(layer=-1).max()
            told.append(f"{subject}: up to {words.number(float(last))} nats after the last layer")
    if not panels:
        return None
    return Figure(
        title=f"What layers would say of the next token in {words.readable(task)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for="Good: a curve that rises above 0: more than the frequency of the token says.",
        falsify=(
            "Bad: below 0, grey: the layer's basis is not that of the last one, and what it says "
            f"there with confidence is not about the next token. {GREY}"
        ),
        source=SOURCE.format("lens"),
        data=data,
        layout="medium",
    )


def attention_figure(found: Profiles, task: str, phases: Sequence[str], data: str) -> Figure | None:
    """Draw the shares of heads that attend to few keys, or to all alike."""

    def curves(own: xr.Dataset, phase: str) -> list[Curve]:
        few, all_alike = own["collapsed_share"], own["overloaded_share"]
        named = [("collapsed", few.sel(phase=phase, measure="all"))]
        if "without_first" in own["measure"].values:
            rest = few.sel(phase=phase, measure="without_first")
            named.append(("same, without sink", rest))
        named.append(("all keys alike", all_alike.sel(phase=phase, measure="all")))
        return [plain_curve(name, values) for name, values in named]

    return panels_figure(
        found,
        phases,
        f"attention-{task}",
        curves,
        names=("layer", "share of heads"),
        title=f"Heads that collapse, and heads that spread, in {words.readable(task)}",
        look_for=(
            "Good: few of either. A head that is collapsed, and is not without the first token, "
            "rests on a sink."
        ),
        falsify=(
            "Bad: a layer whose heads are all collapsed without the first token, or all spread. "
            "The thresholds, .1 and .9 of the largest entropy, are proposals."
        ),
        source=SOURCE.format("attention"),
        data=data,
    )


def plain_curve(
    name: str,
    values: xr.DataArray,
    faint: np.ndarray | None = None,
    error: np.ndarray | None = None,
) -> Curve:
    """Make a curve of values over layers; what is not finite is no point of it.

    Parameters
    ----------
    name : str
        As in the key.
    values : DataArray
        Over ``layer``.
    faint : ndarray of shape (n_layers,), bool, optional
        Which points are drawn grey.
    error : ndarray of shape (n_layers,), optional
        Half of an interval around every point.

    Returns
    -------
    Curve
        The curve.
    """
    known = np.isfinite(values.values)
    y = values.values[known]
    ends = ((), ()) if error is None else (y - error[known], y + error[known])
    grey = () if faint is None else faint[known].tolist()
    return Curve(name, values["layer"].values[known].tolist(), y.tolist(), *ends, grey)


def panels_figure(
    found: Profiles,
    phases: Sequence[str | None],
    key: str,
    curves: Callable[[xr.Dataset, str | None], list[Curve]],
    *,
    names: tuple[str, str],
    linear: float | None = None,
    line: Callable[[xr.Dataset, str | None], Curve] | None = None,
    **texts: str,
) -> Figure | None:
    """Draw a panel per subject and phase, of curves with a point at least.

    Parameters
    ----------
    found : mapping of str to Dataset
        Profiles by subject.
    phases : sequence of str
        In their order; None is drawn once for a measure without phases.
    key : str
        Distinguishes the drawings from all others of the page.
    curves : callable
        Takes a profile and a phase, and gives the curves of a panel.
    names : tuple of str
        Of both axes.
    linear : float, optional
        As for :func:`lmri.report.figures.curves.draw_curves`.
    line : callable, optional
        Takes a profile and a phase, and gives the dashed line of a panel.
    **texts : str
        Of the figure.

    Returns
    -------
    Figure or None
        None without a panel.
    """
    panels, told = [], []
    for subject, own in found.items():
        for phase in phases:
            if phase is not None and phase not in own["phase"].values:
                continue
            drawn = [curve for curve in curves(own, phase) if len(curve.x)]
            if not drawn:
                continue
            level = None if linear else 0.0
            drawing = draw_curves(
                drawn,
                f"{key}-{len(panels)}",
                names=names,
                line=None if line is None else line(own, phase),
                level=level,
                linear=linear,
                width=WIDTH,
            )
            title = subject if phase is None else f"{subject}, {words.phase_name(phase)}"
            panels.append(Panel(drawing, title=title))
            ends = [f"{curve.name} {words.number(curve.y[-1])}" for curve in drawn]
            told.append(f"{title}, at the end: {', '.join(ends)}")
    if not panels:
        return None
    return Figure(panels=panels, alt=f"{'; '.join(told)}.", layout="medium", **texts)
