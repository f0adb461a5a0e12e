"""Does connectivity differ between conditions? Labels are exchanged among what carries them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmri.checks import check_choice, check_range
from lmri.connect.activity import LEAST_TRIALS, Activity
from lmri.connect.edges import benjamini_hochberg, residuals
from lmri.connect.exchange import carrier_codes, relabelling
from lmri.connect.measures import BOUNDED, each_alone, edge_values
from lmri.errors import EvidenceError

SIDES = ("target", "control")


@dataclass(frozen=True)
class Difference:
    """Edges of the target condition minus those of the controls.

    Attributes
    ----------
    value : ndarray of shape (n_edges,)
        Difference, of correlations in Fisher's z.
    p, p_max, q : ndarray of shape (n_edges,)
        Two-sided, of the edge alone; of the largest of all; Benjamini-Hochberg.
    distance, distance_p : float
        Root of the sum of squared differences, and its p.
    n_target, n_control : int
        Trials.
    exchanged : str
        What carries the labels.
    """

    value: np.ndarray
    p: np.ndarray
    p_max: np.ndarray
    q: np.ndarray
    distance: float
    distance_p: float
    n_target: int
    n_control: int
    exchanged: str


def difference(
    activity: Activity,
    target: Sequence[str],
    controls: Sequence[str],
    carriers: Sequence[str],
    *,
    kind: str = "correlation",
    draws: int = 199,
    seed: int = 0,
) -> Difference:
    """Compare the connectivity of two sides.

    The mean of its condition is taken out of each trial first: a side of several conditions would
    else have the connections between their means. As labels are exchanged after that, what differs
    between conditions in the mean is no difference in connectivity. The null is that both sides
    vary alike, so a node that varies on one side only is a difference.

    Parameters
    ----------
    activity : Activity
        The nodes.
    target, controls : sequence of str
        Conditions of each side.
    carriers : sequence of str
        Carriers of the task.
    kind : str
        ``correlation`` or ``partial correlation``.
    draws, seed : int
        Number of relabellings, and their seed.

    Returns
    -------
    Difference
        The comparison.

    Raises
    ------
    EvidenceError
        If a side has fewer than :data:`LEAST_TRIALS` trials, or carriers are too few.
    """
    check_choice(kind, BOUNDED, "kind", "a difference of connectivity", EvidenceError)
    check_range(draws, "draws", "a difference of connectivity", 1, error=EvidenceError)
    conditions = activity.table["condition"].to_numpy()
    labels = np.where(np.isin(conditions, controls), 0, -1)
    labels[np.isin(conditions, target)] = 1
    for side, own in zip(SIDES, (1, 0), strict=True):
        if (labels == own).sum() < LEAST_TRIALS:
            raise EvidenceError(
                f"A difference of connectivity must have {LEAST_TRIALS} trials or more on each "
                f"side. The {side} has {int((labels == own).sum())} of {len(labels)} in the phase "
                f"'{activity.phase}': record more, or compare other conditions."
            )
    carrier_codes(activity.table, carriers)
    values = residuals(activity.matrix, conditions)
    draw, exchanged = relabelling(activity.table, labels, carriers)
    value = _between(values, labels, kind)
    as_large, larger_max, farther = np.zeros_like(value), np.zeros_like(value), 0
    for number in range(draws):
        drawn = draw(np.random.default_rng([seed, number]))
        own = _between(values, drawn, kind)
        as_large += np.abs(own) >= np.abs(value) - 1e-12
        larger_max += np.abs(own).max() >= np.abs(value) - 1e-12
        farther += bool(np.linalg.norm(own) >= np.linalg.norm(value) - 1e-12)
    p = (1 + as_large) / (1 + draws)
    return Difference(
        value=value,
        p=p,
        p_max=(1 + larger_max) / (1 + draws),
        q=benjamini_hochberg(p),
        distance=float(np.linalg.norm(value)),
        distance_p=(1 + farther) / (1 + draws),
        n_target=int((labels == 1).sum()),
        n_control=int((labels == 0).sum()),
        exchanged=exchanged,
    )


def _between(values: np.ndarray, labels: np.ndarray, kind: str) -> np.ndarray:
    target, control = edge_values(
        each_alone([values[labels == 1], values[labels == 0]], kind), kind
    )
    return target - control
