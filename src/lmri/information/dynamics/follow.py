"""Every number of a profile over checkpoints: its largest change and its early warnings."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.stats import false_discovery_control

from lmri.errors import EvidenceError
from lmri.information.dynamics.change_points import LEAST, change_points
from lmri.information.dynamics.early_warning import INDICATORS, early_warning
from lmri.information.dynamics.early_warning import LEAST as LEAST_TO_WARN


def follow(
    values: xr.DataArray, *, model: str = "level", draws: int = 999, seed: int = 0
) -> xr.Dataset:
    """Follow every number of an array over checkpoints.

    Parameters
    ----------
    values : DataArray
        Over (step, ...), from :func:`lmri.information.dynamics.series`.
    model : str
        ``level`` or ``slope``, see :func:`lmri.information.dynamics.change_points`.
    draws : int
        Exchanges, and surrogates.
    seed : int
        Of both; the same for every number.

    Returns
    -------
    Dataset
        Over the other dimensions: ``first`` and ``last``, values at both ends; ``changes``, their
        number; of the change with the largest jump ``after``, ``until`` and ``jump``, NaN where
        there is none; ``p`` of any change and ``q``, over all numbers (Benjamini and Hochberg);
        ``warning_tau`` and ``warning_p`` (indicator, ...) of the checkpoints up to that change, or
        of all, NaN where they are fewer than 12, with ``warning_q`` over all numbers and
        indicators and ``warning_flags``; ``flags``, those of the change points joined by commas, or
        ``few_checkpoints`` where fewer than 6 are finite and all else is NaN.

    Raises
    ------
    EvidenceError
        If the first dimension is not ``step``, or no number is finite at 6 checkpoints.
    """
    if not values.dims or values.dims[0] != "step":
        raise EvidenceError(
            f"What is followed must be over 'step' first. Got the dimensions {values.dims}."
        )
    steps = values["step"].values.astype(np.float64)
    shape = values.shape[1:]
    series = values.values.reshape(len(steps), -1).astype(np.float64)
    names = ("first", "last", "changes", "after", "until", "jump", "p")
    found = {name: np.full(series.shape[1], np.nan) for name in names}
    warned = np.full((2, len(INDICATORS), series.shape[1]), np.nan)
    warning_flags = np.full((len(INDICATORS), series.shape[1]), "", dtype="U64")
    flags = np.full(series.shape[1], "few_checkpoints", dtype="U64")
    for cell, own in enumerate(series.T):
        finite = np.isfinite(own)
        if finite.sum() < LEAST:
            continue
        at, numbers = steps[finite], own[finite]
        changes = change_points(at, numbers, model=model, draws=draws, seed=seed)
        found["first"][cell], found["last"][cell] = numbers[0], numbers[-1]
        found["changes"][cell], found["p"][cell] = len(changes.jumps), changes.p
        flags[cell] = ",".join(changes.flags)
        before = at[-1]
        if len(changes.jumps):
            largest = int(np.abs(changes.jumps).argmax())
            before = changes.after[largest]
            found["after"][cell], found["until"][cell] = before, changes.until[largest]
            found["jump"][cell] = changes.jumps[largest]
        ahead = at <= before
        if ahead.sum() >= LEAST_TO_WARN and np.ptp(numbers[ahead]) > 0:
            warning = early_warning(at[ahead], numbers[ahead], draws=draws, seed=seed)
            warned[:, :, cell] = np.stack([warning["tau"].values, warning["p"].values])
            warning_flags[:, cell] = warning["flags"].values
    tested = np.isfinite(found["p"])
    if not tested.any():
        raise EvidenceError(
            f"What is followed must be finite at {LEAST} checkpoints at least. No number is: "
            "record more checkpoints of the series."
        )
    found["q"] = _corrected(found["p"])
    named = {"warning_tau": warned[0], "warning_p": warned[1]}
    named |= {"warning_q": _corrected(warned[1]), "warning_flags": warning_flags}
    dims = values.dims[1:]
    return xr.Dataset(
        {
            **{name: (dims, own.reshape(shape)) for name, own in found.items()},
            **{
                name: (("indicator", *dims), own.reshape(len(INDICATORS), *shape))
                for name, own in named.items()
            },
            "flags": (dims, flags.reshape(shape)),
        },
        coords={
            "indicator": list(INDICATORS),
            **{name: values[name] for name in dims if name in values.coords},
        },
        attrs={"variable": str(values.name), "model": model, "draws": draws},
    )


def _corrected(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg over all p that are there; NaN elsewhere."""
    q, tested = np.full(p.shape, np.nan), np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    return q
