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
        ("quantity", "target", "phase", "word", "channels", "left_out"), ("change",)
    ),
    "spectral": {
        **dict.fromkeys(("effective_rank", "participation_ratio"), ("scaling", *CELLS)),
        **dict.fromkeys(("effective_rank_flags", "participation_ratio_flags"), ("scaling", *CELLS)),
        **dict.fromkeys(("dimension_two_nn", "dimension_two_nn_flags", "samples"), CELLS),
    },
    "rate_reduction": dict.fromkeys(("excess", "p", "flags", "reason"), ("target", *CELLS)),
    "attention": dict.fromkeys(("collapsed_share", "overloaded_share"), ("measure", *CELLS)),
    "lens": dict.fromkeys(("information", "information_error", "information_flags"), CELLS),
}
"""What is shown of each measure, with its dimensions."""

FOLLOWED = ("value", "flagged")


@dataclass(frozen=True)
class Information:
    """Profiles of all subjects.

    Attributes
    ----------
    profiles : dict
        Datasets by measure, task and subject.
    left_out : dict of str to dict of str to str
        By subject: why something is not there.
    dynamics : dict of str to Dataset
        By series.
    """

    profiles: dict[str, dict[str, dict[str, xr.Dataset]]] = field(default_factory=dict)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    dynamics: dict[str, xr.Dataset] = field(default_factory=dict)

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
            for task in config.informed_tasks:
                # Without states there is nothing to say of their change either.
                needs = (f"{task}.residual",) if measure == "changes" else ()
                if any(name in left_out for name in (f"{task}.{measure}", *needs)):
                    continue
                path = f"{folder}/{task}.{measure}.zarr"
                own = reader.read(
                    subject, path, lambda at, m=measure: _read(at, VARIABLES[m]), None
                )
                if own is not None:
                    found.profiles.setdefault(measure, {}).setdefault(task, {})[subject] = own
    for series in config.followed_series:
        wanted = dict.fromkeys(FOLLOWED, ("step", "number"))
        path = f"analyses/dynamics/{series}.zarr"
        own = reader.read("study", path, lambda at, w=wanted: _read(at, w), None)
        if own is not None:
            found.dynamics[series] = own
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
