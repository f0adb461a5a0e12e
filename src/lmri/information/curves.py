"""Over checkpoints: planes of information, massive activations, sparsity, sensitive units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from lmri.errors import EvidenceError
from lmri.information.dynamics import (
    compare_sparsity_laws,
    fit_massive_curve,
    peak_step,
    sensitive_units,
)
from lmri.information.dynamics.massive_curve import NAMES
from lmri.information.dynamics.sensitive import CHANGES
from lmri.information.dynamics.series import series
from lmri.information.readings import pooled_activity, select_trials
from lmri.store import Recording

Profiles = Mapping[int, xr.Dataset]
"""Of one task and measure, by step."""

TOLD = "probe I(T;Y)"
"""What a plane has upwards: the estimate that saturation cannot inflate."""

RATIOS = ("active", "nonzero")
"""Shares of active neurons whose course is compared with power laws."""


def plane_of(task: str, profiles: Profiles) -> xr.Dataset:
    """Put I(X;T) against I(T;Y), layer by layer and checkpoint by checkpoint.

    Parameters
    ----------
    task : str
        The task.
    profiles : mapping of int to Dataset
        Profiles of states by step (:func:`lmri.information.mutual_profile.information_of`).

    Returns
    -------
    Dataset
        Over (step, point): ``i_xt`` and ``i_ty`` (nat), ``flagged_x`` and ``flagged_y``, NaN where
        an estimate is missing. Over point: ``task``, ``target``, ``phase``, ``layer``, and
        ``channel``, the estimator of I(X;T): the upper bound at the most noise, which saturates
        last, and the neighbours of inputs and states where there are any.

    Raises
    ------
    EvidenceError
        If no profile has both.
    """
    first = next(iter(profiles.values()))
    names = [str(own) for own in first["estimator"].values]
    bounds = [own for own in names if own.startswith("kt_upper ") and own.endswith("I(X;T)")]
    channels = sorted(bounds, key=lambda own: float(own.split()[1]))[-1:]
    channels += [own for own in names if own == "pair I(X;T)"]
    if TOLD not in names or not channels:
        raise EvidenceError(
            "An information plane must have a held-out probe and a kernel bound or inputs. Add "
            "'probe' and 'kt' to 'information.estimators'."
        )
    parts = []
    for step, own in profiles.items():
        told = own.reindex(estimator=[TOLD]).isel(estimator=0, drop=True)
        for channel in channels:
            seen = own.reindex(estimator=[channel]).isel(estimator=0, drop=True)
            plane = xr.Dataset(
                {
                    "i_xt": seen["value"],
                    "i_ty": told["value"],
                    "flagged_x": _raised(seen),
                    "flagged_y": _raised(told),
                }
            )
            frame = plane.reset_coords(drop=True).to_dataframe().reset_index()
            parts.append(frame.assign(step=step, task=task, channel=channel))
    return _by_step(pd.concat(parts), ["task", "target", "phase", "layer", "channel"], "point")


def massive_curves(task: str, profiles: Profiles) -> xr.Dataset:
    """Fit the curve of five parameters to the massive activation of every layer.

    Parameters
    ----------
    task : str
        The task.
    profiles : mapping of int to Dataset
        By step (:func:`lmri.information.token_profiles.massive_profile`).

    Returns
    -------
    Dataset
        Over curve: ``task``, ``layer``, ``place``; the parameters with ``<name>_low`` and
        ``<name>_high``, ``peak`` (step), ``r_squared``, ``flags``; ``reason`` where there is no
        fit. Over (curve, step): ``ratio`` and ``fitted``.

    Raises
    ------
    EvidenceError
        If the checkpoints differ in their layers.
    """
    ratios = series(profiles, "ratio")
    steps = ratios["step"].values
    rows, fitted = [], []
    for layer in ratios["layer"].values:
        for place in ratios["place"].values:
            own = ratios.sel(layer=layer, place=place).values
            row, curve = _massive_fit(steps, own)
            rows.append({"task": task, "layer": int(layer), "place": str(place), **row})
            fitted.append(np.stack([own, curve]))
    found = xr.Dataset.from_dataframe(pd.DataFrame(rows).rename_axis("curve"))
    both = np.stack(fitted)
    return found.assign(
        ratio=(("curve", "step"), both[:, 0]), fitted=(("curve", "step"), both[:, 1])
    ).assign_coords(step=steps)


def _massive_fit(steps: np.ndarray, ratios: np.ndarray) -> tuple[dict, np.ndarray]:
    names = [part for name in NAMES for part in (name, f"{name}_low", f"{name}_high")]
    row = dict.fromkeys([*names, "peak", "r_squared"], np.nan) | {"flags": "", "reason": ""}
    try:
        found = fit_massive_curve(steps, ratios)
    except EvidenceError as error:
        return row | {"reason": str(error)}, np.full(len(steps), np.nan)
    for name in NAMES:
        row[name] = found.parameters[name]
        row[f"{name}_low"], row[f"{name}_high"] = found.low[name], found.high[name]
    row |= {"peak": peak_step(found), "r_squared": found.r_squared, "flags": ",".join(found.flags)}
    return row, found.curve(steps.astype(np.float64))


def sparsity_laws(task: str, profiles: Profiles) -> xr.Dataset:
    """Compare power laws of the share of active neurons of every layer.

    Parameters
    ----------
    task : str
        The task.
    profiles : mapping of int to Dataset
        By step (:func:`lmri.information.token_profiles.activity_profile`); the untrained subject,
        step 0, is left out. Tokens of training are counted in steps.

    Returns
    -------
    Dataset
        Over fit, a row for each law that the series does not run against: ``task``, ``kind``,
        ``layer``, ``variable``, ``law``, and as of
        :func:`lmri.information.dynamics.compare_sparsity_laws` ``aicc``, ``behind``, ``r_squared``,
        ``limit``, ``limit_low``, ``limit_high``, ``flags``; ``first`` and ``last``, shares at both
        ends; ``reason`` where nothing could be fitted.

    Raises
    ------
    EvidenceError
        If the checkpoints differ in their layers.
    """
    rows: list[dict] = []
    for variable in RATIOS:
        shares = series(profiles, variable)
        shares = shares.sel(step=shares["step"] > 0)
        for kind in shares["kind"].values:
            for layer in shares["layer"].values:
                own = shares.sel(kind=kind, layer=layer).values
                if np.isfinite(own).any():
                    named = {"task": task, "kind": str(kind), "layer": int(layer)}
                    named |= {"variable": variable, "first": own[0], "last": own[-1]}
                    rows += _law_rows(named, shares["step"].values, own)
    if not rows:
        raise EvidenceError("A law of sparsity over training must be of steps above 0. None is.")
    return xr.Dataset.from_dataframe(pd.DataFrame(rows).rename_axis("fit"))


def _law_rows(named: dict, steps: np.ndarray, shares: np.ndarray) -> Iterator[dict]:
    numbers = ("aicc", "behind", "r_squared", "limit", "limit_low", "limit_high")
    empty = {**named, "law": "", **dict.fromkeys(numbers, np.nan), "flags": "", "reason": ""}
    try:
        table = compare_sparsity_laws(steps, shares)
    except EvidenceError as error:
        yield {**empty, "reason": str(error)}
        return
    for law, row in table.iterrows():
        yield {**empty, "law": str(law), **{name: row[name] for name in (*numbers, "flags")}}


def sensitive_profile(
    recordings: Mapping[int, Sequence[Recording]],
    *,
    kind: str = "residual",
    phases: Sequence[str] = ("prompt_last",),
    changes: int = CHANGES,
) -> xr.Dataset:
    """Find by layer and phase the units that do not settle over the last checkpoints.

    Parameters
    ----------
    recordings : mapping of int to sequence of Recording
        Shards of one task by step.
    kind : str
        Of :data:`lmri.information.readings.POOLED`.
    phases : sequence of str
        Phases of a trial.
    changes : int
        Changes between checkpoints that count, from the last back.

    Returns
    -------
    Dataset
        Over (phase, layer, unit): ``variability``, ``selected``. Over (phase, layer): ``texts``,
        ``halves`` (rank correlation of two halves of the texts), ``share`` (of the selected units
        in all variability), ``flags``. Attributes ``kind``, ``steps``.

    Raises
    ------
    EvidenceError
        If there are too few checkpoints, or no trial is in all of them.
    """
    steps = sorted(recordings)[-changes - 1 :]
    if len(steps) < changes + 1:
        raise EvidenceError(
            f"Sensitive units must have at least {changes + 1} checkpoints. Got {len(steps)}."
        )
    trials = [select_trials(recordings[step]) for step in steps]
    names = [pd.Index(own.table["trial"]) for own in trials]
    shared = [name for name in names[0] if all(name in own for own in names[1:])]
    rows = [own.get_indexer(shared) for own in names]
    by_phase = []
    for phase in phases:
        every = (pooled_activity(own, kind, phase) for own in trials)
        layers, parts = [], []
        for read in zip(*every, strict=True):
            states = np.stack(
                [values[at] for (_, values), at in zip(read, rows, strict=True)], axis=1
            )
            known = states[np.isfinite(states).all(axis=(1, 2))]
            layers.append(read[0][0])
            parts.append(_settled(known, changes))
        by_phase.append(xr.concat(parts, pd.Index(layers, name="layer")))
    found = xr.concat(by_phase, pd.Index(list(phases), name="phase"))
    return found.assign_attrs(kind=kind, steps=", ".join(map(str, steps)), changes=changes)


def _settled(states: np.ndarray, changes: int) -> xr.Dataset:
    """Sensitive units of one layer: states (n_trials, checkpoints, units)."""
    own = sensitive_units([states] if len(states) else [], changes=changes)
    total = float(own["variability"].sum())
    share = float(own["variability"].where(own["selected"], 0).sum()) / total if total else np.nan
    return (
        own[["variability", "selected"]]
        .assign({name: own.attrs[name] for name in ("texts", "halves", "flags")} | {"share": share})
        .drop_attrs()
    )


def _raised(own: xr.Dataset) -> xr.DataArray:
    """Whether an estimate carries a flag; one that is missing has none."""
    return own["flagged"].fillna(0).astype(bool).any("flag")


def _by_step(frame: pd.DataFrame, keys: list[str], dim: str) -> xr.Dataset:
    """Columns of a table over (step, dim), a place along ``dim`` for every combination of keys."""
    table = frame.set_index(["step", *keys])
    places = pd.MultiIndex.from_frame(frame[keys].drop_duplicates())
    steps = sorted(frame["step"].unique())
    made: dict[str, tuple] = {}
    for name, column in table.items():
        wide = [column.loc[step].reindex(places) for step in steps]
        if column.dtype == bool:
            wide = [own.eq(True) for own in wide]  # what is missing carries no flag
        made[str(name)] = (("step", dim), np.stack([own.to_numpy() for own in wide]))
    for level in keys:
        values = places.get_level_values(level).to_numpy()
        made[level] = (dim, values if values.dtype.kind in "if" else values.astype(str))
    return xr.Dataset(made, coords={"step": steps})
