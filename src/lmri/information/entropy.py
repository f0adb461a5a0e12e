"""Differential entropy from nearest neighbours: Kozachenko-Leonenko, plain and weighted.

Information of labels is a difference of such entropies within and over classes. The sum
``h(X) + h(Y) - h(X, Y)`` is not offered: the biases of its terms do not cancel (-2.9 nats in 20
dimensions where the truth is .83), which is what :func:`lmri.information.neighbours.ksg` is for.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln

from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.information.estimate import Estimate
from lmri.information.samples import as_continuous, as_labels, count_distinct, label_entropy

RCOND = 1e-6
"""Singular values below this share of the largest count as 0 in the weights."""


def kozachenko_leonenko(x: np.ndarray, *, k: int = 5, weighted: bool = False) -> Estimate:
    """Differential entropy ``sum_j w_j (psi(n) - psi(j) + ln V_d + d/n sum_i ln r_j(i))``.

    r_j(i) is the Euclidean distance to the j-th neighbour and V_d the volume of the unit ball.
    Plain: w_k = 1. Weighted: see :func:`neighbour_weights`.

    Parameters
    ----------
    x : ndarray of shape (n,) or (n, d)
        Samples.
    k : int
        Neighbours.
    weighted : bool
        Combine neighbours so that the bias of smooth densities cancels, which needs d > 3.

    Returns
    -------
    Estimate
        In nats; of any sign, and not information: it depends on the unit of x.

    Raises
    ------
    EvidenceError
        If the samples are not continuous, fewer than k + 1, or repeat.

    Notes
    -----
    Kozachenko and Leonenko 1987; Berrett, Samworth and Yuan 2019, Annals of Statistics 47:288.
    """
    check_range(k, "k", "kozachenko_leonenko", 1, error=EvidenceError)
    x = as_continuous(x, "kozachenko_leonenko", least=k + 1)
    return Estimate(
        value=_entropy(x, k, weighted),
        quantity="h(T)",
        estimator="kozachenko_leonenko" + "_weighted" * weighted,
        family="neighbours",
        channel={"neighbours": k, "norm": "euclidean"},
        n=len(x),
        n_distinct=count_distinct(x),
        d=(x.shape[1],),
    )


def label_information(
    x: np.ndarray, labels: np.ndarray, *, k: int = 5, weighted: bool = False
) -> Estimate:
    """Information of activity about labels, ``h(T) - sum_y p_y h(T | y)``.

    Parameters
    ----------
    x : ndarray of shape (n,) or (n, d)
        Activity, with noise and in few dimensions (:mod:`lmri.information.compression`).
    labels : ndarray of shape (n,)
        Classes.
    k : int
        Neighbours.
    weighted : bool
        As for :func:`kozachenko_leonenko`.

    Returns
    -------
    Estimate
        In nats.

    Raises
    ------
    EvidenceError
        If the samples are not continuous, or a class has fewer than k + 1.

    Notes
    -----
    Butakov et al. 2024 (arXiv:2305.08013) use it with k = 5 in 4 dimensions.
    """
    check_range(k, "k", "label_information", 1, error=EvidenceError)
    x = as_continuous(x, "T of label_information", least=k + 1)
    codes = as_labels(labels, "label_information", len(x), least=k + 1)
    within = sum(
        np.mean(codes == code) * _entropy(x[codes == code], k, weighted)
        for code in range(codes.max() + 1)
    )
    return Estimate(
        value=_entropy(x, k, weighted) - float(within),
        quantity="I(T;Y)",
        estimator="kozachenko_leonenko" + "_weighted" * weighted,
        family="neighbours",
        channel={"neighbours": k, "norm": "euclidean"},
        n=len(x),
        n_distinct=count_distinct(x),
        d=(x.shape[1], 0),
        ceiling=label_entropy(codes),
    )


def neighbour_weights(k: int, d: int) -> np.ndarray:
    """Weights of neighbours under which the leading terms of the bias cancel.

    The smallest w with ``sum_j w_j = 1`` and
    ``sum_j w_j Gamma(j + 2l/d) / Gamma(j) = 0`` for l = 1 … floor(d/4), that is not 0 only at
    j = floor(i k/d), i = 1 … d.

    Parameters
    ----------
    k : int
        Largest neighbour.
    d : int
        Dimensions.

    Returns
    -------
    ndarray of shape (k,), float64
        Weights of the first to the k-th neighbour; only the k-th where d < 4.

    Raises
    ------
    EvidenceError
        If k has too few neighbours for the conditions.
    """
    if d < 4:
        return np.eye(k)[-1]
    used = np.unique([i * k // d for i in range(1, d + 1)])
    used = used[used > 0]
    powers = np.arange(d // 4 + 1)[:, None]  # l = 0 is the sum
    if len(used) < len(powers):
        raise EvidenceError(
            f"The weighted entropy in {d} dimensions must have at least {len(powers)} neighbours. "
            f"Got k = {k}, which gives {len(used)}."
        )
    conditions = np.exp(gammaln(used + 2 * powers / d) - gammaln(used))
    wanted = (powers[:, 0] == 0).astype(np.float64)
    weights = np.zeros(k)
    weights[used - 1] = np.linalg.lstsq(conditions, wanted, rcond=RCOND)[0]
    return weights


def _entropy(x: np.ndarray, k: int, weighted: bool) -> float:
    n, d = x.shape
    weights = neighbour_weights(k, d) if weighted else np.eye(k)[-1]
    used = np.flatnonzero(weights) + 1
    distances = cKDTree(x).query(x, k=used + 1)[0]  # the first is the sample itself
    if (distances[:, 0] == 0).any():
        raise EvidenceError(
            "Samples must differ from their neighbours for an entropy. "
            f"{int((distances[:, 0] == 0).sum())} repeat another: leave them out or add noise."
        )
    ball = 0.5 * d * math.log(math.pi) - gammaln(0.5 * d + 1)
    each = digamma(n) - digamma(used) + ball + d * np.log(distances).mean(axis=0)
    return float(weights[used - 1] @ each)
