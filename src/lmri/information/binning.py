"""Information through bins: equal mass (EBAB), and fixed.

Each unit of a layer is put into bins with the same edges, and the row of bins of a sample is one
symbol. As the layer gets wider every sample has a symbol of its own; then I(X;T) is log n and
I(T;Y) is H(Y), for *any* labels. The share of samples whose symbol is theirs alone is kept in the
estimate, from which the flag ``saturation`` follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lmri.checks import check_range
from lmri.errors import EvidenceError
from lmri.information.estimate import Estimate
from lmri.information.samples import (
    as_labels,
    as_samples,
    count_distinct,
    entropy_of_counts,
    label_entropy,
    symbols,
)

BINS = 30
"""Bins of EBAB in the paper's code."""


def ebab(t: np.ndarray, labels: np.ndarray | None = None, *, bins: int = BINS) -> list[Estimate]:
    """Information through entropy-based adaptive bins.

    Parameters
    ----------
    t : ndarray of shape (n,) or (n, d)
        Activity of one layer, a row for each different input.
    labels : ndarray of shape (n,), optional
        Classes Y.
    bins : int
        Number of bins.

    Returns
    -------
    list of Estimate
        I(X;T), which of a deterministic layer is H(T), and with labels I(T;Y); in nats.

    Raises
    ------
    EvidenceError
        If the samples are not finite, or have another shape.

    Notes
    -----
    Chelombiev, Houghton and O'Donnell 2019 (arXiv:1902.09037); edges see :func:`equal_mass_edges`.
    Their code puts what is below the first edge into the *last* bin; here nothing is below it.
    """
    check_range(bins, "bins", "ebab", 1, error=EvidenceError)
    t = as_samples(t, "T of ebab")
    edges = equal_mass_edges(t, bins)
    channel = {"bins": bins, "edges": "equal mass of unique values of the layer", "low": edges[0]}
    return _information(np.digitize(t, edges), t, labels, "ebab", channel)


def equal_mass_edges(t: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Edges with equal numbers of *different* values between them.

    All units of the layer are pooled; u are their sorted different values without the lowest, and
    the edges are ``lowest, u[floor(k |u| / bins)] for k = 0 … bins - 1, u[-1]``. Equal mass of
    different values keeps the many zeros of a ReLU in one bin, which leaves the others to the rest.

    Parameters
    ----------
    t : ndarray of shape (n, d)
        Activity of one layer.
    bins : int
        Number of bins.

    Returns
    -------
    ndarray of shape (at most bins + 2,), float64
        The edges; nothing is below the first.

    Notes
    -----
    In the paper's code the lowest edge is set by the activation function (0 or -1). It is the
    lowest value of the layer here, which is the same for a ReLU that is ever silent, and is
    right for residual streams and activations that go below 0.
    """
    different = np.unique(t)
    rest = different[1:]
    if not len(rest):
        return different
    places = (np.arange(bins) * len(rest)) // bins
    return np.unique(np.concatenate([different[:1], rest[places], rest[-1:]]))


def fixed_bins(
    t: np.ndarray, labels: np.ndarray | None = None, *, width: float = 0.07
) -> list[Estimate]:
    """Information through bins of one width, ``floor(t / width)``.

    Parameters
    ----------
    t, labels
        As for :func:`ebab`.
    width : float
        Width of a bin, in the unit of the activity.

    Returns
    -------
    list of Estimate
        As :func:`ebab`.

    Raises
    ------
    EvidenceError
        As :func:`ebab`, and if the width is not positive.

    Notes
    -----
    Saxe et al. 2018, ``bin_calc_information2``, whose width is .07.
    """
    if not width > 0:
        raise EvidenceError(f"The 'width' of fixed_bins must be above 0. Got {width!r}.")
    t = as_samples(t, "T of fixed_bins")
    return _information(np.floor(t / width), t, labels, "fixed_bins", {"width": width})


def bin_information(
    t: np.ndarray, *, bins: int | None = BINS, width: float | None = None
) -> Callable[[np.ndarray], float]:
    """Prepare I(T;Y) of binned activity for many labellings, as those of a null.

    Parameters
    ----------
    t : ndarray of shape (n, d)
        Activity of one layer.
    bins : int or None
        Bins of :func:`ebab`; None for a fixed width.
    width : float, optional
        Width of :func:`fixed_bins`.

    Returns
    -------
    callable
        Takes numbered labels, array of shape (n,), and gives nats.
    """
    t = as_samples(t, "T")
    if bins is not None:
        codes = symbols(np.digitize(t, equal_mass_edges(t, bins)))
    else:
        codes = symbols(np.floor(t / width))
    own = label_entropy(codes)
    return lambda labels: _with_labels(codes, own, labels)


def _information(
    binned: np.ndarray,
    t: np.ndarray,
    labels: np.ndarray | None,
    name: str,
    channel: dict[str, str | float | int],
) -> list[Estimate]:
    codes = symbols(binned)
    counts = np.bincount(codes)
    distinct = count_distinct(t)
    entropy = entropy_of_counts(counts)
    cap = math.log(distinct)
    shared = {
        "estimator": name,
        "family": "bins",
        "channel": {**channel, "occupied": len(counts)},
        "n": len(t),
        "n_distinct": distinct,
        "saturation": entropy / cap if cap > 0 else 0.0,
        "singletons": float(np.mean(counts[codes] == 1)),
    }
    found = [Estimate(entropy, "I(X;T)", d=(0, t.shape[1]), ceiling=cap, **shared)]
    if labels is not None:
        y = as_labels(labels, name, len(t), least=2)
        value = _with_labels(codes, entropy, y)
        found.append(
            Estimate(value, "I(T;Y)", d=(t.shape[1], 0), ceiling=label_entropy(y), **shared)
        )
    return found


def _with_labels(codes: np.ndarray, entropy: float, labels: np.ndarray) -> float:
    joint = symbols(np.stack([codes, labels], axis=1))
    return entropy + label_entropy(labels) - label_entropy(joint)
