"""The figures of causal maps: units, layers by roles of tokens, agreement with patching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from lmri.report import words
from lmri.report.causal.maps import CausalMap
from lmri.report.causal.words import (
    SHORT,
    WHOLE,
    describe_roles,
    method_name,
    metric_unit,
    noun_of,
)
from lmri.report.figures.heat import draw_map
from lmri.report.figures.units import draw_units
from lmri.report.kinds import CAUSAL
from lmri.report.map_figures import ORANGE, cell_of
from lmri.report.view import Figure, Panel

WIDTH = 330

MOST_PANELS = 20
"""Drawings of a figure; with more subjects, the methods that are trusted least are not drawn."""

MOST_OUTLINED = 8
"""Units that are outlined in a drawing."""

STRONGEST = 12
"""Units that are drawn where there are too many for cells."""

Entries = Sequence[tuple[str, Sequence[CausalMap]]]
"""Subjects with their causal maps of one contrast."""


def kinds_of(entries: Entries) -> list[str]:
    """Kinds of the maps, each once, in the order in which they were asked for."""
    return list(dict.fromkeys(own.kind for _, maps in entries for own in maps))


def methods_of(entries: Entries, kind: str) -> list[str]:
    """Methods of the maps of a kind, the one that is trusted most first."""
    present = {own.method for _, maps in entries for own in maps if own.kind == kind}
    return [*(m for m in CAUSAL if m in present), *sorted(present - set(CAUSAL))]


def maps_of(entries: Entries, kind: str, method: str) -> list[tuple[str, CausalMap]]:
    """Maps of one kind and method, with their subjects."""
    return [
        (subject, own)
        for subject, maps in entries
        for own in maps
        if (own.kind, own.method) == (kind, method)
    ]


def map_figure(
    entries: Entries,
    kind: str,
    alpha: float,
    key: str,
    data: str,
    badges: Mapping[tuple[str, str], str] | None = None,
) -> Figure | None:
    """Draw the maps of a kind, each method with a scale of its own.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their causal maps of one contrast.
    kind : str
        Which maps.
    alpha : float
        Level of the max-statistic.
    key, data : str
        Begin of the drawings' keys; file with the numbers.
    badges : mapping of tuple to str, optional
        Verdicts on these maps, by method and subject.

    Returns
    -------
    Figure or None
        None where nothing has a score.
    """
    methods = methods_of(entries, kind)
    shown = methods[: max(1, MOST_PANELS // max(len(entries), 1))]
    drawn = [(m, s, own) for m in shown for s, own in maps_of(entries, kind, m)]
    drawn = [entry for entry in drawn if len(entry[2].profile.top)][:MOST_PANELS]
    if not drawn:
        return None
    limits = {
        m: max(own.profile.largest for k, _, own in drawn if k == m) or 1.0
        for m in shown
        if any(k == m for k, _, _ in drawn)
    }
    alone = len({subject for _, subject, _ in drawn}) == 1
    panels = [
        Panel(
            _draw(own, limits[method], alpha, f"{key}-{number}"),
            title=_title(method, subject, alone=alone),
            badge=(badges or {}).get((method, subject), ""),
        )
        for number, (method, subject, own) in enumerate(drawn)
    ]
    first = drawn[0][2]
    return Figure(
        title=f"{words.sentence(noun_of(kind).full)}: effect on the answer",
        panels=panels,
        alt=f"{words.sentence(noun_of(kind).full)}. {'; '.join(_told(*entry) for entry in drawn)}.",
        look_for=_look_for(drawn, limits, alpha) + _left_out(methods, shown, entries, drawn),
        falsify=_falsify(first),
        source=_source(drawn),
        data=data,
        layout="medium",
    )


def _draw(own: CausalMap, limit: float, alpha: float, key: str) -> Markup:
    profile = own.profile
    if profile.cells is None:
        return _draw_units(own, alpha, key)
    layers = [str(layer) for layer in profile.layers]
    return draw_map(
        profile.cells,
        outlined(own, alpha),
        limit,
        key,
        width=WIDTH,
        scale_bar=False,
        axes_names=("token" if own.by_role else "" if own.columns else own.noun.one, "layer"),
        rows=layers,
        columns=own.columns or None,
    )


def _draw_units(own: CausalMap, alpha: float, key: str) -> Markup:
    top, found = own.profile.top.head(STRONGEST), own.profile.distribution
    selected = _passes(own, alpha)[: len(top)]
    errors = 2 * top["standard_error"].to_numpy(float) if "standard_error" in top else None
    return draw_units(
        [own.unit_name(row) for row in top.to_dict("records")],
        top["score"].to_numpy(float),
        np.zeros(len(top)) if errors is None else errors,
        selected,
        (found.edges, found.units.sum(axis=0)),
        f"all {own.profile.units}",
        metric_unit(own.metric),
        key,
        WIDTH,
    )


def _passes(own: CausalMap, alpha: float) -> np.ndarray:
    """Which of the strongest units the map selects."""
    top = own.profile.top
    if "p_max" not in top:
        return np.zeros(len(top), dtype=bool)
    return (top["score"].to_numpy(float) > 0) & (top["p_max"].to_numpy(float) <= alpha)


def outlined(own: CausalMap, alpha: float) -> list[tuple[int, int]]:
    """Find the strongest units that are selected among the cells of their map.

    Parameters
    ----------
    own : CausalMap
        The map.
    alpha : float
        Level of the max-statistic.

    Returns
    -------
    list of tuple of int
        Row and column of each, at most :data:`MOST_OUTLINED`.
    """
    top = own.profile.top[_passes(own, alpha)].head(MOST_OUTLINED)
    return [
        (own.profile.layers.index(int(row["layer"])), own.columns.index(row["column"]))
        if own.columns
        else cell_of(own.profile, [row[dim] for dim in own.noun.dims])
        for row in top.to_dict("records")
    ]


def _title(method: str, subject: str, *, alone: bool) -> str:
    if alone:
        return words.sentence(method_name(method))
    return f"{subject}: {SHORT.get(method, words.readable(method))}"


def _told(method: str, subject: str, own: CausalMap) -> str:
    best = own.profile.strongest
    return (
        f"{subject}, {method_name(method)}: the strongest {own.noun.one} is {own.unit_name(best)} "
        f"with {words.signed(best['score'])} {metric_unit(own.metric)}, {own.profile.selected} of "
        f"{own.profile.units} selected"
    )


def _look_for(
    drawn: Sequence[tuple[str, str, CausalMap]], limits: dict[str, float], alpha: float
) -> str:
    first = drawn[0][2]
    pairs = words.spread([own.pairs for _, _, own in drawn])
    counted = f"n = {pairs} pairs of trials a subject."
    unit = metric_unit(first.metric)
    if first.profile.cells is None:
        return (
            f"Each row is one of the {STRONGEST} {first.noun.many} with the largest effect, with "
            "two standard errors over pairs to both sides; full: beyond the max-statistic over "
            f"all {first.noun.many} (p at most {alpha:g}). The last row is all of them, darker "
            "where there are more: a unit that matters lies far from where it is darkest. "
            f"{counted} Errors take pairs as independent, though they share carriers; p does not."
        )
    what = (
        "Each cell is what is written at one place of the residual stream, at the tokens of one "
        f"role. {describe_roles(first.columns)}"
        if first.by_role
        else f"Each cell is one {first.noun.one}. "
    )
    scale = words.listing(f"{words.number(end)} ({SHORT.get(m, m)})" for m, end in limits.items())
    return (
        f"{what}{ORANGE}Outlined: the {MOST_OUTLINED} strongest of those beyond the max-statistic "
        f"over all cells of the map (p at most {alpha:g}), numbered by rank. Full colour in "
        f"{unit}: {scale}. {counted} "
        + (
            "Read from left to right: where the difference comes in, through which layers it "
            "moves, and where it arrives at the last token."
            if first.by_role
            else "What can be believed stands out under several methods, patching among them."
        )
    )


def _falsify(first: CausalMap) -> str:
    if first.by_role:
        return (
            "Colour before the first word that differs: nothing there can have an effect, so it "
            "would be a fault. An even tint: the information is everywhere, and no place carries "
            "it."
        )
    if first.kind in WHOLE:
        return (
            "Nothing in an even tint under patching: where everything that is written at all "
            "tokens is put in, all of the answer comes along, in any layer. Where it is in the "
            "text, the maps by role of the token show. An estimate that grows from layer to layer "
            "overshoots there."
        )
    return (
        f"{words.sentence(first.noun.many)} that one approximation alone brings out, or an even "
        "tint over all layers. A patch shows that activity suffices on these pairs, not that it is "
        "needed on others: that is what the re-run without it decides."
    )


def _left_out(
    methods: Sequence[str],
    shown: Sequence[str],
    entries: Entries,
    drawn: Sequence[tuple[str, str, CausalMap]],
) -> str:
    missing = [method_name(method) for method in methods if method not in shown]
    text = f" Not drawn, but in the table: {words.listing(missing)}." if missing else ""
    if len(entries) > MOST_PANELS:
        text += f" The first {len(drawn)} of {len(entries)} subjects."
    return text


def _source(drawn: Sequence[tuple[str, str, CausalMap]]) -> str:
    method, subject, own = drawn[0]
    path = own.path.removeprefix(f"maps/{subject}/").removesuffix(f".{method}.zarr")
    return f"maps/<subject>/{path}.<method>.zarr"
