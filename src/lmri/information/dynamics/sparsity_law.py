"""Sparsity over training: two power laws of the share of active neurons.

Over D tokens of training the activation ratio (one minus the sparsity) falls in networks of ReLU,
``A(D) = exp(-c D^α + b) + A_0``, and rises in those of SiLU, ``A(D) = A_0 - c / D^α`` (Luo et al.
2025, Sparsing Law, arXiv:2411.02335). A_0 is the limit of endless training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from lmri.checks import check_choice
from lmri.errors import EvidenceError
from lmri.information.dynamics.fits import CurveFit, Law, fit
from lmri.information.dynamics.series import checked

LEAST = 8
"""Checkpoints that are needed: twice the parameters of either law."""

LIMITS = (1e-3, 20.0)
"""Between these the exponent α is searched."""


def _relu(tokens: np.ndarray, own: Mapping[str, float]) -> np.ndarray:
    return np.exp(-own["c"] * tokens ** own["alpha"] + own["b"]) + own["limit"]


def _silu(tokens: np.ndarray, own: Mapping[str, float]) -> np.ndarray:
    return own["limit"] - own["c"] * tokens ** -own["alpha"]


def _logarithm(tokens: np.ndarray, own: Mapping[str, float]) -> np.ndarray:
    return own["slope"] * np.log(tokens) + own["level"]


def fit_sparsity_law(
    tokens: Sequence[float], ratios: Sequence[float], law: str = "relu"
) -> CurveFit:
    """Fit one of the laws.

    Parameters
    ----------
    tokens : sequence of float
        D, tokens of training at each checkpoint, above 0 and ascending. Parameters are in its
        unit: the published ones are of billions.
    ratios : sequence of float
        Share of active neurons at each, from 0 to 1: one minus the sparsity.
    law : str
        ``relu`` (falls) or ``silu`` (rises).

    Returns
    -------
    CurveFit
        Parameters ``alpha``, ``c``, ``limit`` (A_0) and, of ``relu``, ``b``.

    Raises
    ------
    EvidenceError
        If there are fewer than 8 checkpoints, a number of tokens is not above 0 or a ratio not in
        [0, 1], or the series goes the other way.
    """
    check_choice(law, LAWS, "law", "the sparsity over training", EvidenceError)
    tokens, ratios = _checked(tokens, ratios)
    found = LAWS[law](tokens, ratios)
    if found is None:
        way, other = ("fall", "silu") if law == "relu" else ("rise", "relu")
        raise EvidenceError(
            f"An activation ratio that follows the law '{law}' must {way} with training. It goes "
            f"from {ratios[0]:.4g} to {ratios[-1]:.4g}: try '{other}'."
        )
    return found


def compare_sparsity_laws(tokens: Sequence[float], ratios: Sequence[float]) -> pd.DataFrame:
    """Fit both laws, and a logarithm with two parameters, to one series.

    Parameters
    ----------
    tokens, ratios : sequence of float
        As of :func:`fit_sparsity_law`.

    Returns
    -------
    DataFrame
        By law, the best first: ``aicc``, its distance ``behind`` the best, ``r_squared``,
        ``limit`` with ``limit_low`` and ``limit_high`` (NaN of the logarithm, which has none),
        ``flags``. A law that the series runs against is not in it. A power law that is less than
        2 ahead of the logarithm is not shown.

    Raises
    ------
    EvidenceError
        As :func:`fit_sparsity_law`, except for the direction.
    """
    tokens, ratios = _checked(tokens, ratios)
    found = [fitted(tokens, ratios) for fitted in (*LAWS.values(), _fit_logarithm)]
    rows = [
        {
            "law": own.law,
            "aicc": own.aicc,
            "r_squared": own.r_squared,
            "limit": own.parameters.get("limit", np.nan),
            "limit_low": own.low.get("limit", np.nan),
            "limit_high": own.high.get("limit", np.nan),
            "flags": ",".join(own.flags),
        }
        for own in found
        if own is not None
    ]
    table = pd.DataFrame(rows).sort_values("aicc", kind="stable", ignore_index=True)
    table.insert(2, "behind", table["aicc"] - table["aicc"].min())
    return table.set_index("law")


def _fit_relu(tokens: np.ndarray, ratios: np.ndarray) -> CurveFit | None:
    longest = tokens[-1]

    def unpack(theta: np.ndarray) -> tuple[float, float]:
        alpha = np.exp(theta[0])
        return alpha, np.exp(theta[1] - alpha * np.log(longest))  # θ_1 is ln c D^α at the end

    def shape(where: np.ndarray, theta: np.ndarray) -> np.ndarray:
        # Relative to its value at the end, which a large c would let vanish.
        alpha, at_end = np.exp(theta[0]), np.exp(theta[1])
        return np.exp(at_end * (1 - (where / longest) ** alpha))

    def parameters(theta: np.ndarray, scale: float, offset: float) -> dict[str, float]:
        alpha, c = unpack(theta)
        b = np.log(scale) + np.exp(theta[1])
        return {"alpha": alpha, "b": b, "c": c, "limit": offset}

    starts = list(product(np.log([0.05, 0.1, 0.3, 0.6, 1, 2]), np.log([0.3, 1, 3, 10, 30])))
    bounds = ([np.log(LIMITS[0]), np.log(1e-3)], [np.log(LIMITS[1]), np.log(300)])
    return fit(Law("relu", shape, parameters, _relu, 1), tokens, ratios, starts, bounds)


def _fit_silu(tokens: np.ndarray, ratios: np.ndarray) -> CurveFit | None:
    first = tokens[0]

    def shape(where: np.ndarray, theta: np.ndarray) -> np.ndarray:
        return (where / first) ** -np.exp(theta[0])

    def parameters(theta: np.ndarray, scale: float, offset: float) -> dict[str, float]:
        alpha = float(np.exp(theta[0]))
        return {"alpha": alpha, "c": -scale * first**alpha, "limit": offset}

    starts = [[value] for value in np.log([0.01, 0.05, 0.1, 0.3, 0.6, 1, 2, 4])]
    bounds = ([np.log(LIMITS[0])], [np.log(LIMITS[1])])
    return fit(Law("silu", shape, parameters, _silu, -1), tokens, ratios, starts, bounds)


def _fit_logarithm(tokens: np.ndarray, ratios: np.ndarray) -> CurveFit | None:
    def shape(where: np.ndarray, _theta: np.ndarray) -> np.ndarray:
        return np.log(where)

    def parameters(_theta: np.ndarray, scale: float, offset: float) -> dict[str, float]:
        return {"slope": scale, "level": offset}

    law = Law("logarithm", shape, parameters, _logarithm)
    return fit(law, tokens, ratios, [[0.0]], ([-1.0], [1.0]))  # θ has no effect


LAWS = {"relu": _fit_relu, "silu": _fit_silu}


def _checked(tokens: Sequence[float], ratios: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    tokens, ratios = checked(tokens, ratios, LEAST, "A law of sparsity over training")
    if not tokens[0] > 0 or ratios.min() < 0 or ratios.max() > 1 or not np.ptp(ratios) > 0:
        raise EvidenceError(
            "A law of sparsity over training must be of token numbers above 0, without the "
            "untrained subject, and of ratios in [0, 1] that vary. Got tokens from "
            f"{tokens[0]:g} and ratios from {ratios.min():.4g} to {ratios.max():.4g}."
        )
    return tokens, ratios
