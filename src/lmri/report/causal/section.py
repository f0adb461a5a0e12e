"""The section "Causal maps" of the page of a contrast."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from lmri.config import ContrastOptions
from lmri.report import words
from lmri.report.causal.agreement import agreement_figure, comparison_figure
from lmri.report.causal.figures import (
    Entries,
    kinds_of,
    map_figure,
    maps_of,
    methods_of,
)
from lmri.report.causal.maps import CausalMap
from lmri.report.causal.tables import maps_table, methods_table, pairs_table
from lmri.report.causal.words import (
    method_name,
    metric_unit,
    noun_of,
)
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs, claimed_map
from lmri.report.kinds import MapName
from lmri.report.replication import replication_prose
from lmri.report.view import Figure, Fold, Heading, Prose, Table
from lmri.store import CAUSAL_PHASE

Block = Figure | Table | Heading | Prose | Fold

HEADING = "Causal maps"

KEPT = 32
"""Units of each map that are in the data file."""


def causal_blocks(
    inputs: StudyInputs, contrast: ContrastOptions, key: str, files: Files
) -> list[Block]:
    """Make the section of the causal maps of a contrast.

    Parameters
    ----------
    inputs : StudyInputs
        The study.
    contrast : ContrastOptions
        The contrast.
    key : str
        Begin of the drawings' keys and of the names of files.
    files : Files
        Takes the strongest units, and a row of numbers per map.

    Returns
    -------
    list of blocks
        Empty where no causal maps of the contrast were asked for.
    """
    causal = inputs.config.localise.causal
    if causal is None or contrast.name not in causal.contrasts:
        return []
    entries: Entries = [
        (subject.name, maps)
        for subject in inputs.subjects
        if (maps := subject.causal.get(contrast.name))
    ]
    if not entries:
        text = "None could be read; see the errors at the end of the report."
        return [Heading(HEADING), Prose([("", text)])]
    alpha = inputs.config.evidence.alpha
    data = files.add(f"causal.{key}", _strongest(entries))
    numbers = files.add(f"causal-maps.{key}", _numbers(entries))
    chosen = inputs.independent(name for name, _ in entries)
    drawn = [entry for entry in entries if entry[0] in chosen]
    claimed = claimed_map(inputs.config, contrast)
    verdicts = {} if claimed is None else _verdicts(inputs, contrast, claimed)
    figures = [
        agreement_figure(drawn, f"{key}-agreement", numbers),
        comparison_figure(drawn, f"{key}-comparison"),
        *(
            map_figure(
                drawn,
                kind,
                alpha,
                f"{key}-causal{number}",
                data,
                verdicts if claimed is not None and kind == claimed.kind else None,
            )
            for number, kind in enumerate(kinds_of(drawn))
        ),
    ]
    return [
        Heading(HEADING, _lead(contrast, claimed, series=len(drawn) < len(entries))),
        *([] if claimed is None else [_primary(claimed, verdicts)]),
        shown_prose(drawn),
        methods_table(entries),
        pairs_table(entries, numbers),
        *(figure for figure in figures if figure is not None),
        *_replication(inputs, contrast, claimed),
        Fold("Every causal map in numbers", maps_table(entries, numbers)),
    ]


def shown_prose(entries: Entries) -> Prose:
    """Say what the maps of every kind of units show, by the method that is trusted most.

    Parameters
    ----------
    entries : sequence of tuple
        Subjects with their causal maps of one contrast.

    Returns
    -------
    Prose
        A line per kind.
    """
    lines = []
    for kind in kinds_of(entries):
        method = methods_of(entries, kind)[0]
        maps = [own for _, own in maps_of(entries, kind, method)]
        maps = [own for own in maps if own.profile.strongest]
        if maps:
            lines.append((f"{words.sentence(noun_of(kind).full)}:", _shown(maps, method)))
    return Prose(lines)


def _shown(maps: Sequence[CausalMap], method: str) -> str:
    first, best = maps[0], maps[0].profile.strongest
    unit, where = metric_unit(first.metric), f"by {method_name(method)}"
    tested = "p_max" in best
    counts = sorted(own.profile.selected for own in maps)
    selected = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    passes = f"; {selected} of {first.profile.units} pass the max-statistic" if tested else ""
    if len(maps) == 1:
        return (
            f"{where}, {first.unit_name(best)} does most ({words.signed(best['score'])} {unit})"
            f"{passes}."
        )
    (where_most, count), *_ = Counter(_place(own) for own in maps).most_common(1)
    sizes = sorted(own.profile.strongest["score"] for own in maps)
    return (
        f"{where}, the strongest {first.noun.one} is in {where_most} in {count} of {len(maps)} "
        f"subjects ({words.signed(sizes[0])} to {words.signed(sizes[-1])} {unit}){passes}."
    )


def _place(own: CausalMap) -> str:
    """Where the strongest unit is: bases share layers, and roles of tokens, but no units."""
    best = own.profile.strongest
    return own.unit_name(best) if own.columns else f"layer {int(best['layer'])}"


def _verdicts(
    inputs: StudyInputs, contrast: ContrastOptions, claimed: MapName
) -> dict[tuple[str, str], str]:
    """Verdicts on the primary map, by method and subject."""
    found = {
        subject.name: subject.verdict(contrast.name, CAUSAL_PHASE) for subject in inputs.subjects
    }
    return {
        (claimed.method, subject): words.verdict_name(verdict)
        for subject, verdict in found.items()
        if verdict is not None
    }


def _primary(claimed: MapName, verdicts: Mapping[tuple[str, str], str]) -> Prose:
    told = words.listing(f"{subject} {verdict}" for (_, subject), verdict in verdicts.items())
    return Prose(
        [
            (
                "The primary map:",
                f"{claimed.described}. Its units were switched off, with sham maps and all other "
                f"controls in the section of each subject: {told or 'no verdict'}.",
            )
        ]
    )


def _lead(contrast: ContrastOptions, claimed: MapName | None, *, series: bool) -> str:
    target = words.listing(words.readable(name) for name in contrast.target)
    controls = words.listing((words.readable(name) for name in contrast.controls), "or")
    return (
        "The maps above show what responds to the contrast; these show what moves the answer. "
        f"Trials are paired, {target} (clean) with {controls} (corrupted), and the activity of a "
        "unit in one run is put into the other, or the effect of that is estimated. "
        + (
            "Exploratory: they decide nothing."
            if claimed is None
            else "One of them is primary; the others are exploratory and decide nothing."
        )
        + (" Checkpoints of a series are not drawn; the tables have them." if series else "")
    )


def _replication(
    inputs: StudyInputs, contrast: ContrastOptions, claimed: MapName | None
) -> list[Block]:
    table = inputs.group.replication
    rows = table[(table["contrast"] == contrast.name) & (table["phase"] == CAUSAL_PHASE)]
    if rows.empty:
        return []
    text = (
        "By the rule under the table above. There is no second-level map: a score is of one "
        "direction of patching, which is above 0 without any effect."
    )
    primary = rows["name"] == (claimed.name if claimed is not None else "")
    return [
        Heading("What replicates of the causal maps", text),
        *([replication_prose(rows[primary], contrast.role)] if primary.any() else []),
        replication_prose(rows[~primary], "exploratory"),
    ]


def _strongest(entries: Entries) -> pd.DataFrame:
    frames = [
        own.profile.top.head(KEPT).assign(
            subject=subject, map=noun_of(own.kind).full, kind=own.kind, method=own.method
        )
        for subject, maps in entries
        for own in maps
        if len(own.profile.top)
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _numbers(entries: Entries) -> pd.DataFrame:
    rows = []
    for subject, maps in entries:
        for own in maps:
            agreed = own.agreement
            rows.append(
                {
                    "subject": subject,
                    "kind": own.kind,
                    "method": own.method,
                    "metric": own.metric,
                    "units": own.profile.units,
                    "selected": own.profile.selected,
                    "largest": own.profile.high,
                    "pairs": own.pairs,
                    "clean_difference": own.number("clean_difference"),
                    "corrupted_difference": own.number("corrupted_difference"),
                    "agreement": agreed.correlation if agreed else math.nan,
                    "agreement_low": agreed.low if agreed else math.nan,
                    "agreement_high": agreed.high if agreed else math.nan,
                    "agreement_units": agreed.units if agreed else 0,
                }
            )
    return pd.DataFrame(rows)
