"""The 12-bit task: twelve points on a sphere, and a rule that no rotation changes.

Bit i of an input says whether point i is there. The points are the vertices of an icosahedron, and
the label is whether the power of the pattern in its first spherical harmonics is above a threshold:

``f(x) = Σ_ij x_i x_j Σ_l P_l(cos angle_ij), l = 1, 2``.

This follows the description of the task of Shwartz-Ziv and Tishby 2017 (arXiv:1703.00810: twelve
bits for points on a sphere, a rule invariant under rotations). Their file, which Chelombiev et al.
use too, is not copied: its labels are another function of the same inputs (P(y = 1) = .517 there).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import Legendre

BITS = 12
DEGREES = (1, 2)
"""Degrees of the spherical harmonics; degree 0 only counts the points."""

TRAINING = 0.8
"""Share of the inputs that networks are trained on, as in the paper."""

DECIMALS = 6
"""Patterns that a rotation turns into each other have one power, also in floating point."""


@dataclass(frozen=True)
class Task:
    """All inputs with their labels, and which of them are trained on.

    Attributes
    ----------
    inputs : ndarray of shape (4096, 12), float32
        Every pattern once; 0 or 1.
    labels : ndarray of shape (4096,), int64
        0 or 1, a function of the input.
    training, test : ndarray of int64
        Rows of the inputs, disjoint and together all of them.
    """

    inputs: np.ndarray
    labels: np.ndarray
    training: np.ndarray
    test: np.ndarray

    @property
    def majority(self) -> float:
        """Share of training inputs with the more frequent label: accuracy without learning."""
        share = float(self.labels[self.training].mean())
        return max(share, 1 - share)


def make_task(seed: int) -> Task:
    """Make the task.

    Parameters
    ----------
    seed : int
        Seed of the split; inputs and labels are always the same.

    Returns
    -------
    Task
        With :data:`TRAINING` of the inputs for training.
    """
    numbers = np.arange(2**BITS)
    inputs = (numbers[:, None] >> np.arange(BITS)) & 1
    power = harmonic_power(inputs)
    order = np.random.default_rng([seed, 0]).permutation(len(inputs))
    cut = round(TRAINING * len(inputs))
    return Task(
        inputs.astype(np.float32),
        (power > _balanced_threshold(power)).astype(np.int64),
        np.sort(order[:cut]),
        np.sort(order[cut:]),
    )


def harmonic_power(inputs: np.ndarray) -> np.ndarray:
    """Power of patterns of points in the spherical harmonics of :data:`DEGREES`.

    Parameters
    ----------
    inputs : ndarray of shape (n, 12)
        Patterns.

    Returns
    -------
    ndarray of shape (n,), float64
        ``Σ_ij x_i x_j Σ_l P_l(cos angle_ij)``, by the addition theorem; rounded to
        :data:`DECIMALS`.
    """
    cosines = np.clip(vertices() @ vertices().T, -1, 1)
    kernel = sum(Legendre.basis(degree)(cosines) for degree in DEGREES)
    patterns = np.asarray(inputs, dtype=np.float64)
    return np.round(((patterns @ kernel) * patterns).sum(axis=1), DECIMALS)


def vertices() -> np.ndarray:
    """Vertices of an icosahedron on the unit sphere, array of shape (12, 3)."""
    golden = (1 + np.sqrt(5)) / 2
    corners = [(0, one, other) for one in (-1, 1) for other in (-golden, golden)]
    turned = [np.roll(corner, shift) for shift in range(3) for corner in corners]
    return np.array(turned) / np.sqrt(1 + golden**2)


def _balanced_threshold(power: np.ndarray) -> float:
    """The power above which lies the share of patterns nearest to one half."""
    levels, counts = np.unique(power, return_counts=True)
    above = 1 - np.cumsum(counts) / counts.sum()
    return float(levels[np.abs(above - 0.5).argmin()])
