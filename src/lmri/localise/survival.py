"""The same maps from other recordings of a subject: what becomes of them when it runs otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.anatomy import load_subject
from lmri.config import ContrastOptions, EvidenceOptions, LoadOptions, LocaliseOptions
from lmri.localise.contrast_map import activity_of, map_of
from lmri.localise.maps import UnitMap
from lmri.localise.measures import available, parse_measure
from lmri.localise.statistics import is_cut
from lmri.localise.study import Study, open_shards, selection_trials, task_carriers
from lmri.localise.units import ROUNDING
from lmri.store import read_map, read_table, write_table

COLUMNS = (
    *("subject", "contrast", "phase", "kind", "method", "units", "correlation"),
    *("selected", "selected_again", "shared", "dice", "chance", "strongest", "strongest_rank"),
)


def compare_maps(
    *,
    subject: str,
    model: Path,
    stimuli: Path,
    maps: Path,
    recordings: Path,
    out: Path,
    contrasts: Sequence[ContrastOptions],
    carriers: dict[str, tuple[str, ...]],
    options: LocaliseOptions,
    evidence: EvidenceOptions,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
) -> pd.DataFrame:
    """Compute maps anew from other recordings, and hold them against those there are.

    Parameters
    ----------
    subject : str
        Name of the subject.
    model : Path
        Its prepared folder.
    stimuli : Path
        Folder with ``<task>.parquet``.
    maps : Path
        Folder with the maps of the subject, of every contrast in every phase.
    recordings : Path
        Folder with ``<task>/<shard>.zarr`` of the other recordings.
    out : Path
        Table to write.
    contrasts : sequence of ContrastOptions
        The contrasts; their tasks must be recorded.
    carriers : dict of str to tuple of str
        Carriers of every task; empty ones are read off the table.
    options : LocaliseOptions
        Maps, phases, relabellings.
    evidence : EvidenceOptions
        Its ``alpha`` selects the units of both maps.
    seed : int
        Seed of the relabellings, as of the maps there are.
    provenance : dict
        Kept in the table.
    load : LoadOptions, optional
        How the subject is loaded; by default in float32 on the CPU.

    Returns
    -------
    DataFrame
        One row a map: the correlation of the scores over all units, units that each map selects and
        those both do, their Dice coefficient and the one that sets of this size have by chance, the
        strongest unit before and its rank now.

    Raises
    ------
    StoreError
        If a map or a recording is missing or damaged.
    """
    used = sorted({contrast.task for contrast in contrasts})
    tables = {task: read_table(stimuli / f"{task}.parquet", ("trial", "split")) for task in used}
    study = Study(
        load_subject(model, subject, load=load),
        tables,
        {task: open_shards(recordings / task) for task in used},
        {task: carriers[task] or task_carriers(tables[task]) for task in used},
        options,
        evidence,
        0,
        seed,
        provenance,
    )
    names = [parse_measure(name) for name in options.maps]
    measures = available(names, study.subject.anatomy)
    rows = []
    for contrast in contrasts:
        trials = selection_trials(study, contrast)
        for phase, measure in product(options.phases, measures):
            before = read_map(maps / f"{contrast.name}.{phase}" / f"{measure.name}.zarr")
            activity = activity_of(study, contrast, phase, measure)
            now = map_of(study, contrast, activity, measure, trials)
            rows.append(
                {
                    "subject": subject,
                    "contrast": contrast.name,
                    "phase": phase,
                    "kind": measure.kind,
                    "method": measure.method,
                    **_compared(before, now, evidence.alpha),
                }
            )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs["provenance"] = json.dumps(provenance)
    write_table(out, table)
    return table


def _compared(before: xr.Dataset, now: UnitMap, alpha: float) -> dict:
    old, new = before["score"].to_numpy().ravel(), now.score.ravel()
    both = np.isfinite(old) & np.isfinite(new)
    # One that is cut would count for more than all others.
    sized = both & ~is_cut(old) & ~is_cut(new)
    strength = np.abs(old) if before.attrs["two_sided"] else old
    was = (strength > ROUNDING) & (before["p_max"].to_numpy().ravel() <= alpha)
    chosen = now.selected(alpha)
    again = now.units.positions(chosen)
    # In the same direction: a unit that now responds the other way is not the same finding.
    shared = int((was[again] & (np.sign(old[again]) == np.sign(new[again]))).sum())
    total = int(was.sum()) + len(chosen)
    best = int(np.nanargmax(np.where(np.isfinite(strength), strength, -np.inf)))
    # In the direction it had: a unit that now responds the other way is not the strongest.
    place = np.sign(old[best]) * new if before.attrs["two_sided"] else new
    return {
        "units": int(both.sum()),
        "correlation": _correlation(old[sized], new[sized]),
        "selected": int(was.sum()),
        "selected_again": len(chosen),
        "shared": shared,
        "dice": 2 * shared / total if total else np.nan,
        "chance": 2 * was.sum() * len(chosen) / both.sum() / total if total else np.nan,
        "strongest": ":".join(map(str, now.units.named(np.array([best]))[0])),
        "strongest_rank": _rank(place, best),
    }


def _rank(strength: np.ndarray, unit: int) -> float:
    """Rank of a unit, 1 for the strongest; NaN for one without a score."""
    if not np.isfinite(strength[unit]):
        return float("nan")
    return float((strength > strength[unit]).sum() + 1)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 2 or not np.ptp(first) or not np.ptp(second):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
