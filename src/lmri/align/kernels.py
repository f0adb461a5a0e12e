"""Centred kernel alignment without its bias, of two layers in the same trials."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lmri.errors import EvidenceError

LEAST_TRIALS = 4
"""Trials of the unbiased estimate, at least: it divides by n - 3."""


def gram(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """Sum the products of trials over batches of units: K = X X'.

    Parameters
    ----------
    batches : iterable of ndarray of shape (n_trials, n_units of the batch)
        Activity; units are centred here.

    Returns
    -------
    kernel : ndarray of shape (n_trials, n_trials), float64
        The products.
    units : int
        Number of units.

    Raises
    ------
    EvidenceError
        If there is no unit, or no unit varies.
    """
    kernel, units = None, 0
    for batch in batches:
        own = np.asarray(batch, dtype=np.float64)
        own = own - own.mean(axis=0)
        kernel = own @ own.T if kernel is None else kernel + own @ own.T
        units += own.shape[1]
    if kernel is None or not np.trace(kernel) > 0:
        raise EvidenceError(
            f"Kernel alignment must have a unit that varies over trials. Got {units} units, none "
            "of which does."
        )
    return kernel, units


def debiased_alignment(kernel: np.ndarray, other: np.ndarray) -> float:
    r"""Compare two kernels by CKA with the unbiased estimate of HSIC.

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), where with zero diagonals

    HSIC(K, L) = [tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'K L1 / (n-2)] / (n (n-3)).

    1 for the same geometry up to rotation, scale and shift; 0 on average for independent ones, at
    any number of units; slightly negative values are possible.

    Parameters
    ----------
    kernel, other : ndarray of shape (n_trials, n_trials), float64
        From :func:`gram`.

    Returns
    -------
    float
        NaN where the geometry of either cannot be told from noise (an estimate below 0).

    Raises
    ------
    EvidenceError
        If the kernels have different trials, or fewer than :data:`LEAST_TRIALS`.

    References
    ----------
    L. Song et al., Feature selection via dependence maximization, JMLR 13 (2012); S. Kornblith et
    al., Similarity of neural network representations revisited, ICML 2019.
    """
    _check(kernel, other)
    parts = [_prepared(own) for own in (kernel, other)]
    cross, first, second = (
        _unbiased(*pair) for pair in (parts, (parts[0], parts[0]), (parts[1], parts[1]))
    )
    if first <= 0 or second <= 0:
        return np.nan
    return float(cross / np.sqrt(first * second))


def permuted_alignments(
    kernel: np.ndarray, other: np.ndarray, orders: Iterable[np.ndarray]
) -> np.ndarray:
    """CKA of a kernel with another whose trials change places.

    Parameters
    ----------
    kernel, other : ndarray of shape (n_trials, n_trials), float64
        From :func:`gram`.
    orders : iterable of ndarray of shape (n_trials,), int64
        Orders of the trials of the second.

    Returns
    -------
    ndarray of shape (n_orders,)
        As :func:`debiased_alignment`.
    """
    _check(kernel, other)
    (k, k_rows), (own, own_rows) = _prepared(kernel), _prepared(other)
    scale = _unbiased((k, k_rows), (k, k_rows)) * _unbiased((own, own_rows), (own, own_rows))
    if scale <= 0:
        return np.array([np.nan for _ in orders])
    found = [_unbiased((k, k_rows), (own[np.ix_(o, o)], own_rows[o])) for o in orders]
    return np.array(found) / np.sqrt(scale)


def biased_alignment(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA as it is most often reported: ||Y'X||² / (||X'X|| ||Y'Y||).

    Of independent activity it is about d / (n + d), and not 0.

    Parameters
    ----------
    x, y : ndarray of shape (n_trials, n_units)
        Activity.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    EvidenceError
        If either has as many units as trials or more: then it is near 1 for any two layers.
    """
    n = len(x)
    most = max(x.shape[1], y.shape[1])
    if most >= n:
        raise EvidenceError(
            f"Biased kernel alignment must have fewer units than trials. Got {most} units and {n} "
            "trials, where it is near 1 for unrelated layers: use debiased_alignment."
        )
    (k, _), (other, _) = gram([x]), gram([y])
    _check(k, other)
    return float((k * other).sum() / np.sqrt((k * k).sum() * (other * other).sum()))


def _check(kernel: np.ndarray, other: np.ndarray) -> None:
    if len(kernel) != len(other):
        raise EvidenceError(
            "Kernels must be of the same trials. Got "
            f"{len(kernel)} and {len(other)}: compare subjects on trials that both read."
        )
    if len(kernel) < LEAST_TRIALS:
        raise EvidenceError(
            f"Debiased kernel alignment must have {LEAST_TRIALS} trials or more. Got {len(kernel)}."
        )


def _prepared(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Zero the diagonal; return the kernel and its row sums."""
    own = kernel.copy()
    np.fill_diagonal(own, 0.0)
    return own, own.sum(axis=1)


def _unbiased(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    (k, k_rows), (own, own_rows) = one, other
    n = len(k)
    total = np.vdot(k, own) + k_rows.sum() * own_rows.sum() / ((n - 1) * (n - 2))
    return float((total - 2 * (k_rows @ own_rows) / (n - 2)) / (n * (n - 3)))
