"""The group level: what the maps of all subjects have in common, and what not.

Units of subjects trained on their own have nothing but their layer in common: expert 5 of one is
not expert 5 of another. Units correspond between states that start from one base and between
checkpoints of one series; only there are sets of units compared across subjects. A second level is
over the states of one base: what holds for this base however it is tuned further, not for others.
Checkpoints of a series are one model and are no sample of anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.config import ContrastOptions, LocaliseOptions
from lmri.localise.heads import head_table
from lmri.localise.heads_and_layers import PROBES
from lmri.localise.overlap import chance_of_significance, overlap
from lmri.localise.second_level import second_level
from lmri.localise.statistics import is_cut
from lmri.localise.units import ROUNDING
from lmri.store import (
    CAUSAL_PHASE,
    atomic_directory,
    read_finding,
    read_map,
    write_map,
    write_table,
)

LEAST_SUBJECTS = 6
"""Subjects whose changes of sign can reach a two-sided p of .05 at the second level."""

LEAST_LAYERS = 4
"""Layers below which a correlation of layer profiles says nothing."""

Selected = dict[tuple[str, str, str, str], tuple[frozenset, np.ndarray, int]]
"""Selected units, of all units whether they have a score (packed bits), and the number of units, by
subject, contrast, phase and name of the map."""


def map_group(
    *,
    maps: Path,
    findings: Path,
    out: Path,
    subjects: Mapping[str, Mapping[str, object]],
    contrasts: Sequence[ContrastOptions],
    options: LocaliseOptions,
    alpha: float,
    seed: int,
    provenance: dict,
) -> None:
    """Compare the maps of all subjects of a study.

    Parameters
    ----------
    maps, findings : Path
        Folders with ``<subject>/<contrast>.<phase>/<kind>.<method>`` of every subject.
    out : Path
        Folder to write, replaced as a whole: ``maps.parquet``, ``replication.parquet``,
        ``overlap.parquet``, ``heads.parquet`` and ``second_level/``, see ``docs/artefacts.md``.
    subjects : mapping of str to mapping
        Of every subject its ``origin`` (subjects of one origin have corresponding units; empty for
        a subject on its own), ``series`` and ``step``.
    contrasts : sequence of ContrastOptions
        The contrasts.
    options : LocaliseOptions
        Maps, phases and numbers of permutations.
    alpha : float
        Level of the max-statistic.
    seed : int
        Seed of the study.
    provenance : dict
        Kept in every table.

    Raises
    ------
    StoreError
        If a map or finding is missing or damaged.
    """
    rows, profiles, selected = [], {}, {}
    phases = options.phases if options.causal is None else (*options.phases, CAUSAL_PHASE)
    for subject in subjects:
        for contrast in contrasts:
            for phase in phases:
                folder = f"{subject}/{contrast.name}.{phase}"
                for path in sorted((findings / folder).glob("*.json"), key=_order(options)):
                    finding = read_finding(path)
                    store = maps / folder / f"{path.stem}.zarr"
                    row, statistics = _row(finding, store, alpha)
                    rows.append(row)
                    if statistics is None:
                        continue
                    key = subject, contrast.name, phase, path.stem
                    profiles[key] = _profile(statistics)
                    score = statistics["score"].values
                    scored = np.packbits(np.isfinite(score))
                    selected[key] = _selected(statistics, alpha), scored, score.size
    table = pd.DataFrame(rows, columns=list(MAP_COLUMNS))
    origins = {name: str(own.get("origin") or name) for name, own in subjects.items()}
    with atomic_directory(out) as partial:
        states = _independent(table, subjects)
        second = _second_levels(maps, states, origins, partial, options, seed, provenance)
        tables = {
            "maps": table,
            "replication": _replication(states, profiles, second),
            "overlap": _overlaps(selected, origins, alpha),
            "heads": _heads(maps, subjects),
        }
        for name, own in tables.items():
            own.attrs["provenance"] = json.dumps(provenance)
            write_table(partial / f"{name}.parquet", own)


MAP_COLUMNS = (
    *("subject", "contrast", "role", "phase", "kind", "method", "name", "units", "selected"),
    *("rising", "strongest", "score", "p_max", "size", "split_half_correlation"),
    *("split_half_dice", "split_half_chance", "layers", "status", "reason"),
)
REPLICATION_COLUMNS = (
    *("contrast", "phase", "kind", "method", "name", "subjects", "mapped", "modal_layer"),
    *("in_modal_layer", "correlation_low", "correlation_mean", "correlation_high", "second_level"),
)
OVERLAP_COLUMNS = (
    *("first", "second", "kind", "shared", "first_size", "second_size", "universe", "jaccard"),
    *("overlap", "p", "chance"),
)


def _order(options: LocaliseOptions) -> object:
    """Sort paths as the configuration names the maps."""
    place = {name: i for i, name in enumerate(options.maps)}
    return lambda path: (place.get(path.stem, len(place)), path.stem)


def _row(finding: dict, store: Path, alpha: float) -> tuple[dict, xr.Dataset | None]:
    row = {key: finding[key] for key in ("subject", "contrast", "role", "phase", "kind", "method")}
    row |= {key: finding.get(key, "") for key in ("status", "reason")}
    row |= {"name": f"{finding['kind']}.{finding['method']}", "units": 0, "selected": 0}
    row |= {"rising": 0, "strongest": "", "layers": "{}"}
    if not store.exists() and not finding["units"]:
        return row, None  # the subject has no units of the kind
    statistics = read_map(store)
    score = statistics["score"]
    chosen = _chosen(statistics, alpha)
    rank = statistics["rank"].values.reshape(-1)
    best = np.unravel_index(int(np.argmin(rank)), score.shape)
    layers = chosen.reshape(len(score["layer"]), -1).sum(axis=1)
    size = "hedges_g" if "hedges_g" in statistics else "score"
    row |= {
        "units": score.size,
        "selected": int(chosen.sum()),
        "rising": int((chosen & (score.values > 0)).sum()),
        # A place has a name in a map, and its number in the name of a unit.
        "strongest": json.dumps(
            [
                int(i if dim == "place" else score[dim].values[i])
                for dim, i in zip(score.dims, best, strict=True)
            ]
        ),
        "score": float(score.values[best]),
        "p_max": float(statistics["p_max"].values[best]),
        # The effect of a causal map is its score: it has no deviations to be told in.
        "size": np.nan if row["phase"] == CAUSAL_PHASE else float(statistics[size].values[best]),
        "layers": json.dumps(
            {int(layer): int(n) for layer, n in zip(score["layer"].values, layers, strict=True)}
        ),
    }
    halves = ("split_half_correlation", "split_half_dice", "split_half_chance")
    return {**row, **{name: statistics.attrs.get(name, np.nan) for name in halves}}, statistics


def _chosen(statistics: xr.Dataset, alpha: float) -> np.ndarray:
    score = statistics["score"].values
    strength = np.abs(score) if statistics.attrs.get("two_sided") else score
    return (strength > ROUNDING) & (statistics["p_max"].values <= alpha)


def _selected(statistics: xr.Dataset, alpha: float) -> frozenset:
    return frozenset(np.flatnonzero(_chosen(statistics, alpha)).tolist())


def _profile(statistics: xr.Dataset) -> np.ndarray:
    """Mean magnitude of the score in each layer, which subjects of any origin share."""
    score = np.abs(statistics["score"].values)
    flat = score.reshape(score.shape[0], -1)
    known = np.isfinite(flat) & ~is_cut(flat)
    count = known.sum(axis=1)
    return np.where(known, flat, 0.0).sum(axis=1) / np.where(count > 0, count, np.nan)


def _independent(table: pd.DataFrame, subjects: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    """Rows of subjects that can replicate each other.

    Checkpoints of a series are one model: they count where there is nothing else, with the last.
    """
    alone = [name for name, own in subjects.items() if not own.get("series")]
    if not alone:
        last: dict[str, str] = {}
        for name in sorted(subjects, key=lambda name: subjects[name].get("step") or 0):
            last[str(subjects[name]["series"])] = name
        alone = list(last.values())
    return table[table["subject"].isin(alone)]


def _replication(
    table: pd.DataFrame, profiles: dict[tuple, np.ndarray], second: dict[tuple, str]
) -> pd.DataFrame:
    rows = []
    keys = ["contrast", "phase", "name", "kind", "method"]
    for (contrast, phase, name, kind, method), own in table.groupby(keys, sort=False):
        known = own[own["strongest"] != ""]
        # The strongest unit of an empty map is nobody's finding.
        found = known.loc[known["selected"] > 0, "strongest"]
        layers = pd.Series([json.loads(unit)[0] for unit in found], dtype="float64")
        modal = layers.mode()
        own_profiles = [profiles[s, contrast, phase, name] for s in known["subject"]]
        low, mean, high = _agreement(own_profiles)
        rows.append(
            {
                "contrast": contrast,
                "phase": phase,
                "kind": kind,
                "method": method,
                "name": name,
                "subjects": len(known),
                "mapped": int((known["selected"] > 0).sum()),
                "modal_layer": float(modal.iloc[0]) if len(modal) else np.nan,
                "in_modal_layer": int((layers == modal.iloc[0]).sum()) if len(modal) else 0,
                "correlation_low": low,
                "correlation_mean": mean,
                "correlation_high": high,
                "second_level": second.get((contrast, phase, name), ""),
            }
        )
    return pd.DataFrame(rows, columns=list(REPLICATION_COLUMNS))


def _agreement(profiles: list[np.ndarray]) -> tuple[float, float, float]:
    """Smallest, mean and largest correlation of the layer profiles of two subjects."""
    values = [
        float(np.corrcoef(a, b)[0, 1])
        for a, b in combinations(profiles, 2)
        if len(a) == len(b) >= LEAST_LAYERS and np.isfinite(a).all() and np.isfinite(b).all()
    ]
    values = [value for value in values if np.isfinite(value)]
    if not values:
        return np.nan, np.nan, np.nan
    return min(values), float(np.mean(values)), max(values)


def _overlaps(selected: Selected, origins: Mapping[str, str], alpha: float) -> pd.DataFrame:
    """Compare non-empty sets of one map: of two contrasts of a subject, of two like subjects."""
    rows = []
    for first, second in combinations(selected, 2):
        (s1, c1, p1, n1), (s2, c2, p2, n2) = first, second
        same_subject = s1 == s2 and c1 != c2
        like_subjects = s1 != s2 and c1 == c2 and origins[s1] == origins[s2]
        if (p1, n1) != (p2, n2) or not (same_subject or like_subjects):
            continue
        (a, here, size), (b, there, other) = selected[first], selected[second]
        if not a or not b or size != other:
            continue
        # A unit that has no score in one of them could not have been shared.
        found = overlap(a, b, max(len(a | b), int(np.bitwise_count(here & there).sum())))
        rows.append(
            {
                "first": json.dumps(first),
                "second": json.dumps(second),
                "kind": n1.partition(".")[0],
                "shared": found["shared"],
                "first_size": found["n_a"],
                "second_size": found["n_b"],
                "universe": found["universe"],
                "jaccard": found["jaccard"],
                "overlap": found["coefficient"],
                "p": found["p"],
                "chance": chance_of_significance(len(a), len(b), found["universe"], alpha),
            }
        )
    return pd.DataFrame(rows, columns=list(OVERLAP_COLUMNS))


def _second_levels(
    maps: Path,
    table: pd.DataFrame,
    origins: Mapping[str, str],
    out: Path,
    options: LocaliseOptions,
    seed: int,
    provenance: dict,
) -> dict[tuple, str]:
    """Random effects over the subjects of one origin, where there are enough; paths by map."""
    written: dict[tuple, str] = {}
    known = table[table["strongest"] != ""].assign(origin=lambda t: t["subject"].map(origins))
    # Average precision is above 0 without any effect, and so is one direction of patching.
    centred = ~known["name"].str.endswith("average_precision") & (known["phase"] != CAUSAL_PHASE)
    known = known[centred]
    for key, own in known.groupby(["origin", "contrast", "phase", "name"], sort=False):
        if len(own) < LEAST_SUBJECTS:
            continue
        origin, contrast, phase, name = key
        stores = {s: maps / f"{s}/{contrast}.{phase}/{name}.zarr" for s in own["subject"]}
        scores = {subject: read_map(store) for subject, store in stores.items()}
        two_sided = bool(next(iter(scores.values())).attrs.get("two_sided"))
        result = second_level(
            {subject: statistics["score"] for subject, statistics in scores.items()},
            options.permutations,
            seed,
            two_sided=two_sided,
        )
        path = f"second_level/{origin}/{contrast}.{phase}/{name}.zarr"
        write_map(out / path, result.assign_attrs(provenance=str(provenance)))
        written[contrast, phase, name] = f"group/{path}"
    return written


def _heads(maps: Path, subjects: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    """Scores of every head of every subject that was probed."""
    tables = []
    for subject, own in subjects.items():
        stores = sorted((maps / subject / PROBES).glob("head.*.zarr"))
        if stores:
            table = head_table({store.stem: read_map(store) for store in stores})
            step = own.get("step")
            place = {"subject": subject, "series": str(own.get("series") or "")}
            place["step"] = np.nan if step is None else float(step)
            tables.append(table.assign(**place))
    if not tables:
        return pd.DataFrame(columns=["subject", "series", "step", "layer", "head"])
    table = pd.concat(tables, ignore_index=True)
    first = ["subject", "series", "step", "layer", "head"]
    scores = [name for name in table if name not in first and name != "positive_share"]
    # A task with one condition has no gap between conditions: nothing is said by a constant.
    scores = [name for name in scores if table[name].nunique() > 1]
    return table[[*first, *sorted(scores, key=_place_of_score)]]


LEADING = ("induction", "previous", "duplicate", "retrieval", "copying")
"""Scores that come first in the table of heads."""


def _place_of_score(name: str) -> tuple[int, str]:
    score = name.rpartition(".")[2]
    return (LEADING.index(score) if score in LEADING else len(LEADING), name)
