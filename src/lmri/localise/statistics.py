"""Statistics of a contrast: one score for every unit under any labelling of the trials.

With ``m_c``, ``v_c`` and ``n_c`` the mean, variance (n - 1) and number of trials of condition ``c``
and ``w_c`` its weight (targets sum to 1, controls to -1):

=========================  =====================================================================
``mean_difference``        ``d = sum_c w_c m_c``, larger in the target
``absolute_difference``    the same, by its absolute value
``welch_t``                ``d / sqrt(sum_c w_c^2 v_c / n_c)``, two-sided; for two conditions the t
                           of Welch
``published_welch_t``      ``welch_t`` of the absolute values, larger in the target: the localizer
                           of AlKhamissi et al. (2411.02280) as published. It misses units that
                           fall in the target from a baseline that is not 0.
``d_prime``                ``d / sqrt((v_target + v_control) / 2)``, two-sided, the variances those
                           of the conditions averaged with ``|w_c|``
``average_precision``      the larger of the average precisions of a unit and of its negative as
                           detectors of the target (2502.17355 knows only the first), with a
                           minus sign for the second; without weights: controls count by their rows
``glm_t``                  t of ``d`` in a linear model with one column a condition and the
                           confounds, two-sided
=========================  =====================================================================

``hedges_g``, the small-sample correction of ``d`` over the pooled deviation, stands beside all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LARGEST = 1e6
"""A statistic is cut here: it is infinite where every condition has a value of its own."""

ROUNDING = 1e-13
"""Share of a sum of squares that rounding may leave of none."""

TINY = 1e-9
"""Share of the numbers it is made of that a difference may have and still be none."""

Evaluate = Callable[["Sides", np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sides:
    """Labellings of the rows with what a contrast does with them.

    Attributes
    ----------
    labels : ndarray of shape (n_labellings, n_rows), int64
        Condition of each row; -1 is none.
    weights : ndarray of shape (n_conditions,), float64
        Weights of the conditions.
    confounds : ndarray of shape (n_rows, n_confounds), float64, or None
        Centred nuisance variables of the rows.
    """

    labels: np.ndarray
    weights: np.ndarray
    confounds: np.ndarray | None = None

    @property
    def used(self) -> np.ndarray:
        """Conditions that have a weight, in order."""
        return np.flatnonzero(self.weights)

    def members(self) -> np.ndarray:
        """Rows of each used condition: 0 or 1, (n_labellings, n_used, n_rows)."""
        return (self.labels[:, None, :] == self.used[:, None]).astype(np.float64)

    def centred(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values less the mean of each unit, missing ones 0, and these means.

        Parameters
        ----------
        values : ndarray of shape (n_rows, n_units)
            Activity; NaN where a row has none.

        Returns
        -------
        centred : ndarray of shape (n_rows, n_units), float64
            What differs from the mean by rounding only is 0.
        centre : ndarray of shape (n_units,), float64
            The means.
        """
        present = np.isfinite(values)
        count = np.maximum(present.sum(axis=0), 1)
        centre = np.where(present, values, 0.0).sum(axis=0, dtype=np.float64) / count
        centred = np.where(present, values - centre, 0.0)
        noise = 8 * np.finfo(np.float64).eps * np.abs(centre)
        return np.where(np.abs(centred) <= noise, 0.0, centred), centre


@dataclass(frozen=True)
class Moments:
    """Mean, variance and number of rows of each used condition under each labelling.

    Attributes
    ----------
    mean, variance : ndarray of shape (n_labellings, n_used, n_units)
        NaN where there are no rows, or one.
    count : ndarray of shape (n_labellings, n_used, n_units or 1)
        Rows with a value.
    weights : ndarray of shape (n_used,)
        Weights of the conditions.
    """

    mean: np.ndarray
    variance: np.ndarray
    count: np.ndarray
    weights: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """Weighted sum of the means, (n_labellings, n_units)."""
        return np.einsum("k,pku->pu", self.weights, self.mean)

    @property
    def scale(self) -> np.ndarray:
        """Magnitude of what the difference is made of, (n_labellings, n_units)."""
        return np.einsum("k,pku->pu", np.abs(self.weights), np.abs(self.mean))


def moments(sides: Sides, values: np.ndarray) -> Moments:
    """Compute the moments of every condition by products with the labels.

    Parameters
    ----------
    sides : Sides
        The labellings.
    values : ndarray of shape (n_rows, n_units)
        Activity; NaN where a row has none.

    Returns
    -------
    Moments
        Of the values less the mean over all rows, so that a large mean costs no digits.
    """
    present = np.isfinite(values)
    centred, _ = sides.centred(values)
    members = sides.members()
    flat = members.reshape(-1, members.shape[-1])
    shape = (*members.shape[:2], values.shape[1])
    if present.all():
        count = members.sum(-1, keepdims=True)
    else:
        count = (flat @ present.astype(np.float64)).reshape(shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (flat @ centred).reshape(shape) / count
        squares = (flat @ np.square(centred)).reshape(shape)
        variance = np.maximum(squares - count * mean**2, 0.0) / (count - 1)
        # What is left of equal values by rounding is no variation.
        floor = ROUNDING * squares / count
    return Moments(
        mean, np.where(variance <= floor, 0.0, variance), count, sides.weights[sides.used]
    )


def mean_difference(sides: Sides, values: np.ndarray) -> np.ndarray:
    """Weighted difference of means, see the module."""
    if not np.isfinite(values).all():
        return moments(sides, values).difference
    members = sides.members()
    with np.errstate(divide="ignore", invalid="ignore"):
        share = sides.weights[sides.used] / members.sum(-1)  # NaN or inf without a row
    coefficients = np.einsum("pk,pkn->pn", np.where(np.isfinite(share), share, np.nan), members)
    return coefficients @ sides.centred(values)[0]


def mean_of(sides: Sides, values: np.ndarray) -> np.ndarray:
    """Weighted mean of the means of the conditions that have a weight, under one labelling.

    Parameters
    ----------
    sides : Sides
        One labelling; the weights sum to 1, or to 0 for an interaction.
    values : ndarray of shape (n_rows, n_units)
        Activity.

    Returns
    -------
    ndarray of shape (n_units,), float64
        NaN where a condition has no value.
    """
    own = moments(sides, values)
    return own.difference[0] + own.weights.sum() * sides.centred(values)[1]


def welch_t(sides: Sides, values: np.ndarray) -> np.ndarray:
    """Difference of means in standard errors of unequal variances, see the module."""
    own = moments(sides, values)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.einsum("k,pku->pu", own.weights**2, own.variance / own.count)
        return _ratio(own.difference, np.sqrt(error), own.scale)


def published_welch_t(sides: Sides, values: np.ndarray) -> np.ndarray:
    """Welch's t of absolute values, see the module."""
    return welch_t(sides, np.abs(values))


def d_prime(sides: Sides, values: np.ndarray) -> np.ndarray:
    """Difference of means in deviations of the conditions, see the module."""
    own = moments(sides, values)
    variance = np.einsum("k,pku->pu", np.abs(own.weights), own.variance) / 2
    return _ratio(own.difference, np.sqrt(variance), own.scale)


def hedges_g(sides: Sides, values: np.ndarray) -> np.ndarray:
    """Difference of means in pooled deviations, corrected for small samples.

    Parameters
    ----------
    sides : Sides
        The labellings.
    values : ndarray of shape (n_rows, n_units)
        Activity.

    Returns
    -------
    ndarray of shape (n_labellings, n_units), float64
        ``d / s * (1 - 3 / (4 df - 1))`` (Hedges 1981), NaN without variation within conditions:
        the difference then has no size in deviations.
    """
    own = moments(sides, values)
    degrees = (own.count - 1).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (own.variance * (own.count - 1)).sum(axis=1) / degrees
        d = _ratio(own.difference, np.sqrt(pooled), own.scale)
        return np.where(is_cut(d), np.nan, d * (1 - 3 / (4 * degrees - 1)))


def average_precision(sides: Sides, values: np.ndarray) -> np.ndarray:
    """Larger of the two directions, negative for that of smaller values in the target."""
    up, down = average_precisions(sides, values)
    return np.where(up >= down, up, -down)


def average_precisions(sides: Sides, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the precision-recall curve of each unit as a detector of the target.

    Tied values are one step of the curve, as in scikit-learn.

    Parameters
    ----------
    sides : Sides
        The labellings; conditions of negative weight are the negatives.
    values : ndarray of shape (n_rows, n_units)
        Activity; a row without one is left out.

    Returns
    -------
    positive, negative : ndarray of shape (n_labellings, n_units), float64
        For larger and for smaller values in the target; NaN without a row of both sides.
    """
    side = np.concatenate([np.sign(sides.weights), [0.0]])  # the last is for rows without one
    sign = side[sides.labels]  # (n_labellings, n_rows)
    shape = (len(sign), values.shape[1])
    results = np.empty(shape), np.empty(shape)
    for unit in range(values.shape[1]):
        for result, own in zip(results, (values[:, unit], -values[:, unit]), strict=True):
            result[:, unit] = _average_precision(sign, own)
    return results


def _average_precision(sign: np.ndarray, values: np.ndarray) -> np.ndarray:
    order = np.argsort(-values, kind="stable")
    order = order[np.isfinite(values[order])]
    ordered = values[order]
    # Last position of the run of equal values that a position is in.
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    end = last[np.searchsorted(last, np.arange(len(ordered)))]
    target, used = sign[:, order] > 0, sign[:, order] != 0
    hits = np.cumsum(target, axis=1)[:, end]
    seen = np.cumsum(used, axis=1)[:, end]
    positives = target.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = (target * np.nan_to_num(hits / seen)).sum(axis=1) / positives
    return np.where((positives == 0) | (used.sum(axis=1) == positives), np.nan, precision)


def glm_t(sides: Sides, values: np.ndarray) -> np.ndarray:
    """Compute the t of the contrast in a linear model with confounds, for every labelling.

    The model has one column a condition, so that its intercept is in their span, and the
    confounds. Labels are exchanged and confounds stay with their rows (Draper and Stoneman 1966).

    Parameters
    ----------
    sides : Sides
        The labellings with their confounds. Rows in no condition do not count.
    values : ndarray of shape (n_rows, n_units)
        Activity; a unit with a missing row has no score.

    Returns
    -------
    ndarray of shape (n_labellings, n_units), float64
        t; NaN without residual variation.
    """
    missing = ~np.isfinite(values).all(axis=0)
    centred, _ = sides.centred(values)
    squares = np.square(centred)
    confounds = np.zeros((len(values), 0)) if sides.confounds is None else sides.confounds
    weights = np.concatenate([sides.weights[sides.used], np.zeros(confounds.shape[1])])
    scores = np.empty((len(sides.labels), values.shape[1]))
    for row, member in enumerate(sides.members()):
        inside = member.any(axis=0)
        design = np.concatenate([member.T, confounds * inside[:, None]], axis=1)
        total = inside.astype(np.float64) @ squares
        scores[row] = _least_squares_t(design, centred, total, int(inside.sum()), weights)
    scores[:, missing] = np.nan
    return scores


def _least_squares_t(
    design: np.ndarray, values: np.ndarray, total: np.ndarray, rows: int, weights: np.ndarray
) -> np.ndarray:
    """Compute t of ``weights @ beta`` by ordinary least squares; unused rows are all 0."""
    basis, upper = np.linalg.qr(design)
    diagonal = np.abs(np.diag(upper))
    if diagonal.min() < 1e-10 * diagonal.max():
        return np.full(values.shape[1], np.nan)
    projected = basis.T @ values
    direction = np.linalg.solve(upper.T, weights)
    residual = total - np.square(projected).sum(axis=0)
    residual = np.where(residual <= ROUNDING * total, 0.0, residual)
    variance = residual / (rows - design.shape[1])
    scale = np.abs(direction) @ np.abs(projected)
    return _ratio(direction @ projected, np.sqrt(variance) * np.linalg.norm(direction), scale)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Quotient, at most :data:`LARGEST`; NaN where both are 0: nothing differs from anything.

    A numerator is 0 up to rounding of the numbers of this ``scale`` that it is the difference of.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.clip(numerator / denominator, -LARGEST, LARGEST)
    return np.where((denominator == 0) & (np.abs(numerator) <= TINY * scale), np.nan, ratio)


def is_cut(scores: np.ndarray) -> np.ndarray:
    """Tell which statistics are cut: of their size nothing is known but that it is large.

    Parameters
    ----------
    scores : ndarray
        Statistics.

    Returns
    -------
    ndarray of the same shape, bool
        False for NaN.
    """
    return np.abs(scores) == LARGEST


@dataclass(frozen=True)
class Statistic:
    """A statistic and how its scores are read.

    Attributes
    ----------
    name : str
        Its name in the configuration.
    evaluate : callable
        Scores (n_labellings, n_units) of values (n_rows, n_units).
    two_sided : bool
        Whether a unit that falls in the target counts like one that rises.
    symbol : str
        What the report calls a score.
    takes_confounds : bool
        Whether nuisance variables are in its model.
    """

    name: str
    evaluate: Evaluate
    two_sided: bool
    symbol: str
    takes_confounds: bool = False


STATISTICS: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        Statistic("mean_difference", mean_difference, False, "difference"),
        Statistic("absolute_difference", mean_difference, True, "difference"),
        Statistic("welch_t", welch_t, True, "t"),
        Statistic("published_welch_t", published_welch_t, False, "t of |x|"),
        Statistic("d_prime", d_prime, True, "d'"),
        Statistic("average_precision", average_precision, True, "AP"),
        Statistic("glm_t", glm_t, True, "t", takes_confounds=True),
    )
}
"""Statistics of values by trial."""
