"""The figures of maps, with captions that say what would speak against them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmri.report import words
from lmri.report.answers import significant_units
from lmri.report.figures.heat import draw_map
from lmri.report.inputs import Scan
from lmri.report.view import Figure, Panel


def map_figure(
    scan: Scan, off: Sequence[Sequence[int]], limit: float, anchor: str, data: str
) -> Figure:
    """Show the map of the primary phase.

    Parameters
    ----------
    scan : Scan
        The map, which is there.
    off : sequence of (layer, expert)
        Experts that were switched off; those the finding names are outlined when there are none.
    limit : float
        Score of the strongest colour.
    anchor, data : str
        Begin of the drawing's key; file with the numbers.

    Returns
    -------
    Figure
        One large drawing.
    """
    units = off or significant_units(scan.finding)
    outlined = "switched off" if off else "named by the finding"
    score = scan.statistics["score"]
    return Figure(
        title=f"The map at the {words.phase_name(scan.phase)}",
        panels=[Panel(draw_map(_grid(scan), units, limit, f"{anchor}-map"))],
        alt=(
            f"Map of {score.sizes['layer']} layers by {score.sizes['expert']} experts; scores from "
            f"{words.signed(float(score.min()))} to {words.signed(float(score.max()))}. "
            + (f"Outlined, {outlined}: {words.unit_names(units)}." if units else "None outlined.")
        ),
        look_for=(
            "Each cell is one expert: orange when the target trials use it more often than the "
            "controls, blue when less, blank when equally. "
            + (f"Outlined: {outlined}, numbered by rank. " if units else "")
            + "All maps of this page share one scale."
        ),
        falsify=_map_falsify(scan.contrast.role),
        source=scan.map_path,
        data=data,
    )


def phase_figure(scans: Sequence[Scan], limit: float, anchor: str, data: str) -> Figure | None:
    """Show the maps of the other phases, small.

    Parameters
    ----------
    scans : sequence of Scan
        All phases but the primary one.
    limit : float
        Score of the strongest colour.
    anchor, data : str
        Begin of the drawings' keys; file with the numbers.

    Returns
    -------
    Figure or None
        None when no other phase has a map.
    """
    scans = [scan for scan in scans if scan.statistics is not None]
    if not scans:
        return None
    counts = [
        f"{words.phase_name(scan.phase)}: {len(significant_units(scan.finding))} outlined"
        for scan in scans
    ]
    return Figure(
        title="The same contrast in the other phases (exploratory)",
        panels=[
            Panel(
                draw_map(
                    _grid(scan),
                    significant_units(scan.finding),
                    limit,
                    f"{anchor}-{scan.phase}",
                    width=430,
                    scale_bar=False,
                ),
                title=words.phase_name(scan.phase).capitalize(),
            )
            for scan in scans
        ],
        alt=f"Maps of the other phases. {'; '.join(counts)}.",
        look_for=(
            "Outlined: the experts each map would have selected. A response has other words in "
            "each condition, so its map also marks experts of word form."
        ),
        falsify="Nothing here: these maps decide nothing.",
        source=scans[0].map_path.replace(f".{scans[0].phase}/", ".<phase>/"),
        data=data,
        layout="medium",
    )


def overview_figure(
    entries: Sequence[tuple[str, str, Scan, Sequence[Sequence[int]]]], limit: float, data: str
) -> Figure:
    """Show the primary maps of all subjects side by side with their verdicts.

    Parameters
    ----------
    entries : sequence of tuple
        Subject, verdict, the scan with its map, and the units switched off.
    limit : float
        Score of the strongest colour.
    data : str
        File with the verdicts.

    Returns
    -------
    Figure
        One drawing per subject.
    """
    panels = [
        Panel(
            draw_map(
                _grid(scan),
                units or significant_units(scan.finding),
                limit,
                f"overview-{index}",
                width=430,
                scale_bar=False,
            ),
            title=subject,
            badge=verdict,
        )
        for index, (subject, verdict, scan, units) in enumerate(entries)
    ]
    first = entries[0][2]
    told = "; ".join(
        f"{subject}: largest score {words.signed(float(scan.statistics['score'].max()))}, {verdict}"
        for subject, verdict, scan, _ in entries
    )
    return Figure(
        title=f"The maps of {words.readable(first.contrast.name)}, side by side",
        panels=panels,
        alt=f"Maps with verdicts. {told}.",
        look_for=(
            "Each cell is one expert, orange where the target trials use it more. Two maps may "
            "look alike and have opposite verdicts: a map predicts, and only the re-run without "
            "its experts decides."
        ),
        falsify="See the verdict above each map.",
        source=first.map_path.replace(f"maps/{entries[0][0]}/", "maps/<subject>/"),
        data=data,
        layout="medium",
    )


def score_limit(scans: Sequence[Scan]) -> float:
    """Largest magnitude of all maps, rounded up to a tenth: the end of the shared scale."""
    largest = [
        float(np.nanmax(np.abs(scan.statistics["score"].values)))
        for scan in scans
        if scan.statistics is not None and scan.statistics["score"].size
    ]
    most = max((value for value in largest if np.isfinite(value)), default=1.0)
    return float(np.ceil(round(most * 10, 6)) / 10) or 1.0


def _grid(scan: Scan) -> np.ndarray:
    return scan.statistics["score"].transpose("layer", "expert").values


def _map_falsify(role: str) -> str:
    if role == "negative_control":
        return "Any outlined expert: the conditions differ by nothing but chance."
    if role == "hypothesis":
        return "An empty map. A full one proves little: it is a prediction, tested below."
    return "Nothing here: this map was not put to the test and decides nothing."
