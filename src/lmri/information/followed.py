"""The stage ``dynamics``: the information and geometry of checkpoints over training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.errors import EvidenceError, StoreError
from lmri.information.changes import between_checkpoints
from lmri.information.dynamics import follow
from lmri.store import read_map, write_map

FOLLOWED = {
    "residual": ("value",),
    "expert": ("value",),
    "spectral": ("entropy_normalised", "effective_rank", "participation_ratio", "dimension_two_nn"),
    "rate_reduction": ("excess",),
    "attention": ("collapsed_share", "overloaded_share"),
    "lens": ("entropy", "divergence", "information"),
}
"""Variables of each measure that are followed."""

LABELS = ("task", "measure", "variable", "target", "phase", "layer", "detail")
"""What names a number; ``detail`` is its estimator or scaling."""

DETAILS = ("estimator", "scaling")
"""Dimensions that ``detail`` is read off. (That of attention is ``measure``, a label here.)"""

SWEPT = ("kernel", "bins")
"""Families of estimators that are not followed: they are swept, and saturated in wide layers."""


def follow_series(
    *,
    series: str,
    profiles: Path,
    out: Path,
    steps: Mapping[str, int],
    seed: int,
    provenance: dict,
) -> None:
    """Follow every scalar of the profiles of a series of checkpoints over training.

    Parameters
    ----------
    series : str
        Name of the series.
    profiles : Path
        Folder with the profiles of every subject: ``<subject>/<task>.<measure>.zarr``.
    out : Path
        Store to write: ``value`` and ``flagged`` over (step, number); what
        :func:`lmri.information.dynamics.follow` finds over ``number``, absent where there are too
        few checkpoints (the attribute ``not_followed`` says so); and over ``claim`` what may be
        said of the information of the last checkpoint against the first.
    steps : mapping of str to int
        Step of every subject of the series.
    seed : int
        Of all draws.
    provenance : dict
        Kept in the store.

    Raises
    ------
    StoreError
        If a profile is missing or damaged.
    EvidenceError
        If the checkpoints share no number.
    """
    by_step = {step: _read(profiles / subject) for subject, step in steps.items()}
    by_step = dict(sorted(by_step.items()))
    frames = {step: _numbers(own) for step, own in by_step.items()}
    found = _followed(series, frames, seed)
    claims = _claims(list(by_step.values()))
    if len(claims):
        table = xr.Dataset.from_dataframe(claims.rename_axis("claim"))
        found = found.merge(table.rename({name: f"claim_{name}" for name in claims}))
    write_map(out, found.assign_attrs(series=series, provenance=str(provenance)))


def _read(folder: Path) -> dict[tuple[str, str], xr.Dataset]:
    """Profiles of a subject by task and measure."""
    stores = sorted(folder.glob("*.zarr"))
    if not stores and not (folder / "left_out.json").is_file():
        raise StoreError(f"{folder}: no profiles. Was the job that writes them finished?")
    found = {}
    for store in stores:
        task, _, measure = store.stem.rpartition(".")
        if measure in FOLLOWED:
            found[task, measure] = read_map(store)
    return found


def _numbers(profiles: Mapping[tuple[str, str], xr.Dataset]) -> pd.DataFrame:
    """One row per number: its labels, ``value`` and ``flagged``."""
    parts = []
    for (task, measure), own in profiles.items():
        if "family" in own.coords:
            own = own.sel(estimator=~np.isin(own["family"].values, SWEPT))
        if measure == "attention":
            own = own.rename(measure="scaling")
        for variable in FOLLOWED[measure]:
            values = xr.Dataset({"value": own[variable], "flagged": _flagged(own, variable)})
            frame = values.reset_coords(drop=True).to_dataframe().reset_index()
            frame = frame.assign(task=task, measure=measure, variable=variable)
            details = [name for name in DETAILS if name in frame]
            frame = frame.rename(columns=dict.fromkeys(details, "detail"))
            parts.append(frame.reindex(columns=[*LABELS, "value", "flagged"], fill_value=""))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*LABELS])


def _flagged(own: xr.Dataset, variable: str) -> xr.DataArray:
    if variable == "value":
        return own["flagged"].any("flag")
    for name in (f"{variable}_flags", "flags"):
        if name in own and own[name].dims == own[variable].dims:
            return own[name] != ""
    return xr.zeros_like(own[variable], dtype=bool)


def _followed(series: str, frames: Mapping[int, pd.DataFrame], seed: int) -> xr.Dataset:
    keys = list(LABELS)
    wide = {step: own.set_index(keys) for step, own in frames.items() if len(own)}
    if not wide:
        raise EvidenceError(f"The checkpoints of '{series}' have no profile to follow.")
    order = list(dict.fromkeys(key for own in wide.values() for key in own.index))
    index = pd.MultiIndex.from_tuples(order, names=keys)
    at = list(frames)
    value = np.full((len(at), len(order)), np.nan)
    flagged = np.zeros(value.shape, dtype=bool)
    for row, step in enumerate(at):
        if step in wide:
            own = wide[step].reindex(index)
            value[row] = own["value"].to_numpy(dtype=np.float64)
            flagged[row] = own["flagged"].eq(True).to_numpy()
    labels = {name: ("number", [str(key[i]) for key in order]) for i, name in enumerate(keys)}
    values = xr.DataArray(value, dims=("step", "number"), coords={"step": at}, name="value")
    found = xr.Dataset({"value": values, "flagged": (("step", "number"), flagged)})
    try:
        return found.merge(follow(values, seed=seed)).assign_coords(labels)
    except EvidenceError as error:
        return found.assign_coords(labels).assign_attrs(not_followed=str(error))


def _claims(profiles: list[dict[tuple[str, str], xr.Dataset]]) -> pd.DataFrame:
    """What is said of the last checkpoint against the first."""
    first, last = profiles[0], profiles[-1]
    parts = [
        between_checkpoints(own, last[key]).assign(task=key[0])
        for key, own in first.items()
        if key[1] == "residual" and key in last
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
