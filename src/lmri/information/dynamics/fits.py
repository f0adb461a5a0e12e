"""Fitting curves of few parameters to few checkpoints, and saying what they do not determine.

A law here is ``y = β_0 φ(x; θ) + β_1``: for given θ the rest is a linear problem, so only θ is
searched (variable projection), from many starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import t as student

from lmri.information.dynamics.series import dependent

LEVEL = 0.95

UNCERTAIN = 0.5
"""Half-width of an interval over its parameter above which a fit is ``unidentified``."""

SINGULAR = 1e-7
"""Smallest over largest singular value of the scaled Jacobian below which it has no inverse."""


@dataclass(frozen=True)
class CurveFit:
    """A curve fitted to a series.

    Attributes
    ----------
    law : str
        Its name.
    parameters, low, high : dict of str to float
        Estimates, and the ends of their 95 % intervals by linearisation; infinite where the data
        do not determine a parameter.
    r_squared : float
        Share of the variance that the curve explains.
    error : float
        Deviation of what it leaves, with the parameters counted.
    aicc : float
        Akaike criterion with the correction for few points: smaller is better, compare between
        laws of the same series only.
    samples : int
        Checkpoints.
    flags : tuple of str
        ``unidentified`` (an interval reaches further than half of its parameter to either side, so
        others may stand in for it: read the curve, not its parameters), ``dependent_steps`` (what
        it leaves is autocorrelated: the intervals are too narrow).
    curve : callable
        From positions to values.
    """

    law: str
    parameters: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
    r_squared: float
    error: float
    aicc: float
    samples: int
    flags: tuple[str, ...]
    curve: Callable[[np.ndarray], np.ndarray] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Law:
    """A law ``β_0 φ(x; θ) + β_1``.

    Attributes
    ----------
    name : str
        Its name.
    shape : callable
        φ, from positions and θ.
    parameters : callable
        From θ, β_0, β_1 to the parameters by name.
    curve : callable
        From positions and the parameters by name to values.
    sign : int
        1 or -1 if β_0 must be positive or negative, 0 if either.
    """

    name: str
    shape: Callable[[np.ndarray, np.ndarray], np.ndarray]
    parameters: Callable[[np.ndarray, float, float], dict[str, float]]
    curve: Callable[[np.ndarray, Mapping[str, float]], np.ndarray]
    sign: int = 0


def fit(
    law: Law,
    positions: np.ndarray,
    values: np.ndarray,
    starts: Sequence[Sequence[float]],
    bounds: tuple[Sequence[float], Sequence[float]],
) -> CurveFit | None:
    """Fit a law by least squares.

    Parameters
    ----------
    law : Law
        The law.
    positions, values : ndarray of shape (n,)
        The series.
    starts : sequence of sequence of float
        Values of θ to start from.
    bounds : (sequence of float, sequence of float)
        Least and largest values of θ.

    Returns
    -------
    CurveFit or None
        The best of all starts; None if β_0 has the wrong sign in it: the series does not follow
        the law.
    """

    def left(theta: np.ndarray) -> np.ndarray:
        scale, offset = _linear(law, law.shape(positions, theta), values)
        return scale * law.shape(positions, theta) + offset - values

    ranked = sorted(starts, key=lambda theta: np.square(left(np.array(theta))).sum())
    found = [
        least_squares(left, theta, bounds=bounds, x_scale="jac", ftol=1e-12, xtol=1e-12)
        for theta in ranked[:8]
    ]
    best = min(found, key=lambda result: result.cost)
    scale, offset = _linear(law, law.shape(positions, best.x), values)
    if scale == 0:
        return None
    parameters = law.parameters(best.x, scale, offset)
    return _described(law, {k: float(v) for k, v in parameters.items()}, positions, values)


def _linear(law: Law, shape: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """β_0 and β_1; β_0 is 0 where its sign would be wrong."""
    centred = shape - shape.mean()
    spread = centred @ centred
    scale = float(centred @ values / spread) if spread > 0 else 0.0
    if law.sign * scale < 0:
        scale = 0.0
    return scale, float(values.mean() - scale * shape.mean())


def _described(
    law: Law, parameters: dict[str, float], positions: np.ndarray, values: np.ndarray
) -> CurveFit:
    n, k = len(values), len(parameters)
    residual = values - law.curve(positions, parameters)
    rest, total = residual @ residual, np.square(values - values.mean()).sum()
    freedom = n - k
    error = np.sqrt(rest / freedom)
    widths = student.ppf((1 + LEVEL) / 2, freedom) * _errors(law, parameters, positions, error)
    own = dict(zip(parameters, map(float, widths), strict=True))
    floor = max(rest, np.finfo(float).eps * max(total, np.finfo(float).tiny))
    free = k + 1  # the deviation is estimated too
    flags = (
        (
            "unidentified",
            any(own[name] > UNCERTAIN * abs(value) for name, value in parameters.items()),
        ),
        ("dependent_steps", dependent(residual)),
    )
    return CurveFit(
        law=law.name,
        parameters=parameters,
        low={name: value - own[name] for name, value in parameters.items()},
        high={name: value + own[name] for name, value in parameters.items()},
        r_squared=float(1 - rest / total) if total > 0 else float("nan"),
        error=float(error),
        aicc=float(n * np.log(floor / n) + 2 * free * n / (n - free - 1)),
        samples=n,
        flags=tuple(name for name, raised in flags if raised),
        curve=lambda where: law.curve(np.asarray(where, dtype=np.float64), parameters),
    )


def _errors(
    law: Law, parameters: dict[str, float], positions: np.ndarray, error: float
) -> np.ndarray:
    """Standard errors of the parameters by linearisation; infinite if they are not determined."""
    columns = []
    for name, value in parameters.items():
        step = 1e-5 * max(abs(value), 1e-6)
        ahead, behind = ({**parameters, name: value + own} for own in (step, -step))
        columns.append((law.curve(positions, ahead) - law.curve(positions, behind)) / (2 * step))
    jacobian = np.stack(columns, axis=1)
    scale = np.linalg.norm(jacobian, axis=0)
    if not np.isfinite(jacobian).all() or not (scale > 0).all():
        return np.full(len(parameters), np.inf)
    _, singular, basis = np.linalg.svd(jacobian / scale, full_matrices=False)
    if singular[-1] < SINGULAR * singular[0]:
        return np.full(len(parameters), np.inf)
    return error * np.sqrt(np.square(basis / singular[:, None]).sum(axis=0)) / scale
