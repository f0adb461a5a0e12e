"""The figures of causal maps that compare approximations with patching."""

from __future__ import annotations

import numpy as np

from lmri.report import words
from lmri.report.causal.figures import Entries, kinds_of, maps_of, methods_of
from lmri.report.causal.maps import Agreement
from lmri.report.causal.words import (
    APPROXIMATE,
    PATCHED,
    SHORT,
    WHOLE,
    is_by_role,
    method_name,
    metric_unit,
    noun_of,
)
from lmri.report.figures.agreement import GOOD, draw_agreement, draw_comparison
from lmri.report.view import Figure, Panel


def agreement_figure(entries: Entries, key: str, data: str) -> Figure | None:
    """Show how well each approximation agrees with patching.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their causal maps of one contrast.
    key, data : str
        Begin of the drawings' keys; file with the numbers.

    Returns
    -------
    Figure or None
        None where nothing is approximated.
    """
    panels, told, units = [], [], {}
    for number, kind in enumerate(kinds_of(entries)):
        rows, counts = {}, []
        for method in [m for m in methods_of(entries, kind) if m != PATCHED]:
            found = [(s, own.agreement) for s, own in maps_of(entries, kind, method)]
            known = [(s, agreed) for s, agreed in found if agreed is not None]
            if not known:
                continue
            rows[SHORT.get(method, words.readable(method))] = [
                (agreed.correlation, agreed.low, agreed.high) for _, agreed in known
            ]
            counts += [agreed.units for _, agreed in known]
            told += [_agreed(kind, method, subject, agreed) for subject, agreed in known]
        if not rows:
            continue
        noun = noun_of(kind)
        units[noun.full] = words.spread(counts)
        name = f"{words.sentence(noun.full)} (n = {words.spread(counts)})"
        panels.append(Panel(draw_agreement(rows, f"{key}-{number}"), title=name))
    if not panels:
        return None
    subjects = [subject for subject, maps in entries if maps]
    order = (
        f" Within a row, the subjects from top to bottom: {words.listing(subjects)}."
        if len(subjects) > 1
        else ""
    )
    return Figure(
        title="Do the approximations agree with patching?",
        panels=panels,
        alt=f"Correlation of each approximation with patching. {'; '.join(told)}.",
        look_for=(
            "Each dot is the correlation, over the n units that were patched one by one, of their "
            "estimated with their patched effects; the line is an interval of 95 % from resampled "
            f"units.{order} Good: dots in the green band ({GOOD:g} and above) with short lines, "
            "as RelP reaches in GPT-2 (.96 and above): the ranks of the map are those of patching. "
            "A long line under a high dot: a few units carry the correlation, or few of those "
            "drawn at random do anything."
        ),
        falsify=(
            "Dots below .5, or lines that reach 0: what this map ranks first need not be what "
            "patching ranks first, so that only the patched map is to be read. Sizes are not "
            "compared here: a correlation of 1 may go with twice the effect."
        ),
        source=_pattern(entries),
        data=data,
        layout="medium",
    )


def comparison_figure(entries: Entries, key: str) -> Figure | None:
    """Draw estimated against patched effects unit by unit, where all units were patched.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their causal maps of one contrast.
    key : str
        Begin of the drawings' keys.

    Returns
    -------
    Figure or None
        None where no units were patched.
    """
    panels, told = [], []
    unit = metric_unit(next((own.metric for _, maps in entries for own in maps), ""))
    for kind in (k for k in kinds_of(entries) if not is_by_role(k) and k not in WHOLE):
        truth = {s: own.scores for s, own in maps_of(entries, kind, PATCHED)}
        for method in APPROXIMATE:
            pairs = [
                (truth[subject], own.scores)
                for subject, own in maps_of(entries, kind, method)
                if truth.get(subject) is not None and own.scores is not None
            ]
            pairs = [(a, b) for a, b in pairs if len(a) == len(b)]
            if not pairs:
                continue
            patched, estimated = (np.concatenate(side) for side in zip(*pairs, strict=True))
            drawing = draw_comparison(patched, estimated, unit, f"{key}-{len(panels)}")
            title = f"{words.sentence(noun_of(kind).full)}: {SHORT[method]}"
            panels.append(Panel(drawing, title=title))
            told.append(f"{title}, {len(patched)} points")
    if not panels:
        return None
    return Figure(
        title="Estimated against patched effects, unit by unit",
        panels=panels,
        alt=f"Estimated against patched effects. {'; '.join(told)}.",
        look_for=(
            "Each point is a unit of one subject, all subjects in one drawing; darker where there "
            "are several. On the orange line estimate and patch are equal. Good: points along a "
            "straight line, even one of another slope, since ranks are then the same. First-order "
            "estimates overshoot where the behaviour saturates: points above the line at its end."
        ),
        falsify=(
            "Points that lie on the vertical line in the middle (estimated to do something, and "
            "doing nothing), or on the horizontal one (doing something that the estimate misses)."
        ),
        source=_pattern(entries),
        data="",
        layout="small",
    )


def _agreed(kind: str, method: str, subject: str, agreed: Agreement) -> str:
    between = words.interval(agreed.low, agreed.high)
    return (
        f"{subject}, {noun_of(kind).full} by {method_name(method)}: "
        f"{words.number(agreed.correlation)}{f' ({between})' if between else ''}, "
        f"n = {agreed.units}"
    )


def _pattern(entries: Entries) -> str:
    subject, own = next((s, maps[0]) for s, maps in entries if maps)
    folder = own.path.removeprefix(f"maps/{subject}/").rpartition("/")[0]
    return f"maps/<subject>/{folder}/<kind>.<method>.zarr"
