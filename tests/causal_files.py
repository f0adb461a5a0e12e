"""Causal maps, and maps of layers, written as ``docs/localise.md`` says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.store import read_table, write_finding, write_map, write_table

CONTRAST = "refusal_simple"
"""Of the default study; it has causal maps."""

METHODS = ("direct", "attribution_patching", "relp", "patch_denoise", "patch_noise")
TASKS = ("events", "copying")
ROLES = ("before", "entity", "entity_last", "relation", "between", "prompt_last")
PLACES = ("before", "mid", "after")
SIZES = {"expert": 32, "head": 4, "residual_site": 3, "feature": 400}
PATCHING = ("patch_denoise", "patch_noise")


def causal_map(kind: str, method: str, *, best: float = 4.0, pairs: int = 12, **attributes):
    """Make a causal map of three layers, with one strong unit in the last.

    The strong unit is column 1 (column 5 of a map by role); no other has a tenth of its score.
    """
    by_role = kind.endswith("_by_role")
    columns = len(ROLES) if by_role else SIZES[kind]
    layers = [2] if kind == "feature" else [0, 1, 2]
    random = np.random.default_rng([len(kind), len(method)])
    score = random.uniform(-0.05, 0.05, (len(layers), columns)) * best
    score[-1, 5 if by_role else 1] = best
    last = "role" if by_role else "place" if kind == "residual_site" else kind
    dims = ("layer", last)
    p = np.where(score == best, 0.002, 0.9)
    variables = {
        "score": (dims, score),
        "standard_error": (dims, np.full(score.shape, best / 8)),
        "rank": (dims, (-score).ravel().argsort().argsort().reshape(score.shape)),
        "pair_score": (("pair", *dims), np.tile(score, (pairs, 1, 1))),
        **dict.fromkeys(("p", "p_max", "q"), (dims, p)),
    }
    texts = {"role": ROLES, "place": PLACES}
    names = np.array(texts[last], dtype=object) if last in texts else np.arange(columns)
    coordinates = {"layer": layers, last: names}
    known = {
        "metric": "logit_difference",
        "n_pairs": pairs,
        "n_guarded": 0,
        "clean_difference": 6.5,
        "corrupted_difference": -4.25,
        "one_logit_difference": 1,
        "dropped": json.dumps({"unequal_length": 3, "same_next_token": 0}),
    }
    if method not in PATCHING:
        known |= {
            "patching_correlation": 0.87,
            "patching_low": 0.61,
            "patching_high": 0.95,
            "patching_units": score.size,
        }
    return xr.Dataset(variables, coordinates, known | attributes)


def write_causal(study: Path, subject: str, contrast: str, options, **attributes) -> None:
    """Write every causal map that a study asks for."""
    folder = study / f"maps/{subject}/{contrast}.attribution"
    for kind in (*options.kinds, *(f"{kind}_by_role" for kind in options.role_kinds)):
        for method in options.methods:
            if not (kind.endswith("_by_role") and method == "direct"):
                # Whole states of the residual are another kind than its dimensions.
                own = "residual_site" if kind == "residual" else kind
                write_map(folder / f"{own}.{method}.zarr", causal_map(own, method, **attributes))


def massive_map(largest: float = 2500.0, hits: int = 7) -> xr.Dataset:
    """Make a map in which dimension 5 of the state after layer 1 is the largest."""
    dims, shape = ("layer", "place"), (3, 3)
    top, states = np.full(shape, 3.0), np.zeros(shape, dtype=int)
    top[1, 2], states[1, 2] = largest, hits
    few = [1] if hits else []
    found = {
        "found_layer": np.array(few, dtype=int),
        "found_place": np.array(["after"] * len(few), dtype="U6"),
        "found_dim": np.array([5] * len(few), dtype=int),
        "found_states": np.array([hits] * len(few), dtype=int),
        "found_mean": np.array([-largest] * len(few)),
    }
    variables = {
        "hits": (dims, states),
        "states": (dims, states),
        "at_first": (dims, states),
        "largest": (dims, top),
        "median": (dims, np.ones(shape)),
        **{name: ("found", values) for name, values in found.items()},
    }
    attributes = {"tokens": 900, "absolute": 100.0, "relative": 1000.0}
    return xr.Dataset(variables, {"layer": [0, 1, 2], "place": list(PLACES)}, attributes)


def layer_maps(*, peak: float = 40.0, void: float = 0.75, **massive) -> dict[str, xr.Dataset]:
    """Make a map of every kind on one task: the second layer stands out in all of them."""
    layers, places = [0, 1, 2], list(PLACES)
    high = np.ones((3, 3))
    high[1, 2] = peak
    active = np.array([[1, 1 - void, 1], [1, np.nan, 1]])
    sinks = np.zeros((4, 3, 2))
    sinks[0, 1] = 0.8
    return {
        "layer.massive": massive_map(**massive),
        "layer.peak": xr.Dataset(
            {"peak": (("layer", "place"), high)},
            {"layer": layers, "place": places},
            {"position": 0, "texts": 60},
        ),
        "layer.void": xr.Dataset(
            {
                "active": (("phase", "layer"), active),
                "last_active": (("phase", "layer"), active),
                "change": (("phase", "layer"), np.array([[2.0, 0.5, 3.0], [1.0, 1.0, 1.0]])),
                "tokens": ("phase", np.array([700, 200])),
            },
            {"phase": ["prompt", "response"], "layer": layers},
            {"alpha": 0.8},
        ),
        "head.sinks": xr.Dataset(
            {
                "alpha": (("position", "layer", "head"), sinks),
                "sink": (("position", "layer", "head"), (sinks > 0.3).astype(float)),
                "sink_share": ("position", np.array([33.0, 0.0, 0.0, 0.0])),
                "texts": ("position", np.full(4, 60)),
            },
            {"position": np.arange(4), "layer": layers},
            {"epsilon": 0.3},
        ),
        "head.drain": xr.Dataset(
            {"drain": (("layer", "head"), np.array([[1.0, 1.0], [0.1, 0.3], [1.0, 1.0]]))},
            {"layer": layers},
            {"position": 0, "texts": 60},
        ),
    }


def write_layers(study: Path, subject: str, tasks, left_out: dict | None = None, **maps) -> None:
    """Write maps of layers on every task, and why some are not there."""
    folder = study / f"maps/{subject}/probes"
    for task in tasks:
        for kind, made in layer_maps(**maps).items():
            write_map(folder / f"{kind}.{task}.zarr", made)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "left_out.json").write_text(json.dumps(left_out or {}))


CLAIM = "feature.relp"
"""The primary map of :func:`write_claim`."""


def write_claim(study: Path, config) -> None:
    """Make a causal map the primary one of the contrast ``refusal`` of a study that is written.

    What was claimed of experts stays as an exploratory map with its arms. The effect of the second
    subject's features goes through what nothing reads.
    """
    for index, subject in enumerate(config.subjects):
        write_causal(study, subject, "refusal", config.localise.causal)
        finding = _claim(study, subject, illusory=index == 1)
        folder = study / "validation" / subject
        own = {"phase": "attribution", "kind": "feature", "method": "relp"}
        for name in ("arms", "transcripts", "verdicts"):
            table = read_table(folder / f"{name}.parquet", ())
            moved = (table["contrast"] == "refusal") & (table["kind"] == "expert")
            claimed = table[moved].assign(**own)
            if name == "verdicts":
                units = json.dumps(finding["primary_endpoint"]["units"])
                claimed = claimed.assign(finding_hash=finding["hash"], units=units)
            kept = table if name == "arms" else table[~moved]
            write_table(folder / f"{name}.parquet", pd.concat([claimed, kept], ignore_index=True))
    for name in ("maps", "replication"):
        path = study / f"group/{name}.parquet"
        table = read_table(path, ())
        like = (table["contrast"] == "refusal") & (table["name"] == "expert.resonance")
        rows = table[like & (table["phase"] == "prompt_last")]
        rows = rows.assign(phase="attribution", name=CLAIM, kind="feature", method="relp")
        write_table(path, pd.concat([table, rows], ignore_index=True))


def _claim(study: Path, subject: str, *, illusory: bool) -> dict:
    root = study / "findings/localise" / subject
    path = root / "refusal.prompt_last/expert.resonance.json"
    first = json.loads(path.read_text())
    endpoint = first.pop("primary_endpoint")
    units = [[2, 1 + 3 * number] for number in range(endpoint["dose"])]
    own = first | {
        "phase": "attribution",
        "kind": "feature",
        "method": "relp",
        "units": [{"layer": layer, "feature": feature, "score": 4.0} for layer, feature in units],
        "primary_endpoint": endpoint | {"units": units, "phase": "attribution", "mode": "mask"},
        "row_space": {
            "width": 64,
            "rank": 60,
            "effect": 2.0,
            "row_effect": 0.58 if illusory else 1.8,
            "null_effect": 0.1,
            "kept": 0.29 if illusory else 0.9,
            "illusory": illusory,
        },
        "dictionary": {"path": "features.safetensors", "sha256": "a" * 64},
    }
    first |= {"role": "exploratory"}
    first["secondary"] |= {name: endpoint[name] for name in ("mode", "dose", "score")}
    write_finding(path, {k: v for k, v in first.items() if k not in ("hash", "written")})
    path = root / "refusal.attribution" / f"{CLAIM}.json"
    write_finding(path, {k: v for k, v in own.items() if k not in ("hash", "written")})
    return json.loads(path.read_text())
