"""Sensitive units: those whose activity does not settle towards the end of training.

``V_i = Var(e_i) Σ_t |e_i^t - e_i^(t-1)|`` over the last checkpoints, for each text, and then
averaged over texts (SenD, arXiv:2410.15460). The released code takes the variance over the texts of
an averaged epoch, and of the changes only the first text's.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from scipy.stats import spearmanr

from lmri.checks import check_range
from lmri.errors import EvidenceError

CHANGES = 3
"""Changes between checkpoints that count, hence one checkpoint more."""

SHARE = 0.2

UNSTABLE = 0.5
"""Rank correlation of two halves of the texts below which a ranking is flagged ``instability``."""


def sensitive_units(
    texts: Iterable[np.ndarray], *, changes: int = CHANGES, share: float = SHARE
) -> xr.Dataset:
    """Find the units whose activity varies most over the last checkpoints.

    Parameters
    ----------
    texts : iterable of ndarray of shape (checkpoints, units) or (n, checkpoints, units)
        Activity of each text, or of some at a time, at ascending steps. Memory does not grow with
        their number.
    changes : int
        Changes that count, from the last back.
    share : float
        Share of the units that are selected, above 0 and at most 1.

    Returns
    -------
    Dataset
        Over unit: ``variability``, mean over texts; ``rank``, 0 the most variable; ``selected``,
        the first ``ceil(share · units)`` of them that vary at all. Attributes ``texts``,
        ``changes``, ``halves`` (Spearman correlation of the variability in two halves of the
        texts) and ``flags``: ``instability`` if that is below .5, ``few_samples`` of fewer than 10
        texts, joined by commas.

    Raises
    ------
    EvidenceError
        If there are fewer than ``changes + 1`` checkpoints, no text, other units in a text, or a
        value is not finite.
    """
    check_range(changes, "changes", "the sensitive units", low=1, error=EvidenceError)
    check_range(share, "share", "the sensitive units", np.nextafter(0, 1), 1, EvidenceError)
    halves: list[np.ndarray | float] = [0.0, 0.0]
    counts = [0, 0]
    for chunk in texts:
        for own in variability(chunk, changes):
            half = sum(counts) % 2
            if np.ndim(halves[0]) and halves[0].shape != own.shape:
                raise EvidenceError(
                    f"Sensitive units must be the same in every text. Got {halves[0].size} and "
                    f"{own.size}."
                )
            halves[half] = halves[half] + own
            counts[half] += 1
    total = sum(counts)
    if not total:
        raise EvidenceError("Sensitive units must be found in texts. Got none.")
    mean = (halves[0] + halves[1]) / total
    order = np.argsort(-mean, kind="stable")
    rank = np.empty(len(mean), dtype=np.int64)
    rank[order] = np.arange(len(mean))
    agreement = _agreement(halves) if counts[1] else float("nan")
    flags = (("instability", not agreement >= UNSTABLE), ("few_samples", total < 10))
    return xr.Dataset(
        {
            "variability": ("unit", mean),
            "rank": ("unit", rank),
            "selected": ("unit", (rank < np.ceil(share * len(mean))) & (mean > 0)),
        },
        attrs={
            "texts": total,
            "changes": changes,
            "halves": agreement,
            "flags": ",".join(name for name, raised in flags if raised),
        },
    )


def variability(activity: np.ndarray, changes: int = CHANGES) -> np.ndarray:
    """Variability of every unit in every text.

    Parameters
    ----------
    activity : ndarray of shape (checkpoints, units) or (n, checkpoints, units)
        Activity at ascending steps.
    changes : int
        Changes that count, from the last back; the variance is over the checkpoints they join.

    Returns
    -------
    ndarray of shape (n, units), float64
        0 of a unit that does not change; c³ times as large for activity times c.

    Raises
    ------
    EvidenceError
        If there are too few checkpoints, or a value is not finite.
    """
    activity = np.asarray(activity, dtype=np.float64)
    activity = activity[None] if activity.ndim == 2 else activity
    if activity.ndim != 3 or activity.shape[1] < changes + 1:
        raise EvidenceError(
            f"Sensitive units must have at least {changes + 1} checkpoints. Got the shape "
            f"{activity.shape} of (texts, checkpoints, units)."
        )
    if not np.isfinite(activity).all():
        raise EvidenceError("Activity of sensitive units must be finite. Some is not.")
    last = activity[:, -changes - 1 :]
    return last.var(axis=1) * np.abs(np.diff(last, axis=1)).sum(axis=1)


def _agreement(halves: list[np.ndarray | float]) -> float:
    first, second = np.asarray(halves[0]), np.asarray(halves[1])
    if not np.ptp(first) > 0 or not np.ptp(second) > 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)
