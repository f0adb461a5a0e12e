"""What the page of decoding reads, and the numbers behind it as rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.config import StudyConfig
from lmri.errors import StoreError
from lmri.report import words
from lmri.report.layers.probes import read_reasons
from lmri.report.reader import Reader
from lmri.store import read_map

SOURCE = "analyses/decode/<subject>/<task>.{}.zarr"

CELL = ("question", "position", "layer")
TESTED = ("value", "p", "p_max", "null_mean", "null_upper")

VARIABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "profile": {
        **dict.fromkeys(TESTED, ("statistic", *CELL)),
        **dict.fromkeys(("low", "high", "n"), CELL),
        **dict.fromkeys(("chance", "classes", "exchanged", "carriers"), ("question",)),
    },
    "generalisation": dict.fromkeys(
        TESTED, ("statistic", "question", "layer", "train_position", "test_position")
    ),
    "control": dict.fromkeys(("accuracy", "control", "control_sd", "selectivity"), CELL),
    "masks": dict.fromkeys(
        (
            *("contrast", "kind", "method", "units", "layers", "n", "localised", "low", "high"),
            *("whole", "difference_low", "difference_high", "random_mean", "random_upper", "p"),
            "masks",
        ),
        ("comparison",),
    ),
    "trace": {
        **dict.fromkeys(
            ("probability", "low", "high"), ("question", "layer", "condition", "offset")
        ),
        "auc": ("question", "layer", "offset"),
        "n": ("question", "condition", "offset"),
    },
    "bags": {
        **dict.fromkeys(
            (
                *("balanced_accuracy", "auc", "coverage", "coverage_worst_class", "answered"),
                *("empty", "several", "accuracy_answered", "n"),
            ),
            ("question", "layer"),
        ),
        **dict.fromkeys(
            ("expected_low", "expected_high", "nominal", "calibrated", "bag"), ("question",)
        ),
    },
    "regions": {
        **dict.fromkeys(
            ("without", "alone", "loss", "low", "high", "random_mean", "groups", "p"),
            ("question", "region"),
        ),
        "all": ("question",),
    },
}
"""What is shown of each analysis, with its dimensions."""


@dataclass(frozen=True)
class Decoding:
    """What was decoded of all subjects.

    Attributes
    ----------
    found : dict
        Datasets by analysis, task and subject.
    left_out : dict of str to dict of str to str
        By subject: why something is not there.
    """

    found: dict[str, dict[str, dict[str, xr.Dataset]]] = field(default_factory=dict)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to show, or to say of why there is not."""
        return bool(self.found or any(self.left_out.values()))

    def of(self, analysis: str) -> dict[str, dict[str, xr.Dataset]]:
        """Datasets of an analysis by task and subject."""
        return self.found.get(analysis, {})


def read_decoding(reader: Reader, config: StudyConfig) -> Decoding:
    """Read what was decoded of all subjects; there is nothing of a study without analyses.

    Parameters
    ----------
    reader : Reader
        Notes what is missing.
    config : StudyConfig
        Which subjects, tasks and analyses.

    Returns
    -------
    Decoding
        What there is.
    """
    found = Decoding()
    for subject in config.subjects if config.decoded_tasks else ():
        folder = f"analyses/decode/{subject}"
        left_out = reader.read(subject, f"{folder}/left_out.json", read_reasons, {})
        found.left_out[subject] = left_out
        for analysis in config.decode.analyses:
            for task in config.decoded_tasks:
                path = f"{folder}/{task}.{analysis}.zarr"
                # Reasons are about parts: where all parts are left out, there is no file.
                reasons = any(name == task or name.startswith(f"{task}.") for name in left_out)
                if reasons and not (reader.study / path).exists():
                    continue
                if analysis == "masks" and not _has_contrast(config, task):
                    continue
                own = reader.read(
                    subject, path, lambda at, name=analysis: _read(at, VARIABLES[name]), None
                )
                if own is not None:
                    found.found.setdefault(analysis, {}).setdefault(task, {})[subject] = own
    return found


def _has_contrast(config: StudyConfig, task: str) -> bool:
    return any(own.task == task and not own.random_split for own in config.contrasts.values())


def _read(path: Path, wanted: dict[str, tuple[str, ...]]) -> xr.Dataset:
    dataset = read_map(path)
    for name, dims in wanted.items():
        if name not in dataset or set(dataset[name].dims) != set(dims):
            raise StoreError(
                f"{path}: has no '{name}' by {', '.join(dims)}. Run the stage 'decode' again."
            )
    return dataset[list(wanted)]


def decoded_frame(analysis: str, found: dict[str, dict[str, xr.Dataset]]) -> pd.DataFrame:
    """Put an analysis into rows.

    Parameters
    ----------
    analysis : str
        One of :data:`VARIABLES`.
    found : dict
        Its datasets by task and subject.

    Returns
    -------
    DataFrame
        ``subject``, ``task``, the coordinates and variables; cells that were not decoded are left
        out.
    """
    parts = []
    for task, subjects in found.items():
        for subject, own in subjects.items():
            wide = next(iter(VARIABLES[analysis]))
            dims = list(VARIABLES[analysis][wide])
            frame = own.reset_coords(drop=True).to_dataframe(dim_order=dims).reset_index()
            frame = frame[frame[wide].notna()]
            parts.append(frame.assign(subject=subject, task=task))
    if not parts:
        return pd.DataFrame()
    rows = pd.concat(parts, ignore_index=True)
    first = ["subject", "task"]
    return rows[first + [name for name in rows if name not in first]]


def used_frame(
    profiles: dict[str, dict[str, xr.Dataset]],
    arms: dict[str, pd.DataFrame],
    config: StudyConfig,
) -> pd.DataFrame:
    """Put what is decodable in each layer beside what switching its mapped units off does.

    Parameters
    ----------
    profiles : dict
        Profiles by task and subject.
    arms : dict of str to DataFrame
        Arms of the validation by subject.
    config : StudyConfig
        Contrasts, the primary phase (of the maps, and the position that is decoded at), and the
        score and mode that arms are told of.

    Returns
    -------
    DataFrame
        A row for each subject, contrast and layer and, where units of the layer were switched off,
        for each of their kinds: the most units that are all in this layer, or else the fewest with
        units of others. ``sham_least`` and ``sham_most`` are the ends of the effects of the
        ``shams`` of as many units, NaN without any.
    """
    rows: list[dict] = []
    phase = config.localise.phases[0]
    for contrast, entry in config.contrasts.items():
        for subject, own in profiles.get(entry.task, {}).items():
            if contrast not in own["question"].values or phase not in own["position"].values:
                continue
            cell = own.sel(question=contrast, position=phase)
            switched, shams = (
                _switched(arms.get(subject), arm, contrast, config) for arm in ("finding", "sham")
            )
            for layer in own["layer"].values:
                at = cell.sel(layer=layer)
                accuracy = at.sel(statistic="balanced_accuracy")
                told = {
                    "subject": subject,
                    "contrast": contrast,
                    "layer": int(layer),
                    "chance": float(at["chance"]),
                    "accuracy": float(accuracy["value"]),
                    "accuracy_low": float(at["low"]),
                    "accuracy_high": float(at["high"]),
                    "p_max": float(accuracy["p_max"]),
                    "n": int(at["n"]),
                }
                effects = list(_of_layer(switched, shams, int(layer))) or [{}]
                rows += [{**told, **effect} for effect in effects]
    return pd.DataFrame(rows)


def _switched(
    arms: pd.DataFrame | None, arm: str, contrast: str, config: StudyConfig
) -> pd.DataFrame:
    """Such arms of a contrast in the primary phase: one score, one mode of each kind."""
    if arms is None or arms.empty:
        return pd.DataFrame()
    chosen = (arms["contrast"] == contrast) & (arms["phase"] == config.localise.phases[0])
    chosen &= (arms["arm"] == arm) & (arms["trial_role"] == "target")
    chosen &= (arms["held_out"] == "all") & (arms["score"] == config.evidence.score)
    chosen &= (arms["kind"] != "expert") | (arms["mode"] == config.evidence.mode)
    return arms[chosen]


def _of_layer(
    switched: pd.DataFrame, shams: pd.DataFrame, layer: int
) -> Iterator[dict[str, object]]:
    """What switching units of a layer off does, by kind of map."""
    if switched.empty:
        return
    layers = switched["units"].map(lambda text: {unit[0] for unit in words.read_units(text)})
    inside = switched[layers.map(lambda own: layer in own)]
    for (kind, method), rows in inside.groupby(["kind", "method"], sort=False):
        alone = rows[layers[rows.index].map(lambda own: own == {layer})]
        chosen = rows.sort_values("dose").iloc[0]
        if len(alone):
            chosen = alone.sort_values("dose").iloc[-1]
        yield {
            "kind": kind,
            "method": method,
            "mode": chosen["mode"],
            "units": int(chosen["dose"]),
            "alone": bool(len(alone)),
            "others": sorted(layers[chosen.name] - {layer}),
            "score": chosen["score"],
            "intact": float(chosen["intact"]),
            "effect": float(chosen["effect"]),
            "effect_low": float(chosen["low"]),
            "effect_high": float(chosen["high"]),
            "effect_n": int(chosen["n"]),
            **_beside(shams, chosen),
        }


def _beside(shams: pd.DataFrame, chosen: pd.Series) -> dict[str, float]:
    """Effects of the shams of the same map, mode and dose."""
    same = pd.Series(dtype=float)
    if not shams.empty:
        keys = ["kind", "method", "mode", "dose"]
        same = shams.loc[(shams[keys] == chosen[keys]).all(axis=1), "effect"]
    return {"shams": len(same), "sham_least": same.min(), "sham_most": same.max()}


def is_known(value: object) -> bool:
    """Whether a cell of a frame holds a number."""
    return isinstance(value, float | int | np.number) and bool(np.isfinite(value))
