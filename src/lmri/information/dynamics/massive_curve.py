"""Massive activations over training: a curve of five parameters.

The largest activation of a layer over its median magnitude follows
``f(t) = A exp(-λ x) ln x + K`` with ``x = γ t + t_0`` (Gallego-Feliciano et al. 2025,
arXiv:2508.03616, eq. 9): logarithmic growth where λ is 0, an early peak and a decay to K where it
is not. Without decay K and γ stand in for each other, and where the largest x is far below 1/λ all
five parameters are seldom determined: the flag ``unidentified`` says so. The curve, its peak and
its end are then what can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from scipy.special import lambertw

from lmri.errors import EvidenceError
from lmri.information.dynamics.fits import CurveFit, Law, fit
from lmri.information.dynamics.series import checked

LEAST = 10
"""Checkpoints that are needed: twice the parameters."""

NAMES = ("A", "decay", "rate", "offset", "K")


def fit_massive_curve(steps: Sequence[float], ratios: Sequence[float]) -> CurveFit:
    """Fit the five-parameter curve to one layer.

    Parameters
    ----------
    steps : sequence of float
        Steps of the checkpoints, ascending.
    ratios : sequence of float
        Largest over median magnitude at each, the ``ratio`` of
        :func:`lmri.information.token_profiles.massive_profile`.

    Returns
    -------
    CurveFit
        Parameters ``A``, ``decay`` (λ), ``rate`` (γ, per step), ``offset`` (t_0) and ``K``.

    Raises
    ------
    EvidenceError
        If there are fewer than 10 checkpoints, a number is not finite, or all are the same.
    """
    steps, ratios = checked(steps, ratios, LEAST, "A curve of massive activations")
    if not np.ptp(ratios) > 0:
        raise EvidenceError(
            "A curve of massive activations must be of numbers that vary. All are the same."
        )
    # Searched in logarithms: x at the last step, t_0, and the decay over the whole of training.
    span = max(abs(steps[-1]), np.finfo(float).tiny)
    scaled = steps / span

    def unpack(theta: np.ndarray) -> tuple[float, float, float]:
        rate, offset = np.exp(theta[0]), np.exp(theta[1])
        return rate, offset, np.exp(theta[2]) / (rate + offset)

    def shape(positions: np.ndarray, theta: np.ndarray) -> np.ndarray:
        rate, offset, decay = unpack(theta)
        x = rate * positions + offset
        return np.exp(-decay * x) * np.log(x)

    def parameters(theta: np.ndarray, scale: float, level: float) -> dict[str, float]:
        rate, offset, decay = unpack(theta)
        return dict(zip(NAMES, (scale, decay, rate / span, offset, level), strict=True))

    law = Law("massive", shape, parameters, _curve)
    starts = list(product(np.log([1, 10, 100, 1e3, 1e4]), np.log([0.3, 1, 3]), [-7, -1, 0, 1, 2.5]))
    bounds = ([np.log(1e-2), np.log(1e-3), -14.0], [np.log(1e8), np.log(1e4), 5.0])
    found = fit(_on(law, span), scaled * span, ratios, starts, bounds)
    if found is None:
        raise EvidenceError(
            "A curve of massive activations could not be fitted: the best curve is flat."
        )
    return found


def peak_step(found: CurveFit) -> float:
    """Step at which the curve peaks: ``x ln x = 1 / λ``, so ``x = exp W(1 / λ)``.

    Parameters
    ----------
    found : CurveFit
        From :func:`fit_massive_curve`.

    Returns
    -------
    float
        It may lie after the last checkpoint: then the series only rose. Infinite without decay.
    """
    decay, rate, offset = (found.parameters[name] for name in ("decay", "rate", "offset"))
    if not decay > 0:
        return float("inf")
    return float((np.exp(lambertw(1 / decay).real) - offset) / rate)


def _on(law: Law, span: float) -> Law:
    """Let the shape of a law be searched along steps in units of the last."""
    return Law(law.name, lambda x, theta: law.shape(x / span, theta), law.parameters, law.curve)


def _curve(steps: np.ndarray, parameters: Mapping[str, float]) -> np.ndarray:
    amplitude, decay, rate, offset, level = (parameters[name] for name in NAMES)
    x = rate * steps + offset
    return amplitude * np.exp(-decay * x) * np.log(x) + level
