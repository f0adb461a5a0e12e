"""What the page of information reads, and the numbers behind it as rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.config import StudyConfig
from lmri.errors import StoreError
from lmri.report.layers.probes import read_reasons
from lmri.report.reader import Reader
from lmri.store import read_map

MUTUAL = ("target", "phase", "layer", "estimator")
CELLS = ("phase", "layer")
PLACES = ("layer", "place")
ENDS = ("", "_low", "_high")

LOGITS = "logits"
"""The measure that is of no task."""

NUMBERS = ("value", "null_mean", "null_upper", "p", "q", "low", "high", "n")

VARIABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "residual": {
        **dict.fromkeys((*NUMBERS, "reasons", "refused"), MUTUAL),
        "flagged": (*MUTUAL, "flag"),
    },
    "expert": {
        **dict.fromkeys((*NUMBERS, "reasons", "refused"), MUTUAL),
        "flagged": (*MUTUAL, "flag"),
    },
    "changes": dict.fromkeys(
        ("quantity", "target", "phase", "word", "p", "q", "channels", "left_out"), ("change",)
    ),
    "spectral": {
        **dict.fromkeys(("effective_rank", "participation_ratio"), ("scaling", *CELLS)),
        **dict.fromkeys(("effective_rank_flags", "participation_ratio_flags"), ("scaling", *CELLS)),
        **dict.fromkeys(("dimension_two_nn", "dimension_two_nn_flags", "samples"), CELLS),
    },
    "rate_reduction": dict.fromkeys(("excess", "p", "flags", "reason"), ("target", *CELLS)),
    "attention": dict.fromkeys(("collapsed_share", "overloaded_share"), ("measure", *CELLS)),
    "lens": dict.fromkeys(("information", "information_error", "information_flags"), CELLS),
    "resolution": {
        **dict.fromkeys(("upper", "lower", "gaussian", "independent"), (*CELLS, "noise")),
        "upper_flags": (*CELLS, "noise"),
        **dict.fromkeys(("saturation", "samples", "distinct"), CELLS),
    },
    "codes": dict.fromkeys(
        ("nearest", "logistic", "k_means", "chance", "redundancy", "bits")
        + ("nearest_p", "logistic_p", "k_means_p", "within_between", "samples", "flags", "reason"),
        ("target", *CELLS),
    ),
    "unit_entropy": {
        "relative": ("class", *CELLS, "unit"),
        **dict.fromkeys(("samples", "flags"), ("class", *CELLS)),
    },
    "massive": dict.fromkeys(("largest", "median", "ratio", "ratio_error", "flags"), PLACES),
    "active": dict.fromkeys(
        ("active", "active_error", "nonzero", "nonzero_error", "flags"), ("kind", "layer")
    ),
    "eigenscore": dict.fromkeys(("told", "p", "flags"), ("layer",)),
    LOGITS: {
        "largest_logit": ("layer", "head"),
        "least_entropy": ("keys", "layer", "head"),
    },
}
"""What is shown of each measure, with its dimensions."""

CURVES: dict[str, dict[str, tuple[str, ...]]] = {
    "numbers": dict.fromkeys(("value", "flagged"), ("step", "number")),
    "plane": {
        **dict.fromkeys(("i_xt", "i_ty", "flagged_x", "flagged_y"), ("step", "point")),
        **dict.fromkeys(("task", "target", "phase", "layer", "channel"), ("point",)),
    },
    "massive": {
        **dict.fromkeys(("ratio", "fitted"), ("curve", "step")),
        **dict.fromkeys(
            ("task", "layer", "place", "peak", "r_squared", "flags", "reason"), ("curve",)
        ),
        **dict.fromkeys(
            (f"{own}{end}" for own in ("A", "decay", "rate", "offset", "K") for end in ENDS),
            ("curve",),
        ),
    },
    "sparsity": dict.fromkeys(
        ("task", "kind", "layer", "variable", "law", "behind", "r_squared", "limit")
        + ("limit_low", "limit_high", "first", "last", "flags", "reason"),
        ("fit",),
    ),
    "sensitive": {
        **dict.fromkeys(("variability", "selected"), ("task", *CELLS, "unit")),
        **dict.fromkeys(("texts", "halves", "share", "flags"), ("task", *CELLS)),
    },
}
"""What is shown of a series, by store; only the first is always there."""


@dataclass(frozen=True)
class Information:
    """Profiles of all subjects.

    Attributes
    ----------
    profiles : dict
        Datasets by measure, task and subject.
    left_out : dict of str to dict of str to str
        By subject: why something is not there.
    dynamics : dict of str to dict of str to Dataset
        By series and store.
    """

    profiles: dict[str, dict[str, dict[str, xr.Dataset]]] = field(default_factory=dict)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    dynamics: dict[str, dict[str, xr.Dataset]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to show, or to say of why there is not."""
        return bool(self.profiles or any(self.left_out.values()) or self.dynamics)

    def of(self, measure: str) -> dict[str, dict[str, xr.Dataset]]:
        """Profiles of a measure by task and subject."""
        return self.profiles.get(measure, {})


def read_information(reader: Reader, config: StudyConfig) -> Information:
    """Read the profiles of all subjects; there are none of a study without measures.

    Parameters
    ----------
    reader : Reader
        Notes what is missing.
    config : StudyConfig
        Which subjects, tasks and measures.

    Returns
    -------
    Information
        What there is.
    """
    found = Information()
    measures = [own for own in config.information.measures if own in VARIABLES]
    measures += ["changes"] if "residual" in measures else []
    for subject in config.subjects if config.informed_tasks else ():
        folder = f"analyses/information/{subject}"
        left_out = reader.read(subject, f"{folder}/left_out.json", read_reasons, {})
        found.left_out[subject] = left_out
        for measure in measures:
            for task in ("",) if measure == LOGITS else config.informed_tasks:
                # Without states there is nothing to say of their change either.
                needs = (f"{task}.residual",) if measure == "changes" else ()
                name = f"{task}.{measure}".removeprefix(".")
                if any(own in left_out for own in (name, *needs)):
                    continue
                path = f"{folder}/{name}.zarr"
                own = reader.read(
                    subject, path, lambda at, m=measure: _read(at, VARIABLES[m]), None
                )
                if own is not None:
                    found.profiles.setdefault(measure, {}).setdefault(task, {})[subject] = own
    for series in config.followed_series:
        folder = f"analyses/dynamics/{series}"
        left_out = reader.read("study", f"{folder}/left_out.json", read_reasons, {})
        found.left_out[series] = left_out
        for name, wanted in CURVES.items():
            path = f"{folder}/{name}.zarr"
            if name != "numbers" and not (reader.study / path).is_dir():
                continue  # its measure is not asked for, or no task has it
            own = reader.read("study", path, lambda at, w=wanted: _read(at, w), None)
            if own is not None:
                found.dynamics.setdefault(series, {})[name] = own
    return found


def _read(path: Path, wanted: dict[str, tuple[str, ...]]) -> xr.Dataset:
    dataset = read_map(path)
    for name, dims in wanted.items():
        if name not in dataset or set(dataset[name].dims) != set(dims):
            raise StoreError(
                f"{path}: has no '{name}' by {', '.join(dims)}. Run the stage 'information' again."
            )
    return dataset


def mutual_frame(found: dict[str, dict[str, xr.Dataset]]) -> pd.DataFrame:
    """Put estimates of information into rows.

    Parameters
    ----------
    found : dict
        Profiles by task and subject.

    Returns
    -------
    DataFrame
        ``subject``, ``task``, target, phase, layer, estimator, every number, ``flags`` (names
        joined by commas), ``reasons`` and ``refused``. Estimates with neither a number nor a
        reason are left out.
    """
    parts = []
    for task, subjects in found.items():
        for subject, own in subjects.items():
            frame = own[[*NUMBERS, "reasons", "refused"]].reset_coords(drop=True)
            frame = frame.to_dataframe(dim_order=list(MUTUAL))
            frame["flags"] = _joined(own["flagged"].transpose(*MUTUAL, "flag"))
            frame = frame.reset_index().assign(subject=subject, task=task)
            parts.append(frame[np.isfinite(frame["value"]) | (frame["refused"] != "")])
    columns = ["subject", "task", *MUTUAL, *NUMBERS, "flags", "reasons", "refused"]
    if not parts:
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True)[columns]


def _joined(flagged: xr.DataArray) -> list[str]:
    names = [str(name) for name in flagged["flag"].values]
    rows = flagged.values.reshape(-1, len(names))
    return [",".join(name for name, own in zip(names, row, strict=True) if own) for row in rows]


def plain_frame(measure: str, found: dict[str, dict[str, xr.Dataset]]) -> pd.DataFrame:
    """Put the variables of another measure into rows, as far as the page shows them."""
    parts = []
    for task, subjects in found.items():
        for subject, own in subjects.items():
            frame = own[list(VARIABLES[measure])].reset_coords(drop=True).to_dataframe()
            parts.append(frame.reset_index().assign(subject=subject, task=task))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
