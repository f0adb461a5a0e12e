"""Resolution curves of the recorded states of a task, by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lmri.errors import EvidenceError
from lmri.information.cells import DIMS, samples_of
from lmri.information.kernel import BOUNDS, kolchinsky_tracey
from lmri.information.nulls import independent_units
from lmri.information.resolution import resolution_curve
from lmri.information.samples import root_mean_square
from lmri.information.states import States
from lmri.store import Recording

NOISES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
"""Deviations in units of the layer's root mean square; wide layers lose inputs at the first."""

SURROGATES = 9
"""Copies of the states with independent units that a curve is drawn beside."""


def resolution_profile(
    recordings: Sequence[Recording],
    *,
    split: str | None = "selection",
    pooling: str = "mean",
    noises: Sequence[float] = NOISES,
    surrogates: int = SURROGATES,
    seed: int = 0,
) -> xr.Dataset:
    """Profile by layer and phase how much of the input is told at each resolution.

    Parameters
    ----------
    recordings : sequence of Recording
        Shards of a task, with ``residual`` pooled.
    split : str, optional
        Trials; None takes all.
    pooling : str
        ``mean`` or ``last`` state of a phase.
    noises : sequence of float
        Deviations in units of the layer's root mean square about its mean, as those of
        :func:`lmri.information.kernel.kolchinsky_tracey`.
    surrogates : int
        Copies with independent units.
    seed : int
        Of the sample of trials and of the surrogates.

    Returns
    -------
    Dataset
        Over (phase, layer, noise), in nat: ``upper`` and ``lower``, the bounds of Kolchinsky and
        Tracey, with ``<name>_flags``; ``gaussian``; ``independent``, the mean upper bound of
        states whose units were exchanged among trials, each by itself. Over (phase, layer):
        ``saturation``, the largest noise at which the upper bound still tells all inputs apart, 0
        where there is none; ``samples``, ``distinct``, ``scale``; ``reason`` why a cell is NaN.

    Raises
    ------
    EvidenceError
        If a recording lacks the states, or the split has no trial.
    """
    states = States(recordings, "trials", split, pooling)
    noises = sorted(map(float, noises), reverse=True)
    cells = (len(states.phases), len(states.layers))
    names = (*BOUNDS, "gaussian", "independent")
    found = {name: np.full((*cells, len(noises)), np.nan) for name in names}
    flags = {name: np.full((*cells, len(noises)), "", dtype="U16") for name in BOUNDS}
    plain = {name: np.full(cells, np.nan) for name in ("saturation", "scale")}
    counts = {name: np.zeros(cells, dtype=np.int64) for name in ("samples", "distinct")}
    reasons = np.full(cells, "", dtype=object)
    for place, layer in enumerate(states.layers):
        for phase, sample in enumerate(samples_of(states, layer, seed)):
            at = (phase, place)
            if sample.rows is None:
                reasons[at] = "No trial has a token in the phase."
                continue
            try:
                own = _curve(sample.rows.astype(np.float64), noises, surrogates, seed)
            except EvidenceError as error:
                reasons[at] = str(error)
                continue
            for name in names:
                found[name][at] = own[name].values
            for name in BOUNDS:
                flags[name][at] = own[f"{name}_flags"].values
            full = own["saturation"].sel(estimate="upper").fillna(0.0)
            plain["saturation"][at], plain["scale"][at] = float(full), own.attrs["scale"]
            for name in counts:
                counts[name][at] = own.attrs[name]
    return xr.Dataset(
        {
            **{name: ((*DIMS, "noise"), own) for name, own in found.items()},
            **{f"{name}_flags": ((*DIMS, "noise"), own) for name, own in flags.items()},
            **{name: (DIMS, own) for name, own in (plain | counts).items()},
            "reason": (DIMS, reasons.astype(str)),
        },
        coords={"phase": states.phases, "layer": states.layers, "noise": noises},
        attrs={"units": "nat", "surrogates": surrogates},
    )


def _curve(rows: np.ndarray, noises: Sequence[float], surrogates: int, seed: int) -> xr.Dataset:
    scale = root_mean_square(rows)
    if not scale > 0:
        raise EvidenceError("All states are the same.")
    bounds = _bounds(rows, noises)
    curve = resolution_curve(
        rows, lambda _, sd: bounds[round(sd / scale, 9)], noises=noises, scale=scale
    )
    drawn = [_bounds(own, noises) for own in independent_units(rows, surrogates, seed)]
    means = [np.mean([own[noise]["upper"] for own in drawn]) for noise in bounds]
    return curve.assign(independent=("noise", means))


def _bounds(rows: np.ndarray, noises: Sequence[float]) -> dict[float, dict[str, float]]:
    """Bounds by noise, all from one pass over the pairs."""
    found: dict[float, dict[str, float]] = {round(noise, 9): {} for noise in noises}
    for own in kolchinsky_tracey(rows, noise=noises):
        name = own.estimator.removeprefix("kt_")
        found[round(float(own.channel["noise"]), 9)][name] = own.value
    return found
