"""Inference on maps: permutation of the carriers, max-statistic, false discovery rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control

from lmri.errors import EvidenceError
from lmri.localise.design import Design
from lmri.localise.resonance import Cells, scores

BATCH = 250
"""Relabellings computed at once."""


@dataclass(frozen=True)
class Inference:
    """p-values of a map, one-sided for larger scores.

    Attributes
    ----------
    p : ndarray of shape (layers, experts)
        ``(1 + relabellings with a score as large) / (1 + relabellings)`` of each unit.
    p_max : ndarray of shape (layers, experts)
        The same against the largest score of any unit: family-wise.
    q : ndarray of shape (layers, experts)
        Benjamini-Hochberg over ``p``.
    """

    p: np.ndarray
    p_max: np.ndarray
    q: np.ndarray


def permutation_test(
    cells: Cells, design: Design, observed: np.ndarray, permutations: int, seed: int
) -> Inference:
    """Test every unit's score by exchanging the carriers.

    Parameters
    ----------
    cells : Cells
        The counts.
    design : Design
        The design.
    observed : ndarray of shape (layers, experts)
        The scores.
    permutations : int
        Relabellings.
    seed : int
        Seed of the relabellings.

    Returns
    -------
    Inference
        The p-values.
    """
    rng = np.random.default_rng([seed, 4])
    labelling = design.encode(cells.labels)
    larger = np.zeros(observed.shape, dtype=np.int64)
    larger_max = np.zeros(observed.shape, dtype=np.int64)
    # A score computed in another order of summation may differ in the last bit.
    threshold = observed - 1e-12
    for start in range(0, permutations, BATCH):
        count = min(BATCH, permutations - start)
        labels = labelling.exchanged(rng, count)
        null = scores(cells, design, labels, design.weights)  # (count, layers, experts)
        larger += (null >= threshold).sum(axis=0)
        larger_max += (null.max(axis=(1, 2))[:, None, None] >= threshold).sum(axis=0)
    p = (1 + larger) / (1 + permutations)
    p_max = (1 + larger_max) / (1 + permutations)
    return Inference(p, p_max, false_discovery_control(p.reshape(-1)).reshape(p.shape))


def check_resolution(design: Design, alpha: float, owner: str) -> None:
    """Refuse a test that could not reach its level with any data.

    Parameters
    ----------
    design : Design
        The design.
    alpha : float
        Level of the test.
    owner : str
        The contrast, for the error.

    Raises
    ------
    EvidenceError
        If the carriers allow fewer than ``1 / alpha`` different relabellings.
    """
    count = math.prod(_labellings(list(kind.values())) for kind in design.classes)
    if count * alpha < 1:
        sizes = ", ".join(
            f"{len(kind)} of '{name}'"
            for name, kind in zip(design.carriers, design.classes, strict=True)
        )
        raise EvidenceError(
            f"{owner}: the carriers in the selection split ({sizes}) allow {count} relabellings; "
            f"a test at {alpha} needs at least {math.ceil(1 / alpha)}. Add carriers or enlarge "
            "the share of 'splits.selection'."
        )


def _labellings(labels: list[str]) -> int:
    ways = math.factorial(len(labels))
    for label in set(labels):
        ways //= math.factorial(labels.count(label))
    return ways
