"""Information of activity with Gaussian noise: the bounds of Kolchinsky and Tracey, and aKDE.

With T~ = T + N(0, s² I) and D_ij = |t_i - t_j|², over the n recorded inputs:

``upper: I(X;T~) <= -1/n sum_i ln 1/n sum_j exp(-D_ij / 2s²)``, ``lower``: the same with 8 s².

Both lie in [0, log n]: they bound the information about *which of the n inputs it was*, and may be
below that of the population. I(T~;Y) is a difference of such bounds and itself neither an upper nor
a lower bound. The noise is not in the network: it is how closely the analyst looks. That is why it
is given in units of the layer's own scale and swept, and why no data processing inequality holds
from layer to layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lmri.checks import check_choice
from lmri.errors import EvidenceError
from lmri.information.estimate import Estimate
from lmri.information.samples import (
    as_labels,
    as_samples,
    count_distinct,
    label_entropy,
    root_mean_square,
)

NOISE = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Standard deviations of the noise, in units of the layer's root mean square."""

ADAPTIVE = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Variances of the noise of aKDE, in units of the squared scale of the layer."""

BOUNDS = ("upper", "lower")
REFERENCES = ("rms", "maximum", "absolute")

BLOCK = 1024
"""Rows and columns of distances held at once: 8 MB."""

MEMBERS = 2**24
"""Entries of the table of samples, labellings and classes: 128 MB."""


def kolchinsky_tracey(
    t: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    noise: Sequence[float] = NOISE,
    reference: str = "rms",
) -> list[Estimate]:
    """Bounds of information through Gaussian noise, for some strengths of noise at once.

    Parameters
    ----------
    t : ndarray of shape (n,) or (n, d)
        Activity of one layer, a row for each different input.
    labels : ndarray of shape (n,), optional
        Classes Y.
    noise : sequence of float
        Standard deviations of the noise, in units of the reference.
    reference : str
        ``rms``, root mean square about the mean of each dimension; ``maximum``, largest
        magnitude; ``absolute``, the unit of the activity.

    Returns
    -------
    list of Estimate
        For each noise ``kt_upper`` and ``kt_lower`` of I(X;T), and with labels of I(T;Y); nats.
        Their ``saturation`` is that of the same bound.

    Raises
    ------
    EvidenceError
        If the samples are not finite, all equal with a relative noise, or a noise is not above 0.

    Notes
    -----
    Kolchinsky and Tracey 2017, Entropy 19:361; Saxe et al. 2018. Half of all pairs are compared, in
    O(n² d) time; memory is that of the samples and of a block.
    """
    t = as_samples(t, "T of kolchinsky_tracey")
    scale = layer_scale(t, reference)
    channels = [
        {"noise": float(own), "reference": reference, "scale": scale, "sd": float(own) * scale}
        for own in noise
    ]
    return _bounds(t, labels, channels, "kt")


def adaptive_kde(
    t: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    variances: Sequence[float] = ADAPTIVE,
    reference: str = "maximum",
) -> list[Estimate]:
    """Bounds with noise whose variance is a share of the layer's squared scale (aKDE).

    ``s² = c s_l²``, s_l the largest magnitude (or the root mean square) of the layer.

    Parameters
    ----------
    t, labels
        As for :func:`kolchinsky_tracey`.
    variances : sequence of float
        The shares c. The paper's constant is not known; results for one alone say little.
    reference : str
        ``maximum`` or ``rms``.

    Returns
    -------
    list of Estimate
        As :func:`kolchinsky_tracey`, named ``akde_upper`` and ``akde_lower``.

    Raises
    ------
    EvidenceError
        As :func:`kolchinsky_tracey`.

    Notes
    -----
    Chelombiev, Houghton and O'Donnell 2019 (arXiv:1902.09037). Their released code uses one noise
    for all layers (and its standard deviation as the variance); this is what the paper describes.
    """
    t = as_samples(t, "T of adaptive_kde")
    scale = layer_scale(t, reference)
    channels = [
        {
            "variance_share": float(c),
            "reference": reference,
            "scale": scale,
            "sd": math.sqrt(c) * scale if c > 0 else 0.0,
        }
        for c in variances
    ]
    return _bounds(t, labels, channels, "akde")


def layer_scale(t: np.ndarray, reference: str) -> float:
    """Scale of a layer that noise is measured by.

    Parameters
    ----------
    t : ndarray of shape (n, d)
        Activity.
    reference : str
        As for :func:`kolchinsky_tracey`.

    Returns
    -------
    float
        Above 0; 1 for ``absolute``.

    Raises
    ------
    EvidenceError
        If the activity gives no scale.
    """
    check_choice(reference, REFERENCES, "reference", "noise", EvidenceError)
    if reference == "absolute":
        return 1.0
    scale = root_mean_square(t) if reference == "rms" else float(np.abs(t).max())
    if scale == 0:
        raise EvidenceError(
            f"Activity must vary for noise in units of its {reference}. All {len(t)} samples are "
            "equal: nothing is told of the inputs."
        )
    return scale


def label_bounds(t: np.ndarray, sd: float, labellings: np.ndarray) -> np.ndarray:
    """I(T;Y) of the same activity for many labellings, as those of a null, from few passes.

    Parameters
    ----------
    t : ndarray of shape (n, d), float64
        Activity.
    sd : float
        Standard deviation of the noise, in the unit of the activity.
    labellings : ndarray of shape (n_labellings, n), int64
        Numbered labels.

    Returns
    -------
    ndarray of shape (2, n_labellings), float64
        In nats, by the upper and by the lower bounds.
    """
    classes = int(labellings.max(initial=0)) + 1
    step = max(1, MEMBERS // (len(t) * classes))
    found = [
        _label_terms(_kernel_sums(t, [sd], own)[0], own)
        for own in (labellings[start : start + step] for start in range(0, len(labellings), step))
    ]
    return np.concatenate(found, axis=1)


def _bounds(
    t: np.ndarray, labels: np.ndarray | None, channels: list[dict], name: str
) -> list[Estimate]:
    if not channels or min(channel["sd"] for channel in channels) <= 0:
        raise EvidenceError(f"The noise of {name} must be above 0 and be given.")
    codes = None if labels is None else as_labels(labels, name, len(t), least=2)
    labellings = np.zeros((0, len(t)), dtype=np.int64) if codes is None else codes[None]
    distinct = count_distinct(t)
    cap = math.log(distinct)
    found = []
    sums = _kernel_sums(t, [channel["sd"] for channel in channels], labellings)
    for channel, own in zip(channels, sums, strict=True):
        values = -np.log(own[:, 0] / len(t)).mean(axis=1)  # (bounds,)
        with_labels = _label_terms(own, labellings)  # (bounds, labellings)
        for number, bound in enumerate(BOUNDS):
            shared = {
                "estimator": f"{name}_{bound}",
                "family": "kernel",
                "channel": channel,
                "n": len(t),
                "n_distinct": distinct,
                "saturation": float(values[number]) / cap if cap > 0 else 0.0,
            }
            d = t.shape[1]
            value = float(values[number])
            found.append(Estimate(value, "I(X;T)", d=(0, d), ceiling=cap, **shared))
            if codes is not None:
                value, most = float(with_labels[number, 0]), label_entropy(codes)
                found.append(Estimate(value, "I(T;Y)", d=(d, 0), ceiling=most, **shared))
    return found


def _label_terms(sums: np.ndarray, labellings: np.ndarray) -> np.ndarray:
    """Differences of bounds from sums (bounds, 1 + labellings, n): (bounds, labellings)."""
    n = sums.shape[-1]
    whole = -np.log(sums[:, :1] / n).mean(axis=-1)
    sizes = np.stack([np.bincount(own)[own] for own in labellings]) if len(labellings) else 1
    return whole + np.log(sums[:, 1:] / sizes).mean(axis=-1)


def _kernel_sums(t: np.ndarray, sds: Sequence[float], labellings: np.ndarray) -> np.ndarray:
    """Sums of the kernel over all samples, and over those of the same label.

    Array of shape (n_sds, 2 bounds, 1 + n_labellings, n), from the upper triangle of pairs.
    """
    n = len(t)
    every = np.concatenate([np.zeros((1, n), dtype=np.int64), labellings])
    members = _members(every)
    sums = np.zeros((len(sds), len(BOUNDS), len(every), n))
    left, right = _factors(t)
    kernel = np.empty(min(BLOCK, n) ** 2)
    for i in range(0, n, BLOCK):
        rows = slice(i, min(i + BLOCK, n))
        for j in range(i, n, BLOCK):
            columns = slice(j, min(j + BLOCK, n))
            squares = np.maximum(left[rows] @ right[columns].T, 0)
            if i == j:
                np.fill_diagonal(squares, 0)
            own = kernel[: squares.size].reshape(squares.shape)
            for number, sd in enumerate(sds):
                np.multiply(squares, -1 / (8 * sd**2), out=own)
                np.exp(own, out=own)
                _add(sums[number, 1], own, members, every, rows, columns)
                own *= own  # exp(-D / 8s²) to the fourth is exp(-D / 2s²)
                own *= own
                _add(sums[number, 0], own, members, every, rows, columns)
    return sums


def _factors(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays (n, d + 2) whose product is the squared distances: one pass over them less."""
    n, d = t.shape
    left, right = np.ones((2, n, d + 2))
    mean = t.mean(axis=0)
    # In blocks of rows: nothing else is as large as the samples.
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        centred = t[rows] - mean
        squares = (centred**2).sum(axis=1)
        left[rows, :d], left[rows, d] = -2 * centred, squares
        right[rows, :d], right[rows, d + 1] = centred, squares
    return left, right


def _members(labellings: np.ndarray) -> np.ndarray:
    """One column for each class of each labelling: (n, n_labellings, n_classes)."""
    classes = labellings.max(initial=0) + 1
    return (labellings.T[:, :, None] == np.arange(classes)).astype(np.float64)


def _add(
    sums: np.ndarray,
    kernel: np.ndarray,
    members: np.ndarray,
    labellings: np.ndarray,
    rows: slice,
    columns: slice,
) -> None:
    """Add a block of the kernel to the sums (labellings, n) of its rows, and of its columns."""
    if len(labellings) == 1:
        sums[0, rows] += kernel.sum(axis=1)
        if rows != columns:
            sums[0, columns] += kernel.sum(axis=0)
        return
    pairs = [(kernel, rows, columns)]
    if rows != columns:
        pairs.append((kernel.T, columns, rows))
    for block, to, by in pairs:
        by_class = block @ members[by].reshape(block.shape[1], -1)
        by_class = by_class.reshape(len(block), *members.shape[1:])
        own = labellings[:, to].T[:, :, None]
        sums[:, to] += np.take_along_axis(by_class, own, axis=2)[:, :, 0].T
