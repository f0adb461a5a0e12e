"""The figures of maps, with captions that say what would speak against them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from lmri.report import words
from lmri.report.answers import significant_units
from lmri.report.figures.heat import draw_map
from lmri.report.figures.strips import draw_strips
from lmri.report.inputs import Scan
from lmri.report.profiles import Profile
from lmri.report.view import Figure, Panel

SMALL_WIDTH = 430

ORANGE = (
    "Orange: with this activity the answer moves towards what the clean trial says; blue: away "
    "from it; blank: it does nothing. "
)
"""Colours of a causal map."""

Limits = Mapping[str, float]
"""Score of the strongest colour, by statistic."""


def draw_profile(
    profile: Profile,
    units: Sequence[Sequence[int]],
    limits: Limits,
    key: str,
    width: float = SMALL_WIDTH,
    scale_bar: bool = False,
) -> Markup:
    """Draw a map: one cell per unit, or where there are too many, how they are distributed.

    Parameters
    ----------
    profile : Profile
        The map.
    units : sequence of (layer, ...)
        Units to outline, best first.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    key : str
        Distinguishes the drawing from all others of the page.
    width : float
        Width of the drawing.
    scale_bar : bool
        Whether to draw the scale of the colours.

    Returns
    -------
    Markup
        The drawing.
    """
    name = profile.name
    if profile.cells is None:
        found = profile.distribution
        return draw_strips(
            found.edges,
            found.units,
            found.selected,
            profile.layers,
            key,
            width=width,
            name=name.statistic_name if not name.counted else "score",
        )
    cells, axes, rows = profile.cells, (name.noun.one, "layer"), None
    where = [cell_of(profile, unit) for unit in units]
    if name.kind == "layer":  # a line of layers, not a column
        cells, axes = cells.T, ("layer", "")
        where = [(column, row) for row, column in where]
    elif profile.layers != tuple(range(len(profile.layers))):
        rows = [str(layer) for layer in profile.layers]
    return draw_map(
        cells,
        where,
        limits[name.statistic],
        key,
        width=width,
        scale_bar=scale_bar,
        axes_names=axes,
        rows=rows,
        scale_name="score" if name.counted else name.statistic_name,
    )


def map_figure(
    scan: Scan, off: Sequence[Sequence[int]], limits: Limits, anchor: str, data: str
) -> Figure:
    """Show the map of the primary phase.

    Parameters
    ----------
    scan : Scan
        The map, which is there.
    off : sequence of (layer, ...)
        Units that were switched off; those the finding names are outlined when there are none.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    anchor, data : str
        Begin of the drawing's key; file with the numbers.

    Returns
    -------
    Figure
        One large drawing.
    """
    units = off or significant_units(scan.finding)
    outlined = "switched off" if off else "named by the finding"
    profile = scan.profile
    drawing = draw_profile(profile, units, limits, f"{anchor}-map", 900, scale_bar=True)
    return Figure(
        title=(
            f"The causal map of {profile.name.described}"
            if scan.causal
            else f"The map at the {words.phase_name(scan.phase)}"
        ),
        panels=[Panel(drawing)],
        alt=(
            f"Map of {describe_size(profile)}; scores from {words.statistic(profile.low)} to "
            f"{words.statistic(profile.high)}. "
            + (f"Outlined, {outlined}: {words.unit_names(units)}." if units else "None outlined.")
        ),
        look_for=(
            describe_marks(profile)
            + (
                f"Outlined: {outlined}, numbered by rank. "
                if units and profile.cells is not None
                else ""
            )
            + "All maps of this page with the same statistic share one scale."
        ),
        falsify=_map_falsify(scan),
        source=scan.map_path,
        data=data,
    )


def phase_figure(scans: Sequence[Scan], limits: Limits, anchor: str, data: str) -> Figure | None:
    """Show the maps of the other phases, small.

    Parameters
    ----------
    scans : sequence of Scan
        All phases but the primary one.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    anchor, data : str
        Begin of the drawings' keys; file with the numbers.

    Returns
    -------
    Figure or None
        None when no other phase has a map.
    """
    scans = [scan for scan in scans if scan.profile is not None]
    if not scans:
        return None
    counts = [
        f"{words.phase_name(scan.phase)}: {len(significant_units(scan.finding))} outlined"
        for scan in scans
    ]
    many = scans[0].noun.many
    return Figure(
        title="The same contrast in the other phases (exploratory)",
        panels=[
            Panel(
                draw_profile(
                    scan.profile, significant_units(scan.finding), limits, f"{anchor}-{scan.phase}"
                ),
                title=words.phase_name(scan.phase).capitalize(),
            )
            for scan in scans
        ],
        alt=f"Maps of the other phases. {'; '.join(counts)}.",
        look_for=(
            f"Outlined: the {many} each map would have named, of those it selects the strongest, "
            "at most as many as the largest dose. A response has other words in "
            f"each condition, so its map also marks {many} of word form."
        ),
        falsify="Nothing here: these maps decide nothing.",
        source=scans[0].map_path.replace(f".{scans[0].phase}/", ".<phase>/"),
        data=data,
        layout="medium",
    )


def overview_figure(
    entries: Sequence[tuple[str, str, Scan, Sequence[Sequence[int]]]],
    limits: Limits,
    data: str,
    key: str = "overview",
) -> Figure:
    """Show the primary maps of all subjects side by side with their verdicts.

    Parameters
    ----------
    entries : sequence of tuple
        Subject, verdict (empty when nothing was claimed), the scan with its map, and the units
        switched off.
    limits : mapping of str to float
        Score of the strongest colour, by statistic.
    data : str
        File with the verdicts.
    key : str
        Begin of the drawings' keys.

    Returns
    -------
    Figure
        One drawing per subject.
    """
    panels = [
        Panel(
            draw_profile(
                scan.profile, units or significant_units(scan.finding), limits, f"{key}-{index}"
            ),
            title=subject,
            badge=verdict,
        )
        for index, (subject, verdict, scan, units) in enumerate(entries)
    ]
    first = entries[0][2]
    told = "; ".join(
        ", ".join(
            part
            for part in (
                f"{subject}: largest score {words.statistic(scan.profile.high)}",
                f"{scan.profile.selected} selected",
                verdict,
            )
            if part
        )
        for subject, verdict, scan, _ in entries
    )
    claimed = any(verdict for _, verdict, _, _ in entries)
    return Figure(
        title=(
            f"The {'causal ' if first.causal else ''}maps of "
            f"{words.readable(first.contrast.name)}, side by side"
        ),
        panels=panels,
        alt=f"Maps of all subjects. {told}.",
        look_for=(
            describe_marks(first.profile) + "Two maps may look alike and have opposite verdicts: "
            f"a map predicts, and only the re-run without its {first.noun.many} decides."
        ),
        falsify=(
            "See the verdict above each map."
            if claimed
            else "Nothing here: these maps were not put to the test and decide nothing."
        ),
        source=first.map_path.replace(f"maps/{entries[0][0]}/", "maps/<subject>/"),
        data=data,
        layout="medium",
    )


def score_limits(scans: Sequence[Scan]) -> dict[str, float]:
    """Find the end of the scale that all maps of a statistic share.

    Parameters
    ----------
    scans : sequence of Scan
        All of the study.

    Returns
    -------
    dict of str to float
        By statistic, the largest magnitude, rounded up to a tenth; from 2 on to a whole number.
    """
    largest: dict[str, float] = {}
    for scan in scans:
        for found in (scan.profile, *(other.profile for other in scan.others)):
            if found is not None:
                statistic = found.name.statistic
                largest[statistic] = max(largest.get(statistic, 0.0), found.largest)
    return {statistic: _rounded_up(most) for statistic, most in largest.items()}


def describe_size(profile: Profile) -> str:
    """Say how many units a map has: ``3 layers by 32 experts``."""
    noun, layers = profile.name.noun, words.plural(len(profile.layers), "layer")
    if profile.name.kind == "layer":
        return layers
    return f"{layers} by {noun.count(profile.units // len(profile.layers))}"


def describe_marks(profile: Profile) -> str:
    """Say what a cell or a row of a drawing is."""
    noun = profile.name.noun
    if profile.cells is None:
        return (
            f"Each row is a layer, and shows how the scores of its {noun.many} are distributed: "
            f"darker where there are more, orange where some are selected. "
        )
    if profile.name.causal:
        return f"Each cell is one {noun.one}, and what it does to the answer. {ORANGE}"
    if profile.name.kind == "expert" and profile.name.counted:
        return (
            "Each cell is one expert: orange when the target trials use it more often than the "
            "controls, blue when less, blank when equally. "
        )
    return (
        f"Each cell is one {noun.one}: orange when the {profile.name.quantity_name} is larger in "
        "the target trials than in the controls, blue when smaller, blank when equal. "
    )


def cell_of(profile: Profile, unit: Sequence[int]) -> tuple[int, int]:
    """Find a unit among the cells of its map.

    Parameters
    ----------
    profile : Profile
        The map.
    unit : sequence of int
        Coordinates of the unit, its layer first.

    Returns
    -------
    tuple of int
        Row and column.
    """
    inside = [int(part) for part in unit[1:]]
    column = int(np.ravel_multi_index(inside, profile.shape)) if inside else 0
    return profile.layers.index(int(unit[0])), column


def _rounded_up(most: float) -> float:
    if not most:
        return 1.0
    return float(math.ceil(round(most, 6)) if most > 2 else np.ceil(round(most * 10, 6)) / 10)


def _map_falsify(scan: Scan) -> str:
    if scan.contrast.role == "negative_control":
        return f"Any outlined {scan.noun.one}: the conditions differ by nothing but chance."
    if scan.contrast.role == "hypothesis":
        return "An empty map. A full one proves little: it is a prediction, tested below."
    return "Nothing here: this map was not put to the test and decides nothing."
