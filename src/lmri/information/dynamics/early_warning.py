"""Early warnings: whether fluctuations grow and slow down ahead of a transition.

Before a system loses a stable state its fluctuations return more slowly, so their variance and
lag-1 autocorrelation rise (Scheffer et al. 2009; Dakos et al. 2012). The trend of a slow drift is
removed first, both are computed in a window that moves along, and Kendall's tau says how steadily
they rise. Windows overlap, so tau is judged by surrogates: series with the same spectrum, hence
the same variance and autocorrelation overall, and random phases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.information.dynamics.series import checked, lag_one

INDICATORS = ("variance", "autocorrelation")

LEAST = 12
"""Checkpoints that are needed."""

FEW = 40
"""Checkpoints below which a result is flagged ``few_checkpoints``."""

UNEVEN = 1.01
"""Largest over smallest distance of two checkpoints above which they are ``uneven``."""

DRAWS_AT_ONCE = 64


def early_warning(
    steps: Sequence[float],
    values: Sequence[float],
    *,
    until: float | None = None,
    window: float = 0.5,
    bandwidth: float = 0.1,
    draws: int = 999,
    seed: int = 0,
) -> xr.Dataset:
    """Compute early-warning statistics of a series.

    Parameters
    ----------
    steps : sequence of float
        Steps of the checkpoints, ascending, at equal distances.
    values : sequence of float
        The number at each.
    until : float, optional
        Last step that counts: the checkpoint before the transition. A jump inside the series makes
        the variance rise by itself.
    window : float
        Length of the moving window, as a share of the checkpoints.
    bandwidth : float
        Deviation of the Gaussian that the trend is smoothed with, as a share of the checkpoints.
    draws : int
        Surrogates.
    seed : int
        Of the surrogates.

    Returns
    -------
    Dataset
        ``residual`` (step); ``variance`` and ``autocorrelation`` (step) of the window that ends
        there, NaN before the first. Over indicator: ``tau``; ``p``, one-sided for a rise,
        ``(1 + as large) / (1 + draws)``; ``null_mean``, ``null_high`` (95 % quantile) of the
        surrogates; ``flags``: ``failed_null`` (p above .05), ``few_checkpoints``, ``uneven_steps``
        (a lag is then no fixed time), joined by commas. Attributes ``window`` (checkpoints),
        ``bandwidth`` (checkpoints), ``draws``.

    Raises
    ------
    EvidenceError
        If there are fewer than 12 checkpoints, a number is not finite, all are the same, or an
        option is out of range.
    """
    check_range(window, "window", "the early warning", 0.2, 0.8, EvidenceError)
    check_range(bandwidth, "bandwidth", "the early warning", 0.01, 1.0, EvidenceError)
    steps, values = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if until is not None and steps.shape == values.shape:
        steps, values = steps[steps <= until], values[steps <= until]
    steps, values = checked(steps, values, LEAST, "An early warning")
    n = len(values)
    size, smooth = max(4, round(window * n)), bandwidth * n
    residual = values - gaussian_filter1d(values, smooth, mode="nearest")
    if not np.ptp(residual) > 0:
        raise EvidenceError("An early warning must be of numbers that vary. All are the same.")
    moving = _moving(residual, size)
    tau = [float(_kendall(moving[name])) for name in INDICATORS]
    null = _null(residual, size, draws, seed)
    p = [(1 + (own >= t).sum()) / (1 + draws) for own, t in zip(null, tau, strict=True)]
    gaps = np.diff(steps)
    general = [
        name
        for name, raised in (
            ("few_checkpoints", n < FEW),
            ("uneven_steps", gaps.max() > UNEVEN * gaps.min()),
        )
        if raised
    ]
    flags = [",".join((["failed_null"] if value > 0.05 else []) + general) for value in p]
    ends = {name: np.r_[np.full(size - 1, np.nan), moving[name]] for name in INDICATORS}
    return xr.Dataset(
        {
            "residual": ("step", residual),
            **{name: ("step", own) for name, own in ends.items()},
            "tau": ("indicator", tau),
            "p": ("indicator", p),
            "null_mean": ("indicator", null.mean(axis=1)),
            "null_high": ("indicator", np.quantile(null, 0.95, axis=1)),
            "flags": ("indicator", flags),
        },
        coords={"step": steps, "indicator": list(INDICATORS)},
        attrs={"window": size, "bandwidth": smooth, "draws": draws},
    )


def phase_surrogates(values: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Series with the spectrum of another and random phases (Theiler et al. 1992).

    Parameters
    ----------
    values : ndarray of shape (n,)
        The series.
    draws : int
        How many.
    generator : numpy.random.Generator
        Of the phases.

    Returns
    -------
    ndarray of shape (draws, n), float64
        Mean, variance and circular autocorrelation are those of the series.
    """
    spectrum = np.fft.rfft(values)
    phases = np.exp(2j * np.pi * generator.random((draws, len(spectrum))))
    phases[:, 0] = 1.0
    if len(values) % 2 == 0:
        phases[:, -1] = np.sign(phases[:, -1].real)  # of the highest frequency only a sign is free
    return np.fft.irfft(spectrum * phases, n=len(values))


def _moving(residuals: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Indicators of every window along the last axis: (..., windows)."""
    windows = np.lib.stride_tricks.sliding_window_view(residuals, size, axis=-1)
    return {"variance": windows.var(axis=-1, ddof=1), "autocorrelation": lag_one(windows)}


def _null(residual: np.ndarray, size: int, draws: int, seed: int) -> np.ndarray:
    """Kendall's tau of surrogates: (indicators, draws)."""
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, draws, DRAWS_AT_ONCE):
        own = phase_surrogates(residual, min(DRAWS_AT_ONCE, draws - start), generator)
        moving = _moving(own, size)
        parts.append(np.stack([_kendall(moving[name]) for name in INDICATORS]))
    return np.concatenate(parts, axis=1)


def _kendall(values: np.ndarray) -> np.ndarray:
    """Kendall's tau with time along the last axis; the same as scipy's where no two are equal."""
    n = values.shape[-1]
    later, earlier = np.tril_indices(n, -1)
    rises = np.sign(values[..., later] - values[..., earlier])
    return rises.sum(axis=-1) / (n * (n - 1) / 2)
