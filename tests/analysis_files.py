"""Files of the analyses beside maps, as ``docs/artefacts.md`` says: what their pages show."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.experiment import Drawn, Statement
from lmri.experiment.statements import statement_rows
from lmri.report.bottleneck.tables import SOURCE as BOTTLENECK
from lmri.report.decode.tables import VARIABLES as DECODED
from lmri.report.information.tables import NUMBERS
from lmri.report.validation.tables import COMPARISONS
from lmri.store import write_map, write_table, write_text_atomic

SCORES = ["two_way", "within", "top_1", "top_5"]


def network(nodes=6):
    """One clear edge, between the first two nodes."""
    shape = (2, nodes, nodes)
    dims = ("network", "node", "other")
    p = np.full(shape, 0.5)
    p[:, 0, 1] = p[:, 1, 0] = 0.005
    z = np.zeros(shape)
    z[:, 0, 1] = z[:, 1, 0] = 5.0
    edges = {"value": z / 10, "null_mean": np.full(shape, -0.1), "z": z}
    edges |= {"p": p, "p_max": p, "q": p}
    by_node = ("degree", "triangles", "triangles_mean", "triangles_p", "community")
    graph = {name: (("network", "node"), np.ones((2, nodes))) for name in by_node}
    whole = ("triangles_total", "triangles_total_p", "communities", "modularity", "modularity_p")
    compared = ("contrast", "node", "other")
    return xr.Dataset(
        {f"edge_{name}": (dims, own) for name, own in edges.items()}
        | graph
        | {name: (("network",), [0.5, 0.5]) for name in whole}
        | {"difference_p_max": (compared, p[:1]), "exchanged": (("contrast",), ["place"])}
        | {name: (("contrast",), [0.5]) for name in ("distance", "distance_p")}
        | {name: (("contrast",), [40]) for name in ("n_target", "n_control")},
        {
            "network": ["all", "within"],
            "node": [f"{n // 3}.{n % 3}" for n in range(nodes)],
            "node_layer": ("node", np.arange(nodes) // 3),
            "node_unit": ("node", np.arange(nodes) % 3),
            "contrast": ["refusal"],
        },
        {"n_trials": 380, "exchanged": "place, year: the larger p", "moved": 0.8},
    )


def alignment(names=("localised", "distributed")):
    """Two subjects of two layers, told apart with a score of .9."""
    pair = ("subject", "other")
    score = np.full((2, 2, 2, 4), 0.9)
    null = np.tile([0.4, 0.5, 0.6], (2, 2, 2, 4, 1))
    return xr.Dataset(
        {
            "cka": ((*pair, "layer", "other_layer"), np.full((2, 2, 2, 2), 0.7)),
            "cka_null": ((*pair, "depth", "null"), np.tile([0.0, 0.1, 0.2], (2, 2, 2, 1))),
            "cka_p": ((*pair, "depth"), np.full((2, 2, 2), 0.01)),
            "procrustes": (("depth", *pair), np.full((2, 2, 2), 0.3)),
            "identification": (("depth", *pair, "score"), score),
            "identification_null": (("depth", *pair, "score", "null"), null),
            "identification_p": (("depth", *pair, "score"), np.full((2, 2, 2, 4), 0.01)),
            "shared_identification": (("depth", "subject", "score"), score[0]),
            "shared_identification_null": (("depth", "subject", "score", "null"), null[0]),
            "shared_identification_p": (("depth", "subject", "score"), score[0] - 0.85),
            "shared_ceiling": (("depth",), [0.6, 0.1]),
            "shared_ceiling_null": (("depth", "null"), np.tile([-0.1, 0.0, 0.2], (2, 1))),
            "shared_ceiling_p": (("depth",), [0.01, 0.3]),
            "shared_ceiling_share": (("depth",), [0.45, 0.05]),
            "accuracy": (
                ("depth", "subject", "count", "draw", "arm"),
                np.tile([0.8, 0.6, 0.25, 0.9], (2, 2, 1, 3, 1)),
            ),
        },
        {
            "subject": list(names),
            "other": list(names),
            "layer": [0, 1],
            "other_layer": [0, 1],
            "depth": [0, 1],
            "layer_of": (("depth", "subject"), [[0, 0], [1, 1]]),
            "null": ["low", "mean", "high"],
            "score": SCORES,
            "count": [2],
            "draw": [0, 1, 2],
            "arm": ["adapter", "scratch", "permuted", "all"],
        },
        {"n_score": 90, "classes": 4, "dimensions": 20, "fit": "selection", "score": "calibration"},
    )


DECODED_SIZES = {
    "statistic": ["balanced_accuracy", "auc"],
    "question": ["refusal", "condition"],
    "position": ["content", "prompt_last"],
    "layer": [0, 1],
    "train_position": ["content", "prompt_last"],
    "test_position": ["content", "prompt_last"],
    "comparison": [0],
    "condition": ["benign", "sensitive"],
    "offset": [-1, 0, 1],
    "region": ["0-0", "1-1"],
}


DECODED_TEXTS = {"classes": "benign (20), sensitive (5)", "exchanged": "place and year"}
DECODED_TEXTS |= {"contrast": "refusal", "kind": "residual", "method": "welch_t"}


def decoded(analysis):
    """An analysis whose every number is .25, but what the tests look at."""
    made = xr.Dataset(coords=DECODED_SIZES)
    for name, dims in DECODED[analysis].items():
        shape = tuple(len(DECODED_SIZES[dim]) for dim in dims)
        made[name] = (
            dims,
            np.full(shape, DECODED_TEXTS[name]) if name in DECODED_TEXTS else np.full(shape, 0.25),
        )
    made = made[list(DECODED[analysis])]
    if analysis == "profile":
        made["value"].loc[{"layer": 1}] = 0.9
        made["p_max"].loc[{"layer": 1}] = 0.005
    return made


def encoded():
    """Two layers of three heads, one of which never varies."""
    dims, shape = ("phase", "layer", "head"), (1, 2, 3)
    r2 = np.array([0.5, 0.1, np.nan, 0.2, 0.2, 0.2]).reshape(shape)
    variables = {
        "r2": (dims, r2),
        "r": (dims, r2),
        "variance": (dims, np.array([3.0, 1.0, 0.0, 1, 1, 1]).reshape(shape)),
        "nuisance": (dims, np.where(np.isnan(r2), np.nan, 0.1)),
        "explainable": (dims, np.full(shape, np.nan)),
    }
    for name in ("unique", "alone"):
        variables[name] = (
            ("phase", "interest", *dims[1:]),
            np.stack([r2, -r2], 1).reshape(1, 2, 2, 3),
        )
    p = np.array([[0.01, 0.5, np.nan], [0.5, 0.5, 0.5]])
    variables["p_max"] = (("phase", "tested", *dims[1:]), p.reshape(1, 1, 2, 3))
    coordinates = {
        "phase": ["prompt_last"],
        "layer": [0, 2],
        "head": [0, 1, 2],
        "interest": ["condition", "embedding"],
        "tested": ["condition"],
    }
    about = json.dumps({"prompt_last": {"n": 80}})
    return xr.Dataset(variables, coordinates, {"about": about})


CHANNELS = ("ebab", "akde_0.01", "bins")


LAYERS = ("hidden_1", "hidden_2", "output")


SETTINGS = (("relu", "relu", 0.0), ("relu_l2_0.015", "relu", 0.015), ("tanh", "tanh", 0.0))


def claim(name: str, verdict: str, channel: str, value: float) -> dict:
    about = {"claim": name, "text": f"Claim <{name}>.", "meaning": "a mean", "rule": "above"}
    ends = {"low": value - 0.1, "high": value + 0.1, "n": 20}
    return {**about, "bound": 0.05, "channel": channel, "value": value, **ends, "verdict": verdict}


def bottleneck_tables() -> dict[str, pd.DataFrame]:
    named = [dict(zip(("setting", "activation", "l2"), own, strict=True)) for own in SETTINGS]
    places = [{**own, "channel": c, "layer": x} for own in named for c in CHANNELS for x in LAYERS]
    score = {"compression": 0.3, "low": 0.2, "high": 0.4, "n": 20, "saturated": 0.25}
    accuracy = {"n": 20, "learned": 17, "accuracy_training": 0.99, "accuracy_test": 0.93}
    found = {"i_xt": 4.0, "i_ty": 0.5, "n": 20}
    return {
        "networks": pd.DataFrame([{**own, **accuracy, "low": 0.9, "high": 0.95} for own in named]),
        "planes": pd.DataFrame([{**own, "epoch": e, **found} for own in places for e in (0, 9)]),
        "compression": pd.DataFrame([{**own, **score} for own in places]),
        "claims": pd.DataFrame(
            [
                *(claim("first", "holds", channel, 0.4) for channel in ("all", *CHANNELS)),
                claim("second", "not decided", "all", float("nan")),
                claim("second", "does not hold", "ebab", -0.2),
                *(claim("second", "holds", channel, 0.4) for channel in CHANNELS[1:]),
            ]
        ),
    }


ESTIMATORS = ["probe I(T;Y)", "compressed I(T;Y)", "kt_upper 0.1 I(X;T)"]


CELLS = ("phase", "layer")


def mutual(estimators, target="condition", values=(0.1, 0.7)):
    """Two layers; the first is flagged as no more than chance."""
    dims = ("target", "phase", "layer", "estimator")
    shape = (1, 1, 2, len(estimators))
    numbers = {name: (dims, np.full(shape, 0.25)) for name in NUMBERS}
    numbers["value"] = (dims, np.tile(np.reshape(values, (1, 1, 2, 1)), (1, 1, 1, shape[-1])))
    texts = np.full(shape, "", dtype="U64")
    reasons = texts.copy()
    reasons[0, 0, 0] = "0.09 of 0.10 is there without any relation."
    flagged = np.zeros((*shape, 2), dtype=bool)
    flagged[0, 0, 0, :, 1] = True
    return xr.Dataset(
        {
            **numbers,
            "reasons": (dims, reasons),
            "refused": (dims, texts),
            "flagged": ((*dims, "flag"), flagged),
        },
        {
            "target": [target],
            "phase": ["prompt_last"],
            "layer": [0, 1],
            "estimator": estimators,
            "flag": ["saturation", "failed_null"],
        },
    )


def changes(word="compression", target="condition"):
    own = {"quantity": "I(X;T)", "target": target, "phase": "prompt_last", "word": word}
    own |= {"layer": 0, "until_layer": 1, "p": 0.01, "q": 0.03}
    own |= {"channels": json.dumps({"kernel": -1, "neighbours": -1}), "left_out": "a, b"}
    return xr.Dataset({name: ("change", np.array([value])) for name, value in own.items()})


def plain(**variables):
    coordinates = {
        "noise": [1.0, 0.1],
        "class": ["benign", "sensitive"],
        "unit": [0, 1, 2],
        "place": ["after"],
        "kind": ["expert_neuron"],
        "head": [0, 1],
        "keys": [64],
        "step": [0, 50, 100],
        "task": ["events"],
        "scaling": ["raw", "standardised"],
        "phase": ["prompt_last"],
        "layer": [0, 1],
        "target": ["condition"],
        "measure": ["all", "without_first"],
    }
    made = {}
    for name, (dims, value) in variables.items():
        made[name] = (dims, np.full([len(coordinates[own]) for own in dims], value))
    used = {own for dims, _ in variables.values() for own in dims}
    return xr.Dataset(made, {name: own for name, own in coordinates.items() if name in used})


def profiles(target="condition"):
    ranks = dict.fromkeys(("effective_rank", "participation_ratio"), (("scaling", *CELLS), 3.5))
    flags = {f"{name}_flags": (own[0], "") for name, own in ranks.items()}
    dimension = {"dimension_two_nn": (CELLS, 2.5), "dimension_two_nn_flags": (CELLS, "dimension")}
    classes = {"excess": 1.5, "p": 0.01, "flags": "", "reason": ""}
    curve = dict.fromkeys(("upper", "lower", "gaussian", "independent"), ((*CELLS, "noise"), 1.5))
    curve |= {"upper_flags": ((*CELLS, "noise"), "")}
    curve |= dict.fromkeys(("saturation", "samples", "distinct"), (CELLS, 40))
    codes = dict.fromkeys(("nearest", "logistic", "k_means"), 0.8)
    codes |= {f"{name}_p": 0.8 for name in codes}
    codes |= {"chance": 0.25, "redundancy": 0.0, "bits": 9, "within_between": 0.5, "samples": 40}
    codes |= {"flags": "saturation", "reason": ""}
    kinds, places = ("kind", "layer"), ("layer", "place")
    lens = {"information": 2.0, "information_error": 0.1, "information_flags": ""}
    return {
        "residual": mutual(ESTIMATORS, target),
        "expert": mutual(["plug_in I(E;Y)"], target),
        "changes": changes(target=target),
        "spectral": plain(**ranks, **flags, **dimension, samples=(CELLS, 40)),
        "rate_reduction": plain(**{k: (("target", *CELLS), v) for k, v in classes.items()}),
        "attention": plain(
            collapsed_share=(("measure", *CELLS), 0.25), overloaded_share=(("measure", *CELLS), 0.0)
        ),
        "lens": plain(**{name: (CELLS, value) for name, value in lens.items()}),
        "resolution": plain(**curve),
        "codes": plain(**{k: (("target", *CELLS), v) for k, v in codes.items()}),
        "unit_entropy": plain(
            relative=(("class", *CELLS, "unit"), 0.75),
            samples=(("class", *CELLS), 40),
            flags=(("class", *CELLS), ""),
        ).assign_attrs(reference="benign"),
        "eigenscore": plain(told=(("layer",), 0.75), p=(("layer",), 0.01), flags=(("layer",), "")),
        "massive": plain(
            **dict.fromkeys(("largest", "median", "ratio", "ratio_error"), (places, 12.0)),
            flags=(places, ""),
        ),
        "active": plain(
            **dict.fromkeys(("active", "active_error", "nonzero", "nonzero_error"), (kinds, 0.5)),
            flags=(kinds, ""),
        ),
        "logits": plain(
            largest_logit=(("layer", "head"), 90.0), least_entropy=(("keys", "layer", "head"), 0.1)
        ),
    }


SECTIONS = {
    "connect": {"kinds": ["expert"], "phases": ["content"]},
    "align": {"quantities": ["residual"], "phases": ["content"]},
    "encode": {"tasks": ["events"], "kinds": ["head"], "subspace_draws": 0},
    "decode": {"analyses": list(DECODED), "labels": [{"task": "events"}]},
    "information": {"measures": [name for name in profiles() if name != "changes"]},
    "bottleneck": {"activations": ["relu", "tanh"]},
    "experiments": {"void_layers": {"tasks": ["events"]}},
}
"""Sections of a study that asks for all of them."""


ESCAPED = "<script>alert(1)</script>"
"""What a page must show as text."""


def declared(kind, series="series"):
    return Drawn("runs", kind, "x", "y", "low", "high", series, f"A {kind}", ESCAPED, "Nothing.")


def about_experiment(**changes):
    figures = [
        declared("line"),
        declared("dots"),
        declared("bars", None),
        declared("heat", "value"),
    ]
    made = {
        "schema": "lmri.experiment/1",
        "title": f"Void {ESCAPED}",
        "question": "Is it?",
        "source": "a test",
        "tables": {"runs": f"All {ESCAPED}", "draws": ""},
        "figures": [asdict(figure) for figure in figures],
        "notes": ["Read with care."],
    }
    return {**made, **changes}


def write_experiment(study, subject, **changes):
    """Write what came of an experiment on a subject: two claims, and a figure of every kind."""
    folder = study / f"experiments/{subject}/void_layers"
    claims = [
        Statement("it_is", ESCAPED, 0.5, 0.4, 0.6, 0.1, 0.01, 9, 3, "99 draws", "exact"),
        Statement.untested("it_may", "It may.", "nothing to try"),
    ]
    write_table(folder / "statements.parquet", statement_rows(subject, "void_layers", claims, 0.05))
    runs = pd.DataFrame({"x": [1, 2, 1, 2], "y": [0.1, 0.2, 0.3, 0.4], "value": [1.0, -1, 0, 2]})
    runs = runs.assign(low=0.0, high=0.5, series=["a", "a", ESCAPED, ESCAPED])
    write_table(folder / "runs.parquet", runs)
    write_table(folder / "draws.parquet", runs)
    write_text_atomic(folder / "outcome.json", json.dumps(about_experiment(**changes)))


def write_analyses(study: Path, config) -> None:
    """Write the files of every analysis that :data:`SECTIONS` ask for, of two subjects."""
    folder = study / "analyses"
    made = {"align/events.content.residual": alignment(tuple(config.subjects))}
    for subject in config.subjects:
        made[f"connect/{subject}/events.content.expert"] = network()
        made[f"encode/{subject}/events.head.trials"] = encoded()
        for name in DECODED:
            made[f"decode/{subject}/events.{name}"] = decoded(name)
        for name, own in profiles().items():
            task = "" if name == "logits" else "events."
            made[f"information/{subject}/{task}{name}"] = own
        for stage in ("connect", "encode", "decode", "information"):
            write_text_atomic(folder / stage / subject / "left_out.json", "{}")
    write_text_atomic(folder / "align/left_out.json", "{}")
    for place, own in made.items():
        write_map(folder / f"{place}.zarr", own)
    for subject in config.subjects:
        write_experiment(study, subject)
    names = dict(zip(("first", "second"), config.subjects, strict=True)) | {"contrast": "refusal"}
    texts = {"task": "events", "condition": "sensitive", "trial_role": "target"}
    texts |= {"score": "refusal_onset", "lineage": "abc", "outcome": "differ"}
    compared = pd.DataFrame([dict.fromkeys(COMPARISONS, 0.25) | names | texts])
    write_table(study / "comparisons.parquet", compared)
    for name, table in bottleneck_tables().items():
        write_table(study / BOTTLENECK.format(name), table)
