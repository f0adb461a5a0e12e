"""A number of any stage over the checkpoints of a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from lmri.errors import EvidenceError


def series(datasets: Mapping[int, xr.Dataset], variable: str) -> xr.DataArray:
    """Stack a variable over checkpoints.

    Parameters
    ----------
    datasets : mapping of int to Dataset
        What a stage wrote of each checkpoint, by step: maps, profiles, tables of scores.
    variable : str
        One of their variables.

    Returns
    -------
    DataArray
        Over (step, ...), steps ascending.

    Raises
    ------
    EvidenceError
        If there are fewer than two checkpoints, one lacks the variable, or its dimensions or
        labels differ.
    """
    steps = sorted(datasets)
    if len(steps) < 2:
        raise EvidenceError(
            f"A series of '{variable}' must have at least two checkpoints. Got {len(steps)}."
        )
    for step in steps:
        if variable not in datasets[step]:
            have = ", ".join(sorted(map(str, datasets[step].data_vars)))
            raise EvidenceError(
                f"The variable '{variable}' must be in every checkpoint. Step {step} has {have}."
            )
    arrays = [datasets[step][variable] for step in steps]
    for step, array in zip(steps[1:], arrays[1:], strict=True):
        alike = array.dims == arrays[0].dims and array.shape == arrays[0].shape
        if not alike or any(not array[name].equals(arrays[0][name]) for name in array.dims):
            raise EvidenceError(
                f"'{variable}' must have the same dimensions and labels at every step. Got "
                f"{dict(arrays[0].sizes)} at step {steps[0]} and {dict(array.sizes)} at {step}."
            )
    return xr.concat(arrays, xr.Variable("step", steps)).rename(variable)


def checked(
    steps: Sequence[float], values: Sequence[float], least: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Check one curve over checkpoints.

    Parameters
    ----------
    steps, values : sequence of float
        Steps, ascending, and a number at each.
    least : int
        Checkpoints that are needed.
    what : str
        What is computed, for the message.

    Returns
    -------
    steps, values : ndarray of shape (n,), float64

    Raises
    ------
    EvidenceError
        If they are too few, not finite, of unequal length, or not ascending.
    """
    steps, values = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or steps.shape != values.shape:
        raise EvidenceError(
            f"{what} must have one number at each step. Got the shapes {values.shape} and "
            f"{steps.shape}."
        )
    if len(values) < least:
        raise EvidenceError(
            f"{what} must have at least {least} checkpoints. Got {len(values)}: record more "
            "checkpoints of the series."
        )
    if not np.isfinite(values).all() or not np.isfinite(steps).all():
        raise EvidenceError(f"{what} must have finite numbers at every step. Some are not.")
    if (np.diff(steps) <= 0).any():
        raise EvidenceError(f"The steps of {what[0].lower()}{what[1:]} must be ascending.")
    return steps, values


def lag_one(values: np.ndarray) -> np.ndarray:
    """Lag-1 autocorrelation along the last axis; 0 of constant values.

    Parameters
    ----------
    values : ndarray of shape (..., n)
        Series.

    Returns
    -------
    ndarray of shape (...)
        ``Σ (x_t - m) (x_{t+1} - m) / Σ (x_t - m)²``.
    """
    centred = values - values.mean(axis=-1, keepdims=True)
    total = np.square(centred).sum(axis=-1)
    product = (centred[..., 1:] * centred[..., :-1]).sum(axis=-1)
    return np.divide(product, total, out=np.zeros_like(total), where=total > 0)


def dependent(residuals: np.ndarray) -> bool:
    """Tell whether residuals follow each other: lag-1 autocorrelation above ``2 / √n``."""
    return bool(lag_one(residuals) > 2 / np.sqrt(len(residuals)))
