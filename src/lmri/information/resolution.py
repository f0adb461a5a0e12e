"""Resolution curves: how much of its input a layer keeps at each resolution.

A deterministic layer keeps everything: ``I(X; T) = ln n`` of n different prompts, in every layer.
What differs is at which resolution: with noise of deviation ``ε · RMS`` added for the analysis,
``I(X; T + noise)`` falls from ln n to 0 as ε rises. Compare layers by the ε at which the curve
leaves its ceiling, not by the information at one ε, and name the noise with every number: it is not
in the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from lmri.errors import EvidenceError
from lmri.information.spectral import Moments

NOISES = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Deviations of the noise in units of the layer's root mean square."""

SATURATED = 0.95
"""Share of ``ln n`` above which an estimate only counts the prompts: flag ``saturation``."""

Estimator = Callable[[np.ndarray, float], float | Mapping[str, float]]
"""From rows and the deviation of the noise, to nats: one number, or several by name."""


def resolution_curve(
    rows: np.ndarray,
    estimator: Estimator,
    *,
    noises: Sequence[float] = NOISES,
    scale: float | None = None,
) -> xr.Dataset:
    """Estimate ``I(X; T + noise)`` over a range of resolutions.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        States of n inputs.
    estimator : callable
        Takes the rows and the deviation of the noise, gives nats: a number (named
        ``information``), or several by name such as an upper and a lower bound.
    noises : sequence of float
        Deviations in units of ``scale``, above 0.
    scale : float, optional
        By default the root mean square of all entries, what the next normalisation divides by.

    Returns
    -------
    Dataset
        Each estimate over ``noise`` (largest first) and its ``<name>_flags``: ``saturation`` above
        95 % of ``ln n_distinct``, ``negativity`` below 0. ``gaussian``, ``½ ln det(I + S / σ²)``:
        of Gaussian states with the same covariance, which bounds that of any from above and has no
        ceiling. ``saturation`` of each estimate over ``estimate``: the largest noise at which it
        is saturated, NaN if it never is. Attributes ``samples``, ``distinct``, ``dimensions``,
        ``scale``.

    Raises
    ------
    EvidenceError
        If there are fewer than two different rows, one is not finite, or a noise or the scale is
        not above 0.
    """
    rows = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    noises = sorted({float(noise) for noise in noises}, reverse=True)
    moments = Moments(rows.shape[1])
    moments.add(rows)
    scale = np.sqrt(moments.mean_square) if scale is None else float(scale)
    if not noises or not noises[-1] > 0 or not scale > 0:
        raise EvidenceError(
            "A resolution curve must have noises and a scale above 0. Got the noises "
            f"{', '.join(map(str, noises)) or 'none'} and the scale {scale:g}."
        )
    spectrum = moments.spectrum()  # raises where all rows are the same
    distinct = len(np.unique(rows, axis=0))
    found: dict[str, list[float]] = {}
    for noise in noises:
        values = estimator(rows, noise * scale)
        named = values if isinstance(values, Mapping) else {"information": values}
        for name, value in named.items():
            found.setdefault(name, []).append(float(value))
    gaussian = [gaussian_channel(spectrum.eigenvalues, noise * scale) for noise in noises]
    flags = {name: _flags(values, np.log(distinct)) for name, values in found.items()}
    return xr.Dataset(
        {
            **{name: ("noise", values) for name, values in found.items()},
            **{f"{name}_flags": ("noise", own) for name, own in flags.items()},
            "gaussian": ("noise", gaussian),
            "saturation": ("estimate", [_saturation(noises, own) for own in flags.values()]),
        },
        coords={"noise": noises, "estimate": list(found)},
        attrs={
            "samples": len(rows),
            "distinct": distinct,
            "dimensions": rows.shape[1],
            "scale": float(scale),
            "units": "nat",
        },
    )


def gaussian_channel(eigenvalues: np.ndarray, deviation: float) -> float:
    """Information of a Gaussian signal through Gaussian noise: ``½ Σ ln(1 + λ_i / σ²)``.

    Parameters
    ----------
    eigenvalues : ndarray
        Of the covariance of the signal.
    deviation : float
        σ of the noise in each dimension, above 0.

    Returns
    -------
    float
        In nats.
    """
    return float(0.5 * np.log1p(eigenvalues / deviation**2).sum())


def _flags(values: Sequence[float], ceiling: float) -> list[str]:
    return [
        "saturation" if value > SATURATED * ceiling else "negativity" if value < 0 else ""
        for value in values
    ]


def _saturation(noises: Sequence[float], flags: Sequence[str]) -> float:
    pairs = zip(noises, flags, strict=True)
    return max((noise for noise, flag in pairs if flag == "saturation"), default=float("nan"))
