"""The tables of causal maps: what was compared, what a score means, every map in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lmri.report import words
from lmri.report.causal.figures import Entries, kinds_of, methods_of
from lmri.report.causal.maps import Agreement, CausalMap
from lmri.report.causal.words import (
    SHORT,
    method_meaning,
    method_name,
    metric_meaning,
    metric_unit,
)
from lmri.report.row_space import is_illusory
from lmri.report.view import Cell, Column, Table

FEW = 10
"""Pairs below which the mean over them says little."""

DROPPED = {
    "target_without_control": "no control trial that fits",
    "unequal_length": "unequal in length",
    "same_next_token": "same answer",
    "beyond_the_most": "not needed",
}
"""Why trials are in no pair."""


def methods_table(entries: Entries) -> Table:
    """Say what a score means under every method that was used.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their causal maps of one contrast.

    Returns
    -------
    Table
        One row per method, the one that is trusted most first.
    """
    methods = dict.fromkeys(m for kind in kinds_of(entries) for m in methods_of(entries, kind))
    return Table(
        caption=(
            f"What a number means. {metric_meaning(entries[0][1][0].metric)} Above 0 the unit "
            "pushes towards what the clean trial says, below 0 away from it."
        ),
        columns=[Column("Method"), Column("Score of a unit")],
        rows=[
            [
                Cell(words.sentence(method_name(method)), note=_short(method)),
                Cell(words.sentence(method_meaning(method))),
            ]
            for method in methods
        ],
        source="",
    )


def pairs_table(entries: Entries, data: str) -> Table:
    """Say what was compared in every subject, and what to be careful of.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their causal maps of one contrast.
    data : str
        File with the numbers.

    Returns
    -------
    Table
        One row per subject.
    """
    return Table(
        caption=(
            "What was compared. In a clean trial the behaviour should be there, in the corrupted "
            "one not: the difference of the logits of both answers should be well above 0 in the "
            "clean run and below it in the corrupted one. Otherwise there is nothing to explain, "
            "and the maps are to be left alone."
        ),
        columns=[
            Column("Subject"),
            Column("Pairs of trials", "and trials in none", "number"),
            Column("Clean run", "logit difference", "number"),
            Column("Corrupted run", "logit difference", "number"),
            Column("To be read with care"),
        ],
        rows=[_pairs_row(subject, maps) for subject, maps in entries],
        source=f"maps/<subject>/{_folder(entries)}/",
        data=data,
    )


def cautions(maps: Sequence[CausalMap]) -> list[str]:
    """List what speaks against reading the maps of a subject.

    Parameters
    ----------
    maps : sequence of CausalMap
        Maps of one subject and contrast, which share their pairs.

    Returns
    -------
    list of str
        Sentences without a full stop; empty where nothing is known to be wrong.
    """
    first, found = maps[0], []
    clean, corrupted = first.number("clean_difference"), first.number("corrupted_difference")
    if clean <= 0:
        found.append(
            "the clean trials do not show the behaviour: the other answer is the likelier one"
        )
    if corrupted >= clean:
        found.append("no gap: the corrupted trials say it as much as the clean ones")
    elif corrupted > 0:
        found.append("the corrupted trials show the behaviour, too")
    guarded = first.count("n_guarded")
    if guarded:
        total = guarded + first.pairs
        found.append(f"{guarded} of {total} pairs have no gap and are left out")
    if 0 < first.pairs < FEW:
        found.append(f"only {words.plural(first.pairs, 'pair')}")
    if first.number("one_logit_difference") == 0:
        found.append("other answers in each pair, so p says only that a mean effect is not 0")
    found += [
        f"{own.noun.full} by {method_name(own.method)}: most of the effect of the finding is by "
        "what the model does not read, which may be an illusion"
        for own in maps
        if is_illusory(own.finding)
    ]
    return found


def maps_table(entries: Entries, data: str) -> Table:
    """List every causal map with its numbers.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their causal maps of one contrast.
    data : str
        File with the same rows.

    Returns
    -------
    Table
        One row per subject and map.
    """
    unit = metric_unit(entries[0][1][0].metric)
    return Table(
        caption=(
            f"Effects are in {unit}, with the standard error over pairs. p is that of the "
            "strongest unit over all units of its map. Agreement is the correlation with patching, "
            "its interval and the number of units that were patched to tell."
        ),
        columns=[
            Column("Map", "and method"),
            Column("Subject"),
            Column("Strongest", "and its effect", "number"),
            Column("p", "over all units", "number"),
            Column("Selected", "of all", "number"),
            Column("Agreement", "interval, units", "number"),
            Column("Pairs", kind="number"),
        ],
        rows=[
            _map_row(subject, own)
            for kind in kinds_of(entries)
            for method in methods_of(entries, kind)
            for subject, maps in entries
            for own in maps
            if (own.kind, own.method) == (kind, method)
        ],
        source=f"maps/<subject>/{_folder(entries)}/",
        data=data,
    )


def _short(method: str) -> str:
    known = SHORT.get(method, "")
    return f"in drawings: {known}" if known else ""


def _pairs_row(subject: str, maps: Sequence[CausalMap]) -> list[Cell]:
    first = maps[0]
    dropped = [
        f"{count} {DROPPED.get(name, words.readable(name))}"
        for name, count in first.counts("dropped").items()
        if count
    ]
    care = cautions(maps)
    text = "; ".join(care)
    return [
        Cell(subject),
        Cell(words.whole(first.pairs), "number", ", ".join(dropped)),
        Cell(words.signed(first.number("clean_difference")), "number"),
        Cell(words.signed(first.number("corrupted_difference")), "number"),
        Cell(f"{words.sentence(text)}." if text else "Nothing."),
    ]


def _map_row(subject: str, own: CausalMap) -> list[Cell]:
    best, agreed = own.profile.strongest, own.agreement
    head = [Cell(words.sentence(own.noun.full), note=method_name(own.method)), Cell(subject)]
    if not best:
        return [*head, *(Cell(words.NOTHING, "number") for _ in range(5))]
    error = best.get("standard_error", math.nan)
    spread = "" if words.number(error) == words.NOTHING else f" ± {words.number(error)}"
    selected = f"{own.profile.selected} of {own.profile.units}"
    return [
        *head,
        Cell(own.unit_name(best), "number", f"{words.signed(best['score'])}{spread}"),
        Cell(words.probability(best.get("p_max", math.nan)), "number"),
        Cell(selected if "p_max" in best else "not tested", "number"),
        _agreement_cell(agreed),
        Cell(words.whole(own.pairs), "number"),
    ]


def _agreement_cell(agreed: Agreement | None) -> Cell:
    if agreed is None:
        return Cell(words.NOTHING, "number")
    between = words.interval(agreed.low, agreed.high)
    counted = f"{agreed.units} units"
    return Cell(
        words.number(agreed.correlation),
        "number",
        f"{between}; {counted}" if between else counted,
    )


def _folder(entries: Entries) -> str:
    subject, maps = entries[0]
    return maps[0].path.removeprefix(f"maps/{subject}/").rpartition("/")[0]
