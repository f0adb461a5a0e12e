"""The stage ``dynamics``: the information and geometry of checkpoints over training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.errors import EvidenceError, StoreError
from lmri.information.changes import between_checkpoints, corrected
from lmri.information.curves import (
    massive_curves,
    plane_of,
    sensitive_profile,
    sparsity_laws,
)
from lmri.information.dynamics import follow
from lmri.information.readings import open_shards
from lmri.information.reasons import reason_of
from lmri.store import atomic_directory, read_map, write_map, write_text_atomic

FOLLOWED = {
    "residual": ("value",),
    "expert": ("value",),
    "spectral": ("entropy_normalised", "effective_rank", "participation_ratio", "dimension_two_nn"),
    "resolution": ("saturation",),
    "rate_reduction": ("excess",),
    "codes": ("nearest", "logistic", "redundancy"),
    "unit_entropy": ("relative",),
    "attention": ("collapsed_share", "overloaded_share"),
    "lens": ("entropy", "divergence", "information"),
    "eigenscore": ("told",),
    "massive": ("ratio",),
    "active": ("active", "nonzero"),
    "logits": ("largest_logit",),
}
"""Variables of each measure that are followed."""

REDUCED: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "unit_entropy": lambda own: own.assign(relative=own["relative"].mean("unit")),
    "logits": lambda own: own.assign(largest_logit=own["largest_logit"].max("head")),
}
"""What is followed of measures of single units and heads: their mean, their largest."""

CURVES = {"residual": ("plane", plane_of), "massive": ("massive", massive_curves)}
CURVES["active"] = ("sparsity", sparsity_laws)
"""Name of the store, and what makes it of the profiles of a task by step."""

NUMBERS, SENSITIVE = "numbers", "sensitive"
"""Names of the stores that are of all measures, and of recordings."""

LABELS = ("task", "measure", "variable", "target", "phase", "layer", "detail")
"""What names a number; ``detail`` is its estimator or scaling."""

DETAILS = ("estimator", "scaling", "class", "kind", "place")
"""Dimensions that ``detail`` is read off. (That of attention is ``measure``, a label here.)"""

SWEPT = ("kernel", "bins")
"""Families of estimators that are not followed: they are swept, and saturated in wide layers."""


def follow_series(
    *,
    series: str,
    profiles: Path,
    study: Path,
    out: Path,
    steps: Mapping[str, int],
    tasks: Sequence[str],
    sensitive: Sequence[str] = (),
    others: Sequence[Mapping[str, str]] = (),
    seed: int,
    provenance: dict,
) -> None:
    """Follow the profiles of a series of checkpoints over training.

    Parameters
    ----------
    series : str
        Name of the series.
    profiles : Path
        Folder with the profiles of every subject: ``<subject>/<task>.<measure>.zarr``.
    study : Path
        Folder of the study: with ``recordings/<subject>/<task>/<shard>.zarr``, read for sensitive
        units only, and what ``others`` name.
    out : Path
        Folder to write, as a whole. ``numbers.zarr``: ``value`` and ``flagged`` over
        (step, number); what :func:`lmri.information.dynamics.follow` finds over ``number``, absent
        where there are too few checkpoints (the attribute ``not_followed`` says so); and over
        ``claim`` what may be said of the information of the last checkpoint against the first.
        ``plane.zarr``, ``massive.zarr``, ``sparsity.zarr`` and ``sensitive.zarr``, see
        :mod:`lmri.information.curves`, where their measures are; ``left_out.json`` says why one of
        them, or of a task, is not there.
    steps : mapping of str to int
        Step of every subject of the series.
    tasks : sequence of str
        Tasks of the profiles.
    sensitive : sequence of str
        Phases of which sensitive units are looked for.
    others : sequence of mapping of str to str
        Numbers of other stages: ``folder`` with ``{subject}``, ``store``, ``variable``, as of
        :class:`lmri.config.FollowOptions`.
    seed : int
        Of all draws.
    provenance : dict
        Kept in the stores.

    Raises
    ------
    StoreError
        If a profile or recording is missing or damaged.
    EvidenceError
        If the checkpoints share no number, or a map lacks the variable that is to be followed.
    """
    by_step = {step: _read(profiles / subject) for subject, step in steps.items()}
    by_step = dict(sorted(by_step.items()))
    subjects = {step: subject for subject, step in steps.items()}
    frames = {
        step: pd.concat([_numbers(own), *_others(study, subjects[step], others)], ignore_index=True)
        for step, own in by_step.items()
    }
    numbers = _followed(series, frames, seed)
    claims = _claims(list(by_step.values()))
    if len(claims):
        table = xr.Dataset.from_dataframe(claims.rename_axis("claim"))
        numbers = numbers.merge(table.rename({name: f"claim_{name}" for name in claims}))
    left_out: dict[str, str] = {}
    found = {NUMBERS: numbers, **_curves(by_step, tasks, left_out)}
    if sensitive:
        folders = {step: study / "recordings" / subjects[step] for step in by_step}
        found |= _sensitive(folders, tasks, sensitive, left_out)
    with atomic_directory(out) as partial_out:
        for name, own in found.items():
            labelled = own.assign_attrs(series=series, provenance=str(provenance))
            write_map(partial_out / f"{name}.zarr", labelled)
        text = json.dumps(left_out, indent=1, sort_keys=True)
        write_text_atomic(partial_out / "left_out.json", text + "\n")


def _read(folder: Path) -> dict[tuple[str, str], xr.Dataset]:
    """Profiles of a subject by task and measure; those of no task have an empty one."""
    stores = sorted(folder.glob("*.zarr"))
    if not stores and not (folder / "left_out.json").is_file():
        raise StoreError(f"{folder}: no profiles. Was the job that writes them finished?")
    found = {}
    for store in stores:
        task, _, measure = store.stem.rpartition(".")
        if measure in FOLLOWED:
            found[task, measure] = read_map(store)
    return found


def _curves(
    by_step: Mapping[int, Mapping[tuple[str, str], xr.Dataset]],
    tasks: Sequence[str],
    left_out: dict[str, str],
) -> dict[str, xr.Dataset]:
    found: dict[str, xr.Dataset] = {}
    for measure, (name, make) in CURVES.items():
        parts = []
        for task in tasks:
            own = {step: of[task, measure] for step, of in by_step.items() if (task, measure) in of}
            if not own:
                continue
            part = _attempted(partial(make, task, own), f"{task}.{name}", left_out)
            parts += [] if part is None else [part]
        if parts:
            # The dimension that tasks are joined along is the one that is not the step.
            along = next(dim for dim in parts[0].dims if dim != "step")
            found[name] = xr.concat(parts, along)
    return found


def _sensitive(
    folders: Mapping[int, Path],
    tasks: Sequence[str],
    phases: Sequence[str],
    left_out: dict[str, str],
) -> dict[str, xr.Dataset]:
    parts: dict[str, xr.Dataset] = {}
    for task in tasks:
        opened = {step: open_shards(folder / task) for step, folder in folders.items()}
        by_phase = [
            _attempted(
                partial(sensitive_profile, opened, phases=[phase]),
                f"{task}.{SENSITIVE}.{phase}",
                left_out,
            )
            for phase in phases
        ]
        own = [found for found in by_phase if found is not None]
        if own:
            parts[task] = xr.concat(own, "phase", combine_attrs="override")
    if not parts:
        return {}
    index = pd.Index(list(parts), name="task")
    return {SENSITIVE: xr.concat(list(parts.values()), index, combine_attrs="override")}


def _attempted(
    make: Callable[[], xr.Dataset], name: str, left_out: dict[str, str]
) -> xr.Dataset | None:
    try:
        return make()
    except (EvidenceError, StoreError) as error:
        left_out[name] = reason_of(error)
        return None


def _numbers(profiles: Mapping[tuple[str, str], xr.Dataset]) -> pd.DataFrame:
    """One row per number: its labels, ``value`` and ``flagged``."""
    parts = []
    for (task, measure), own in profiles.items():
        if "family" in own.coords:
            own = own.sel(estimator=~np.isin(own["family"].values, SWEPT))
        if measure == "attention":
            own = own.rename(measure="scaling")
        own = REDUCED[measure](own) if measure in REDUCED else own
        for variable in FOLLOWED[measure]:
            values = xr.Dataset({"value": own[variable], "flagged": _flagged(own, variable)})
            frame = values.reset_coords(drop=True).to_dataframe().reset_index()
            frame = frame.assign(task=task, measure=measure, variable=variable)
            details = [name for name in DETAILS if name in frame]
            frame = frame.rename(columns=dict.fromkeys(details, "detail"))
            parts.append(frame.reindex(columns=[*LABELS, "value", "flagged"], fill_value=""))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*LABELS])


def _others(
    study: Path, subject: str, others: Sequence[Mapping[str, str]]
) -> Iterator[pd.DataFrame]:
    """Numbers of other stages as rows; dimensions without a label of their own are the detail."""
    for entry in others:
        path = study / entry["folder"].format(subject=subject) / entry["store"]
        found, variable = read_map(path), entry["variable"]
        numeric = variable in found and found[variable].dtype.kind in "biuf"
        if not numeric:
            have = ", ".join(sorted(map(str, found.data_vars)))
            raise EvidenceError(
                f"{path}: has no numbers '{variable}' to follow, as 'information.follow' asks. It "
                f"has {have}."
            )
        frame = found[variable].rename("value").reset_coords(drop=True).to_series().reset_index()
        rest = [name for name in found[variable].dims if name not in LABELS]
        texts = [name + " " + frame[name].astype(str) for name in rest]
        detail = texts[0].str.cat(texts[1:], sep=", ") if texts else ""
        frame = frame.assign(measure=entry["store"].removesuffix(".zarr"), variable=variable)
        frame = frame.assign(detail=detail, flagged=False)
        yield frame.reindex(columns=[*LABELS, "value", "flagged"], fill_value="")


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
    return corrected(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()
