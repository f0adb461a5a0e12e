"""The stage ``connect``: networks of the units of one subject."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from lmri.config import ConnectOptions
from lmri.connect.activity import LEAST_TRIALS, Activity, read_activity
from lmri.connect.communities import communities
from lmri.connect.differences import difference
from lmri.connect.edges import LEAST_MOVED, EdgeTest, edge_test, residuals
from lmri.connect.graphs import cycle_map, strongest_edges
from lmri.connect.measures import KINDS, connectivity, square
from lmri.errors import EvidenceError
from lmri.store import (
    atomic_directory,
    carriers_of,
    open_recordings,
    write_map,
    write_text_atomic,
)

ALL, WITHIN = "all", "within"
"""Networks: of all trials, and with the mean of its condition taken out of each."""

SPLIT = "selection"

LeftOut = dict[str, str]


@dataclass(frozen=True)
class _Asked:
    """What is asked of one task, phase and kind."""

    where: str
    activity: Activity
    carriers: tuple[str, ...]
    contrasts: Sequence[Mapping[str, object]]
    options: ConnectOptions
    seed: int


def connect_subject(
    *,
    subject: str,
    recordings: Path,
    out: Path,
    tasks: Mapping[str, Sequence[str]],
    contrasts: Sequence[Mapping[str, object]],
    options: ConnectOptions,
    seed: int,
    provenance: dict,
) -> None:
    """Estimate and test the networks of a subject.

    What was not recorded, or cannot be estimated, is left out, and why stands in
    ``left_out.json``.

    Parameters
    ----------
    subject : str
        Name of the subject.
    recordings : Path
        Folder with ``<task>/<shard>.zarr`` of the subject.
    out : Path
        Folder to write, as a whole: ``<task>.<phase>.<kind>.zarr``, see ``docs/artefacts.md``.
    tasks : mapping of str to sequence of str
        Tasks and their carriers; empty carriers are read off the table.
    contrasts : sequence of mapping
        ``name``, ``task``, ``target`` and ``controls`` of what is compared.
    options : ConnectOptions
        Kinds, phases and numbers of draws.
    seed : int
        Of all draws.
    provenance : dict
        Kept in every file.

    Raises
    ------
    StoreError
        If a recording is missing or damaged.
    """
    with atomic_directory(out) as partial:
        left_out: LeftOut = {}
        for task, carriers in tasks.items():
            tree = open_recordings(recordings / task, verify=True)
            own = [contrast for contrast in contrasts if contrast["task"] == task]
            for phase in options.phases:
                for kind in options.kinds:
                    where = f"{task}.{phase}.{kind}"
                    try:
                        activity = read_activity(
                            tree, kind, phase, split=SPLIT, nodes=options.nodes
                        )
                        named = carriers_of(activity.table, carriers)
                        asked = _Asked(where, activity, named, own, options, seed)
                        found = _network(asked, left_out)
                    except EvidenceError as error:
                        left_out[where] = str(error)
                        continue
                    labels = {"subject": subject, "task": task, "provenance": str(provenance)}
                    write_map(partial / f"{where}.zarr", found.assign_attrs(labels))
        text = json.dumps(left_out, indent=1, sort_keys=True)
        write_text_atomic(partial / "left_out.json", text + "\n")


def _network(asked: _Asked, left_out: LeftOut) -> xr.Dataset:
    activity = asked.activity
    nodes = activity.nodes
    tests = {ALL: _test(asked, within=False)}
    if activity.table["condition"].nunique() > 1:
        tests[WITHIN] = _test(asked, within=True)
    parts = [
        _matrices(asked, left_out),
        _edges(tests, len(nodes)),
        *(_graph(asked, name, own, left_out) for name, own in tests.items()),
        _differences(asked, left_out),
    ]
    merged = xr.merge(parts, join="outer", compat="no_conflicts", combine_attrs="drop_conflicts")
    merged = merged.reindex(network=list(tests)) if "network" in merged.dims else merged
    named = merged.assign_coords(
        node=activity.names,
        node_layer=("node", np.array([activity.layers[layer] for layer, _ in nodes])),
        node_unit=("node", nodes[:, 1]),
    )
    moved = min(own.moved for own in tests.values())
    if moved < LEAST_MOVED:
        left_out[f"{asked.where}.null"] = (
            f"In a layer the routing shuffle comes {100 * moved:.0f} % of the way from the "
            "recorded choices: there are few ways to exchange experts at their loads, and p-values "
            "are upper bounds."
        )
    return named.assign_attrs(
        kind=activity.kind,
        phase=activity.phase,
        n_trials=len(activity.table),
        carriers=json.dumps(
            {name: int(activity.table[f"carrier_{name}"].nunique()) for name in asked.carriers}
        ),
        exchanged=tests[ALL].exchanged,
        moved=moved,
        draws=asked.options.draws,
        density=asked.options.density,
        not_nodes=json.dumps(activity.left_out),
        seed=asked.seed,
    )


def _test(asked: _Asked, *, within: bool) -> EdgeTest:
    return edge_test(
        asked.activity,
        asked.carriers,
        within=within,
        draws=asked.options.draws,
        seed=asked.seed,
    )


def _matrices(asked: _Asked, left_out: LeftOut) -> xr.Dataset:
    """Connectivity of every kind, over all trials, within conditions, and of each condition."""
    activity = asked.activity
    conditions = activity.table["condition"].to_numpy()
    sessions = {ALL: activity.matrix}
    own = {}
    for condition in sorted(set(conditions)):
        chosen = activity.matrix[conditions == condition]
        if len(chosen) >= LEAST_TRIALS:
            own[str(condition)] = chosen
        else:
            left_out[f"{asked.where}.{condition}"] = (
                f"Connectivity must be estimated from {LEAST_TRIALS} trials or more. Got "
                f"{len(chosen)} of the condition '{condition}'."
            )
    if len(set(conditions)) > 1:
        sessions |= {WITHIN: residuals(activity.matrix, conditions), **own}
    shape = (len(KINDS), len(sessions), *[len(activity.nodes)] * 2)
    values = np.full(shape, np.nan, dtype=np.float32)
    for number, kind in enumerate(KINDS):
        if kind == "tangent" and len(own) < 2:
            left_out[f"{asked.where}.tangent"] = (
                f"Two conditions or more, to deviate from their mean, are needed. Got {len(own)} "
                f"with {LEAST_TRIALS} trials."
            )
            continue
        # The reference of 'tangent' are the conditions: nothing is predicted from it.
        found = connectivity(sessions, kind, tuple(own) if kind == "tangent" else None)
        values[number] = np.stack(list(found.values()))
    return xr.Dataset(
        {"connectivity": (("kind", "session", "node", "other"), values)},
        {"kind": list(KINDS), "session": list(sessions)},
    )


def _edges(tests: Mapping[str, EdgeTest], nodes: int) -> xr.Dataset:
    names = ("value", "null_mean", "z", "p", "p_max", "q")
    return xr.Dataset(
        {
            f"edge_{name}": (
                ("network", "node", "other"),
                np.stack([square(getattr(own, name), nodes) for own in tests.values()]),
            )
            for name in names
        },
        {"network": list(tests)},
    )


def _graph(asked: _Asked, network: str, test: EdgeTest, left_out: LeftOut) -> xr.Dataset:
    options = asked.options
    try:
        weights = square(test.z, len(asked.activity.nodes), diagonal=0.0)
        graph = strongest_edges(weights, options.density)
    except EvidenceError as error:
        left_out[f"{asked.where}.{network}.graph"] = str(error)
        return xr.Dataset()
    cycles = cycle_map(graph, options.rewirings, asked.seed)
    found = communities(graph, options.runs, options.rewirings, asked.seed)
    by_node = {
        "degree": graph.sum(axis=0),
        "triangles": cycles.triangles,
        "triangles_mean": cycles.null_mean,
        "triangles_p": cycles.p,
        "community": found.labels,
    }
    whole = {
        "triangles_total": cycles.total,
        "triangles_total_p": cycles.total_p,
        "communities": found.count,
        "modularity": found.modularity,
        "modularity_mean": found.null_mean,
        "modularity_p": found.p,
        "agreement": found.agreement,
    }
    return xr.Dataset(
        {name: (("network", "node"), own[None].astype(float)) for name, own in by_node.items()}
        | {name: (("network",), [float(own)]) for name, own in whole.items()},
        {"network": [network]},
    )


def _differences(asked: _Asked, left_out: LeftOut) -> xr.Dataset:
    found = {}
    for contrast in asked.contrasts:
        name = str(contrast["name"])
        try:
            found[name] = difference(
                asked.activity,
                list(contrast["target"]),
                list(contrast["controls"]),
                asked.carriers,
                draws=asked.options.draws,
                seed=asked.seed,
            )
        except EvidenceError as error:
            left_out[f"{asked.where}.{name}"] = str(error)
    if not found:
        return xr.Dataset()
    nodes = len(asked.activity.nodes)
    edges = {"difference": "value", "difference_p": "p", "difference_p_max": "p_max"}
    whole = ("distance", "distance_p", "n_target", "n_control", "exchanged")
    return xr.Dataset(
        {
            name: (
                ("contrast", "node", "other"),
                np.stack([square(getattr(own, field), nodes) for own in found.values()]),
            )
            for name, field in {**edges, "difference_q": "q"}.items()
        }
        | {name: (("contrast",), [getattr(own, name) for own in found.values()]) for name in whole},
        {"contrast": list(found)},
    )
