"""The stage ``align``: what the subjects of a study share in the trials that all of them read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import xarray as xr

from lmri.align.activity import SubjectActivity, Together, components, matched_layers, read_together
from lmri.align.carriers import broken_orders, halves_of, orders_inside
from lmri.align.ceiling import shared_ceiling
from lmri.align.dissimilarity import compare, crossnobis, design_of
from lmri.align.identification import Identification, identify
from lmri.align.kernels import debiased_alignment, gram, permuted_alignments
from lmri.align.ranks import rank_p
from lmri.align.shared_response import procrustes, shared_response
from lmri.align.transfer import ARMS, Halves, transfer
from lmri.config import AlignOptions
from lmri.errors import EvidenceError
from lmri.store import (
    atomic_directory,
    carriers_of,
    open_recordings,
    write_map,
    write_text_atomic,
)

KERNEL_BYTES = 512 * 2**20
"""Kernels of two subjects that are held at once: of more trials, some are drawn."""

NULL = ("low", "mean", "high")

LeftOut = dict[str, str]


@dataclass(frozen=True)
class _Asked:
    """What is asked of one task, phase and quantity."""

    where: str
    together: Together
    carriers: tuple[str, ...]
    fit: np.ndarray
    score: np.ndarray
    options: AlignOptions
    seed: int

    @property
    def subjects(self) -> tuple[SubjectActivity, ...]:
        return self.together.subjects

    @property
    def names(self) -> list[str]:
        return [own.name for own in self.subjects]


@dataclass(frozen=True)
class _Null:
    """Orders of the trials of the score in which they do not correspond, and inside conditions."""

    orders: list[np.ndarray]
    inside: list[np.ndarray]


def align_subjects(
    *,
    recordings: Path,
    out: Path,
    subjects: Sequence[str],
    tasks: Mapping[str, Sequence[str]],
    options: AlignOptions,
    seed: int,
    provenance: dict,
) -> None:
    """Compare the representations of all subjects of a study.

    What a subject does not have, or cannot be estimated, is left out, and why stands in
    ``left_out.json``.

    Parameters
    ----------
    recordings : Path
        Folder with ``<subject>/<task>/<shard>.zarr``.
    out : Path
        Folder to write, as a whole: ``<task>.<phase>.<quantity>.zarr``, see ``docs/artefacts.md``.
    subjects : sequence of str
        Names of the subjects.
    tasks : mapping of str to sequence of str
        Tasks and their carriers; empty carriers are read off the table.
    options : AlignOptions
        Quantities, phases, splits and numbers.
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
            trees = {
                name: open_recordings(recordings / name / task, verify=True) for name in subjects
            }
            for phase in options.phases:
                for quantity in options.quantities:
                    where = f"{task}.{phase}.{quantity}"
                    try:
                        together = read_together(
                            trees, quantity, phase, (options.fit, options.score)
                        )
                        halves = halves_of(together.table, options.fit, options.score)
                        named = carriers_of(together.table, carriers)
                        asked = _Asked(where, together, named, *halves, options, seed)
                        found = _aligned(asked, left_out)
                    except EvidenceError as error:
                        left_out[where] = str(error)
                        continue
                    for name, reason in together.left_out.items():
                        left_out[f"{where}.{name}"] = reason
                    labels = {"task": task, "phase": phase, "quantity": quantity}
                    labels["provenance"] = str(provenance)
                    write_map(partial / f"{where}.zarr", found.assign_attrs(labels))
        text = json.dumps(left_out, indent=1, sort_keys=True)
        write_text_atomic(partial / "left_out.json", text + "\n")


def _aligned(asked: _Asked, left_out: LeftOut) -> xr.Dataset:
    matched = matched_layers(asked.subjects)
    drawn = asked.together.table.iloc[asked.score], asked.carriers, asked.options.draws, asked.seed
    orders, exchanged = broken_orders(*drawn)
    null = _Null(orders, orders_inside(*drawn))
    parts: list[xr.Dataset] = []
    makers: dict[str, Callable[[], xr.Dataset]] = {
        "cka": lambda: _kernels(asked, matched),
        "rsa": lambda: _dissimilarities(asked),
        "space": lambda: _spaces(asked, matched, null, left_out),
    }
    for name, make in makers.items():
        try:
            parts.append(make())
        except EvidenceError as error:
            left_out[f"{asked.where}.{name}"] = str(error)
    if not parts:
        raise EvidenceError("Nothing could be compared; the reasons are given for each analysis.")
    merged = xr.merge(parts, join="outer", compat="no_conflicts", combine_attrs="no_conflicts")
    layers = np.array([list(own) for own in matched])
    return (
        merged.reindex(subject=asked.names, other=asked.names)
        .assign_coords(depth=np.arange(len(matched)), layer_of=(("depth", "subject"), layers))
        .assign_attrs(
            n_fit=len(asked.fit),
            n_score=len(asked.score),
            fit=asked.options.fit,
            score=asked.options.score,
            exchanged=exchanged,
            dimensions=asked.options.dimensions,
            draws=asked.options.draws,
            seed=asked.seed,
        )
    )


def _pairs(asked: _Asked) -> Iterator[tuple[int, int]]:
    return combinations(range(len(asked.subjects)), 2)


def _layer_table(asked: _Asked) -> tuple[list[int], tuple[int, ...]]:
    layers = sorted({layer for own in asked.subjects for layer in own.layers})
    return layers, (len(asked.subjects), len(asked.subjects), len(layers), len(layers))


def _kernels(asked: _Asked, matched: list[tuple[int, ...]]) -> xr.Dataset:
    """Debiased CKA of all layers, and its null in matched ones, in the trials of the score."""
    layers, shape = _layer_table(asked)
    value = np.full(shape, np.nan)
    null = np.full((*shape[:2], len(matched), 3), np.nan)
    p = np.full(null.shape[:3], np.nan)
    deepest = sorted(len(own.layers) for own in asked.subjects)[-2:]
    most = int(np.sqrt(KERNEL_BYTES / (8 * sum(deepest))))
    rows = asked.score
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(asked.seed).permutation(rows)[:most])
    table = asked.together.table.iloc[rows]
    orders, _ = broken_orders(table, asked.carriers, asked.options.draws, asked.seed)
    for a, b in _pairs(asked):
        one, other = (_kernels_of(asked.subjects[i], rows) for i in (a, b))
        for i, first in one.items():
            for j, second in other.items():
                at, to = layers.index(i), layers.index(j)
                value[a, b, at, to] = value[b, a, to, at] = debiased_alignment(first, second)
        for depth, own in enumerate(matched):
            drawn = permuted_alignments(one[own[a]], other[own[b]], orders)
            told = value[a, b, layers.index(own[a]), layers.index(own[b])]
            low, high = np.quantile(drawn, (0.025, 0.975))
            null[a, b, depth] = null[b, a, depth] = low, drawn.mean(), high
            p[a, b, depth] = p[b, a, depth] = rank_p(drawn, told)
    return xr.Dataset(
        {
            "cka": (("subject", "other", "layer", "other_layer"), value),
            "cka_null": (("subject", "other", "depth", "null"), null),
            "cka_p": (("subject", "other", "depth"), p),
        },
        {
            "subject": asked.names,
            "other": asked.names,
            "layer": layers,
            "other_layer": layers,
            "null": list(NULL),
        },
        {"n_kernel": len(rows)},
    )


def _kernels_of(subject: SubjectActivity, rows: np.ndarray) -> dict[int, np.ndarray]:
    found = {}
    for layer in subject.layers:
        found[layer], _ = gram(batch[rows] for batch in subject.batches(layer))
    return found


def _dissimilarities(asked: _Asked) -> xr.Dataset:
    """Correlations of crossnobis distances of all layers, in the trials of the score."""
    table = asked.together.table.iloc[asked.score].reset_index(drop=True)
    design = design_of(table, asked.carriers, asked.seed)
    layers, shape = _layer_table(asked)
    found = {name: np.full(shape, np.nan) for name in ("value", "low", "high", "p")}
    distances = [
        {
            layer: crossnobis((batch[asked.score] for batch in own.batches(layer)), design)
            for layer in own.layers
        }
        for own in asked.subjects
    ]
    for a, b in _pairs(asked):
        for i, first in distances[a].items():
            for j, second in distances[b].items():
                own = compare(first, second, asked.options.draws, asked.seed)
                at, to = layers.index(i), layers.index(j)
                for name, values in found.items():
                    values[a, b, at, to] = values[b, a, to, at] = getattr(own, name)
    dims = ("subject", "other", "layer", "other_layer")
    names = {"value": "rsa", "low": "rsa_low", "high": "rsa_high", "p": "rsa_p"}
    return xr.Dataset(
        {names[name]: (dims, values) for name, values in found.items()},
        {
            "subject": asked.names,
            "other": asked.names,
            "layer": layers,
            "other_layer": layers,
        },
        {
            "rsa_item": design.item,
            "rsa_partition": design.partition,
            "rsa_items": len(design.names),
            "rsa_dropped": design.dropped,
        },
    )


def _spaces(
    asked: _Asked,
    matched: list[tuple[int, ...]],
    null: _Null,
    left_out: LeftOut,
) -> xr.Dataset:
    """Models that are fitted on one split and scored on the other, in layers of equal depth."""
    table = asked.together.table
    conditions = table["condition"].to_numpy()
    by_depth = []
    for depth, layers in enumerate(matched):
        parts = [
            components(own, layer, asked.fit, asked.score)
            for own, layer in zip(asked.subjects, layers, strict=True)
        ]
        fit, score = ([own[half] for own in parts] for half in (0, 1))
        halves = Halves(fit, score, conditions[asked.fit], conditions[asked.score])
        found = xr.merge(
            [_rotations(asked, halves, null), _shared(asked, halves, null)],
            combine_attrs="no_conflicts",
        )
        try:
            found = xr.merge([found, _transfers(asked, halves)], combine_attrs="no_conflicts")
        except EvidenceError as error:
            left_out[f"{asked.where}.transfer"] = str(error)
        by_depth.append(found.expand_dims(depth=[depth]))
    return xr.concat(by_depth, "depth", join="exact")


IDENTIFIED = ("two_way", "within", "top_1", "top_5")


def _scores(found: Identification) -> tuple[list[float], list[tuple], list[float]]:
    """Put scores, nulls and p of an identification in the order of :data:`IDENTIFIED`."""
    value = {"two_way": found.two_way, "within": found.within}
    value |= {f"top_{k}": own for k, own in found.top.items()}
    nothing = (np.nan, np.nan, np.nan)
    return (
        [value.get(name, np.nan) for name in IDENTIFIED],
        [found.null.get(name, nothing) for name in IDENTIFIED],
        [found.p.get(name, np.nan) for name in IDENTIFIED],
    )


def _rotations(asked: _Asked, halves: Halves, null: _Null) -> xr.Dataset:
    """Procrustes of each subject onto each other: explained variance, and identification."""
    count = len(asked.subjects)
    explained = np.full((count, count), np.nan)
    value, p = (np.full((count, count, len(IDENTIFIED)), np.nan) for _ in range(2))
    chance = np.full((count, count, len(IDENTIFIED), 3), np.nan)
    for a in range(count):
        for b in range(count):
            if a == b:
                continue
            rotation = procrustes(halves.fit[a], halves.fit[b], asked.options.dimensions)
            explained[a, b] = rotation.explained(halves.score[a], halves.score[b])
            found = identify(
                rotation.transform(halves.score[a]),
                rotation.target.transform(halves.score[b]),
                null.orders,
                conditions=halves.score_labels,
                inside=null.inside,
            )
            value[a, b], chance[a, b], p[a, b] = _scores(found)
    pair = ("subject", "other")
    return xr.Dataset(
        {
            "procrustes": (pair, explained),
            "identification": ((*pair, "score"), value),
            "identification_null": ((*pair, "score", "null"), chance),
            "identification_p": ((*pair, "score"), p),
        },
        {
            "subject": asked.names,
            "other": asked.names,
            "score": list(IDENTIFIED),
            "null": list(NULL),
        },
    )


def _shared(asked: _Asked, halves: Halves, null: _Null) -> xr.Dataset:
    """What all have in common in their shared space, and what a subject read by all others."""
    count = len(asked.subjects)
    k = asked.options.dimensions
    model = shared_response(halves.fit, k)
    told = np.stack([model.transform(n, own) for n, own in enumerate(halves.score)])
    variances = [
        scale**2 * own.var(axis=0).sum()
        for scale, own in zip(model.scales, halves.score, strict=True)
    ]
    ceiling = shared_ceiling(told, variances, null.orders)
    value, p = (np.full((count, len(IDENTIFIED)), np.nan) for _ in range(2))
    chance = np.full((count, len(IDENTIFIED), 3), np.nan)
    for number in range(count):
        others = np.delete(told, number, axis=0).mean(axis=0)
        found = identify(
            others,
            told[number],
            null.orders,
            conditions=halves.score_labels,
            inside=null.inside,
        )
        value[number], chance[number], p[number] = _scores(found)
    return xr.Dataset(
        {
            "shared_explained": ((), model.explained),
            "shared_ceiling": ((), ceiling.value),
            "shared_ceiling_null": (("null",), list(ceiling.null)),
            "shared_ceiling_p": ((), ceiling.p),
            "shared_ceiling_share": ((), ceiling.share),
            "shared_identification": (("subject", "score"), value),
            "shared_identification_null": (("subject", "score", "null"), chance),
            "shared_identification_p": (("subject", "score"), p),
        },
        {"subject": asked.names, "score": list(IDENTIFIED), "null": list(NULL)},
    )


def _transfers(asked: _Asked, halves: Halves) -> xr.Dataset:
    """Decode conditions in each subject from few trials, through the space of all others."""
    options = asked.options
    table = asked.together.table.iloc[asked.fit]
    orders, _ = broken_orders(table, asked.carriers, options.repeats, asked.seed)
    accuracy = np.stack(
        [
            transfer(halves, new, options.dimensions, options.counts, orders, asked.seed)
            for new in range(len(asked.subjects))
        ]
    )
    return xr.Dataset(
        {"accuracy": (("subject", "count", "draw", "arm"), accuracy)},
        {
            "subject": asked.names,
            "count": list(options.counts),
            "draw": np.arange(options.repeats),
            "arm": list(ARMS),
        },
        {"classes": len(np.unique(halves.score_labels))},
    )
