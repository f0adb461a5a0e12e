"""Mutual information from nearest neighbours: Kraskov, Stögbauer and Grassberger, and Ross.

They need no model of the distribution, and read low where there are more than about three
dimensions or three nats (with 20 dimensions and 4.46 nats: 0.84 at n = 1,000 and 1.24 at
n = 10,000). Their value for independent variables stays at 0, so that beyond three dimensions they
are a test of independence and not a measure: see the flag ``dimension``.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

from lmri.checks import check_choice, check_range
from lmri.errors import EvidenceError
from lmri.information.distances import (
    Chebyshev,
    count_within,
    row_blocks,
    smallest,
)
from lmri.information.estimate import Estimate
from lmri.information.samples import (
    as_continuous,
    as_labels,
    as_pair,
    count_distinct,
    label_entropy,
)

TREE_DIMENSIONS = 3
"""Dimensions up to which a tree finds neighbours faster than comparing all pairs."""


def ksg(x: np.ndarray, y: np.ndarray, *, k: int = 3, variant: int = 1) -> Estimate:
    """Mutual information of two continuous variables.

    Variant 1: ``psi(k) + psi(n) - <psi(n_x + 1) + psi(n_y + 1)>``, with n_x samples strictly nearer
    in x than the k-th neighbour in (x, y), in the maximum norm. Variant 2:
    ``psi(k) - 1/k + psi(n) - <psi(n_x) + psi(n_y)>``, with n_x samples not farther in x than the
    farthest of the k neighbours is in x.

    Parameters
    ----------
    x, y : ndarray of shape (n,) or (n, d)
        Samples; their scales matter, since one norm compares both.
    k : int
        Neighbours; fewer have less bias and more spread.
    variant : int
        1 or 2.

    Returns
    -------
    Estimate
        In nats; below 0 by chance where the variables are independent.

    Raises
    ------
    EvidenceError
        If the samples are not continuous, fewer than k + 2, or of different numbers.

    Notes
    -----
    Kraskov, Stögbauer, Grassberger 2004, Physical Review E 69:066138. In as many as
    :data:`TREE_DIMENSIONS` dimensions a tree finds the neighbours; beyond, all pairs are compared,
    in O(n² d) time and memory for a few rows. Both give the same bits.
    """
    check_choice(variant, (1, 2), "variant", "ksg", EvidenceError)
    check_range(k, "k", "ksg", 1, error=EvidenceError)
    x, y = as_pair(x, y, "ksg", least=k + 2)
    few = x.shape[1] + y.shape[1] <= TREE_DIMENSIONS
    terms = _tree_terms(x, y, k, variant) if few else _pair_terms(x, y, k, variant)
    constant = digamma(k) + digamma(len(x)) - (1 / k if variant == 2 else 0.0)
    return Estimate(
        value=float(constant - np.mean(terms)),
        quantity="I(X;Y)",
        estimator=f"ksg{variant}",
        family="neighbours",
        channel={"neighbours": k, "norm": "maximum"},
        n=len(x),
        n_distinct=count_distinct(np.concatenate([x, y], axis=1)),
        d=(x.shape[1], y.shape[1]),
    )


def _pair_terms(x: np.ndarray, y: np.ndarray, k: int, variant: int) -> np.ndarray:
    """Terms ``psi(n_x) + psi(n_y)`` of the formulas, comparing all pairs: (n,)."""
    in_x, in_y = Chebyshev(x), Chebyshev(y)
    counts = np.empty((2, len(x)), dtype=np.int64)
    for rows in row_blocks(len(x)):
        dx, dy = in_x.rows(rows), in_y.rows(rows)
        joint = np.maximum(dx, dy)
        own = np.arange(rows.stop - rows.start)
        joint[own, own + rows.start] = np.inf
        radius = _positive(smallest(joint, k))[:, None]
        for number, distances in enumerate((dx, dy)):
            if variant == 1:
                inside = distances < radius
            else:
                farthest = np.where(joint <= radius, distances, 0).max(axis=1)
                inside = distances <= farthest[:, None]
            counts[number, rows] = np.count_nonzero(inside, axis=1)
    # The sample counts itself, which is the + 1 of the first variant.
    return digamma(counts if variant == 1 else np.maximum(counts - 1, 1)).sum(axis=0)


def _tree_terms(x: np.ndarray, y: np.ndarray, k: int, variant: int) -> np.ndarray:
    joint = np.concatenate([x, y], axis=1)
    # One neighbour more than needed (and the sample itself), to see whether the k-th is tied.
    distances, near = cKDTree(joint).query(joint, k=k + 2, p=np.inf)
    radius = _positive(distances[:, k])
    if variant == 1:
        return digamma(count_within(x, radius)) + digamma(count_within(y, radius))
    if (distances[:, k] == distances[:, k + 1]).any():  # which of them is the k-th is open
        return _pair_terms(x, y, k, variant)
    terms = np.zeros(len(x))
    for part in (x, y):
        farthest = np.abs(part[near[:, : k + 1]] - part[:, None]).max(axis=(1, 2))
        # "Not farther" is "nearer than the next number".
        counts = count_within(part, np.nextafter(farthest, np.inf)) - 1
        terms += digamma(np.maximum(counts, 1))
    return terms


def ross(x: np.ndarray, labels: np.ndarray, *, k: int = 3) -> Estimate:
    """Mutual information of a continuous variable and labels.

    ``psi(n) + <psi(k_i)> - <psi(n_class)> - <psi(m_i)>``: m_i samples, itself included, are nearer
    than the k_i-th neighbour in the same class, where k_i = min(k, n_class - 1).

    Parameters
    ----------
    x : ndarray of shape (n,) or (n, d)
        Samples.
    labels : ndarray of shape (n,)
        Their classes.
    k : int
        Neighbours.

    Returns
    -------
    Estimate
        In nats, not clipped at 0.

    Raises
    ------
    EvidenceError
        If the samples are not continuous, or a class has one sample.

    Notes
    -----
    Ross 2014, PLoS ONE 9(2):e87357. The same values as scikit-learn's
    ``mutual_info_classif`` without its noise and its clip at 0, in any number of dimensions.
    """
    check_range(k, "k", "ross", 1, error=EvidenceError)
    x = as_continuous(x, "X of ross", least=3)
    codes = as_labels(labels, "ross", len(x), least=2)
    sizes = np.bincount(codes)
    few = x.shape[1] <= TREE_DIMENSIONS
    within = _tree_counts(x, codes, k) if few else _pair_counts(x, codes, k)
    own = sizes[codes]
    value = digamma(len(x)) + np.mean(
        digamma(np.minimum(k, own - 1)) - digamma(own) - digamma(within)
    )
    return Estimate(
        value=float(value),
        quantity="I(T;Y)",
        estimator="ross",
        family="neighbours",
        channel={"neighbours": k, "norm": "maximum"},
        n=len(x),
        n_distinct=count_distinct(x),
        d=(x.shape[1], 0),
        ceiling=label_entropy(codes),
    )


def _tree_counts(x: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    radius = np.empty(len(x))
    for code in range(codes.max() + 1):
        own = np.flatnonzero(codes == code)
        most = min(k, len(own) - 1)
        radius[own] = cKDTree(x[own]).query(x[own], k=[most + 1], p=np.inf)[0][:, 0]
    return count_within(x, _positive(radius))


def _pair_counts(x: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    spaces, sizes = Chebyshev(x), np.bincount(codes)
    counts = np.empty(len(x), dtype=np.int64)
    for rows in row_blocks(len(x)):
        distances = spaces.rows(rows)
        for code in np.unique(codes[rows]):
            own = np.flatnonzero(codes[rows] == code)
            most = min(k, sizes[code] - 1)
            # The sample itself is the first, at distance 0.
            radius = _positive(smallest(distances[own][:, codes == code], most + 1))
            counts[rows.start + own] = np.count_nonzero(distances[own] < radius[:, None], axis=1)
    return counts


def _positive(radius: np.ndarray) -> np.ndarray:
    if (radius == 0).any():
        raise EvidenceError(
            "Samples must differ from their neighbours. "
            f"{int((radius == 0).sum())} of them equal their k-th neighbour: leave repeats out, or "
            "choose a larger k."
        )
    return radius
