"""Mutual information of Gaussian variables, and of variables with a Gaussian copula.

Exact for Gaussians in any dimension, fast, and the bias of a finite sample is known. Both see only
linear relations (the copula: of ranks). They are **blind** to what is not: y = |x| has 1.7 nats and
they give 0, as for heavy tails (.22 nats of a Student distribution: 0). A large difference from
:func:`lmri.information.neighbours.ksg` in up to three dimensions is the sign of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.special import digamma, ndtri

from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.information.estimate import Estimate
from lmri.information.nulls import DRAWS, block_orders, null_of
from lmri.information.samples import as_pair, count_distinct

DEPENDENT = 1e-7
"""Share of a dimension's spread that the others leave open, below which they leave none."""

BATCH_VALUES = 2**17
"""Values in other orders that are held at once: 1 MB."""

DETERMINED = 1e-12
"""Canonical correlations nearer to 1 than this are 1."""


def gaussian(x: np.ndarray, y: np.ndarray, *, corrected: bool = True) -> Estimate:
    """Mutual information ``1/2 ln(|S_x| |S_y| / |S|)`` of two Gaussian variables.

    Parameters
    ----------
    x, y : ndarray of shape (n,) or (n, d)
        Samples.
    corrected : bool
        Take out the expected bias of a finite sample, about d_x d_y / 2n.

    Returns
    -------
    Estimate
        In nats.

    Raises
    ------
    EvidenceError
        If the samples are not continuous, or there are not more of them than dimensions.
    """
    x, y = as_pair(x, y, "gaussian", least=3)
    return _estimate(Whitened(x, y), x, y, "gaussian", corrected)


def gaussian_copula(x: np.ndarray, y: np.ndarray, *, corrected: bool = True) -> Estimate:
    """Mutual information of two variables by the ranks of each of their dimensions.

    Each dimension is replaced by ``Phi^-1(rank / (n + 1))``; then :func:`gaussian`. A lower bound
    on the information where each variable has one dimension, and unchanged by any monotone map of a
    dimension. Blind to what is not monotone, as |x|.

    Parameters
    ----------
    x, y, corrected
        As for :func:`gaussian`.

    Returns
    -------
    Estimate
        In nats.

    Raises
    ------
    EvidenceError
        As :func:`gaussian`.

    Notes
    -----
    Ince et al. 2017, Human Brain Mapping 38:1541, who give bits.
    """
    x, y = as_pair(x, y, "gaussian_copula", least=3)
    return _estimate(Whitened(normal_ranks(x), normal_ranks(y)), x, y, "gaussian_copula", corrected)


def gaussian_with_null(
    x: np.ndarray,
    y: np.ndarray,
    *,
    copula: bool = False,
    groups: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Estimate with a null by permutation, which reuses the whitened variables.

    Parameters
    ----------
    x, y : ndarray of shape (n,) or (n, d)
        Samples.
    copula : bool
        :func:`gaussian_copula` instead of :func:`gaussian`.
    groups : ndarray of shape (n,), optional
        Groups of equal size that change places, see :func:`lmri.information.nulls.block_orders`.
    draws : int
        Permutations.
    seed : int
        Seed of the permutations.

    Returns
    -------
    Estimate
        In nats, corrected, with its null.

    Raises
    ------
    EvidenceError
        As :func:`gaussian`, and if groups have different sizes.
    """
    name = "gaussian_copula" if copula else "gaussian"
    x, y = as_pair(x, y, name, least=3)
    whitened = Whitened(*map(normal_ranks, (x, y))) if copula else Whitened(x, y)
    found = _estimate(whitened, x, y, name, corrected=True)
    if groups is None:
        orders = random_orders(len(x), draws, seed)
    else:
        orders = block_orders(len(x), groups, draws, seed)
    drawn = whitened.permuted(orders)
    exchanged = "samples" if groups is None else "groups"
    return replace(found, null=null_of(found.value, drawn - whitened.bias(), exchanged))


class Whitened:
    """Two variables, each turned into uncorrelated dimensions of unit variance.

    Only the correlation between the two is left, so that a permutation costs one product.

    Parameters
    ----------
    x, y : ndarray of shape (n, d), float64
        Samples.

    Attributes
    ----------
    n : int
        Number of samples.
    d : tuple of int
        Dimensions of x and y.

    Raises
    ------
    EvidenceError
        If there are not more samples than dimensions, or dimensions depend on each other.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.n, self.d = len(x), (x.shape[1], y.shape[1])
        if self.n <= sum(self.d) + 1:
            raise EvidenceError(
                f"Gaussian information of {sum(self.d)} dimensions must have at least "
                f"{sum(self.d) + 2} samples, and should have ten times as many. Got {self.n}: "
                "reduce the dimensions (lmri.information.compression)."
            )
        self._x, self._y = _white(x), _white(y)

    def information(self) -> float:
        """Information of the samples as they stand, in nats, with its bias; it may be infinite."""
        correlation = self._x.T @ self._y
        if np.linalg.norm(correlation, 2) > 1 - DETERMINED:
            return float("inf")
        return float(_information(correlation[None])[0])

    def permuted(self, orders: Iterable[np.ndarray]) -> np.ndarray:
        """Information with the samples of y in other orders.

        Parameters
        ----------
        orders : iterable of ndarray of shape (n,), int
            Permutations of the samples.

        Returns
        -------
        ndarray of shape (n_orders,), float64
            In nats, with the bias.
        """
        left, dy = np.ascontiguousarray(self._x.T), self.d[1]
        orders, found = iter(orders), []
        step = max(1, BATCH_VALUES // (self.n * dy))
        while own := list(islice(orders, step)):
            rows = np.take(self._y, np.stack(own), axis=0)  # (orders, n, dy)
            # Of one dimension a single product serves all orders.
            alone = (rows[:, :, 0] @ self._x)[:, :, None] if dy == 1 else None
            found.append(left @ rows if alone is None else alone)  # (orders, dx, dy)
        return _information(np.concatenate(found))

    def bias(self) -> float:
        """Expected value above the truth, in nats, of Gaussian samples."""
        both = _log_determinant_bias(self.n, sum(self.d))
        return 0.5 * (sum(_log_determinant_bias(self.n, d) for d in self.d) - both)


def random_orders(n: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Draw permutations of n samples, at half the cost of numpy's.

    Parameters
    ----------
    n, draws, seed : int
        As for :func:`lmri.information.nulls.block_orders`.

    Yields
    ------
    ndarray of shape (n,), int64
        A permutation.
    """
    check_range(draws, "draws", "a null", 1, error=EvidenceError)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(draws):
        yield torch.randperm(n, generator=generator).numpy()


def normal_ranks(x: np.ndarray) -> np.ndarray:
    """Replace every dimension by ``Phi^-1(rank / (n + 1))``.

    Parameters
    ----------
    x : ndarray of shape (n, d), float64
        Samples; equal ones are ranked in their order.

    Returns
    -------
    ndarray of shape (n, d), float64
        Normal scores.
    """
    scores = ndtri(np.arange(1, len(x) + 1) / (len(x) + 1))
    ranked = np.empty(x.shape)
    order = np.argsort(x.T, axis=1, kind="stable")
    for number, own in enumerate(order):
        ranked[own, number] = scores
    return ranked


def _estimate(
    whitened: Whitened, x: np.ndarray, y: np.ndarray, name: str, corrected: bool
) -> Estimate:
    value = whitened.information() - (whitened.bias() if corrected else 0.0)
    if not np.isfinite(value):
        raise EvidenceError(
            f"X and Y of {name} must not determine each other. One follows from the other without "
            "error: their information is infinite."
        )
    return Estimate(
        value=value,
        quantity="I(X;Y)",
        estimator=name,
        family="gaussian",
        channel={"correction": "digamma" if corrected else "none"},
        n=whitened.n,
        n_distinct=count_distinct(np.concatenate([x, y], axis=1)),
        d=whitened.d,
    )


def _information(correlations: np.ndarray) -> np.ndarray:
    """``-1/2 ln det(I - C' C)`` of whitened correlations C, array of shape (..., dx, dy)."""
    if correlations.shape[-2] < correlations.shape[-1]:
        correlations = correlations.swapaxes(-1, -2)
    inner = correlations.swapaxes(-1, -2) @ correlations
    return -0.5 * np.linalg.slogdet(np.eye(inner.shape[-1]) - inner)[1]


def _white(x: np.ndarray) -> np.ndarray:
    """Centred samples with ``x' x = I``: (n, d)."""
    centred = x - x.mean(axis=0)
    centred /= np.sqrt((centred**2).sum(axis=0))
    try:
        root = cholesky(centred.T @ centred, lower=True)
    except LinAlgError:
        root = np.zeros((1, 1))
    if root.diagonal().min() < DEPENDENT:
        raise EvidenceError(
            "Dimensions of a Gaussian variable must not follow from each other. Some do: "
            "reduce the dimensions (lmri.information.compression)."
        )
    return np.ascontiguousarray(solve_triangular(root, centred.T, lower=True).T)


def _log_determinant_bias(n: int, d: int) -> float:
    """Expected ``ln |S| - ln |Sigma|`` of a sample covariance with n - 1 degrees of freedom."""
    return float(digamma((n - np.arange(1, d + 1)) / 2).sum() + d * np.log(2 / (n - 1)))
