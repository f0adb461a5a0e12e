"""The figures of maps beside the primary one: of one subject, and of all."""

from __future__ import annotations

from collections.abc import Sequence

from lmri.report import words
from lmri.report.answers import significant_units
from lmri.report.inputs import OtherMap
from lmri.report.kinds import MapName
from lmri.report.map_figures import Limits, describe_marks, draw_profile
from lmri.report.view import Figure, Panel

SMALLER_WIDTH = 330
"""Width of drawings that stand in twos and in threes."""


def others_figure(
    maps: Sequence[OtherMap], limits: Limits, anchor: str, data: str
) -> Figure | None:
    """Show the maps of other units, small.

    Parameters
    ----------
    maps : sequence of OtherMap
        Maps of the first phase beside the primary one.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    anchor, data : str
        Begin of the drawings' keys; file with the numbers.

    Returns
    -------
    Figure or None
        None when there is none.
    """
    maps = [entry for entry in maps if entry.profile is not None]
    if not maps:
        return None
    scales = {
        entry.name.statistic: f"{entry.name.statistic_name} up to {limits[entry.name.statistic]:g}"
        for entry in maps
        if entry.profile.cells is not None
    }
    counts = [
        f"{entry.name.title}: {entry.profile.selected} of {entry.profile.units} selected, scores "
        f"from {words.signed(entry.profile.low)} to {words.signed(entry.profile.high)}"
        for entry in maps
    ]
    many = any(entry.profile.cells is None for entry in maps)
    return Figure(
        title="Maps of other units (exploratory)",
        panels=[
            Panel(
                draw_profile(
                    entry.profile,
                    significant_units(entry.finding),
                    limits,
                    f"{anchor}-other{index}",
                    SMALLER_WIDTH,
                ),
                title=entry.name.title.capitalize(),
            )
            for index, entry in enumerate(maps)
        ],
        alt=f"Maps of other units. {'; '.join(counts)}.",
        look_for=(
            "Cells: orange where a unit is more active in the target trials, blue where less; "
            f"outlined, what the finding names. Full colour: {words.listing(scales.values())}. "
            + (
                "Where a layer has too many units for cells, a row shows how their scores are "
                "distributed, orange where some are selected; those stand apart from the bulk of "
                "their layer if they are few and strong."
                if many
                else ""
            )
        ).strip(),
        falsify=(
            "Nothing here decides. Selected units all over the layers, at both ends, are what any "
            "difference between trials leaves in a residual stream: they tell little of where."
        ),
        source=maps[0].map_path.replace(f"/{maps[0].name.name}.", "/<kind>.<method>."),
        data=data,
        layout="medium",
    )


def subjects_figure(
    name: MapName,
    entries: Sequence[tuple[str, OtherMap]],
    limits: Limits,
    key: str,
    *,
    one_base: bool = False,
) -> Figure | None:
    """Show one map beside the primary one for all subjects.

    Parameters
    ----------
    name : MapName
        Which map.
    entries : sequence of tuple
        Subject and its map.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    key : str
        Begin of the drawings' keys.
    one_base : bool
        Whether all subjects come from one base, so that their units correspond.

    Returns
    -------
    Figure or None
        None where no subject has it.
    """
    entries = [(subject, entry) for subject, entry in entries if entry.profile is not None]
    if not entries:
        return None
    told = [
        f"{subject}: {entry.profile.selected} of {entry.profile.units} selected, the strongest "
        f"{words.unit_name(entry.profile.strongest_unit) or words.NOTHING}"
        for subject, entry in entries
    ]
    first = entries[0][1]
    scale = f"Full colour: {name.statistic_name} of {limits[name.statistic]:g}. "
    return Figure(
        title=f"{name.title.capitalize()} ({name.statistic_name})",
        panels=[
            Panel(
                draw_profile(
                    entry.profile,
                    significant_units(entry.finding),
                    limits,
                    f"{key}-{index}",
                    SMALLER_WIDTH,
                ),
                title=subject,
            )
            for index, (subject, entry) in enumerate(entries)
        ],
        alt=f"Maps of {name.title}. {'; '.join(told)}.",
        look_for=(
            describe_marks(first.profile)
            + (scale if any(entry.profile.cells is not None for _, entry in entries) else "")
            + _what_replicates(name, one_base)
        ),
        falsify=(
            "Strong units in other layers in each subject, or a few subjects without any: the map "
            f"tells of one {'state' if one_base else 'base'}, not of how such models do it."
        ),
        source=first.map_path.replace(f"maps/{entries[0][0]}/", "maps/<subject>/"),
        data="",
        layout="medium",
    )


def _what_replicates(name: MapName, one_base: bool) -> str:
    if one_base:
        return (
            "These subjects come from one base: the same number names the same unit, and what two "
            "of them both select is listed below. Over bases only a layer replicates, or how many "
            f"{name.noun.many} respond."
        )
    return (
        f"What replicates over bases is a layer, or how many {name.noun.many} respond: bases are "
        "trained apart, so that the same number names another unit in each."
    )
