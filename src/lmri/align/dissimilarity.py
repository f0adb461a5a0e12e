"""Representational dissimilarity: which items a layer tells apart, compared between subjects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmri.align.carriers import folds_of
from lmri.align.ranks import rank_p
from lmri.checks import check_columns
from lmri.errors import EvidenceError

LEAST_ITEMS = 5
"""Items, at least: fewer have at most 6 distances to be correlated."""

MOST_ITEMS = 200
"""Items, at most: draws of an interval are of all pairs of them."""

LEAST_PARTITIONS = 2
MOST_PARTITIONS = 4
UNITS_AT_ONCE = 512
"""Units of a call: rsatoolbox makes a matrix of units by units for the noise."""


@dataclass(frozen=True)
class Design:
    """Items whose distances are estimated, and repeats of them that are independent.

    Attributes
    ----------
    rows : ndarray of shape (n,), int64
        Trials that are used.
    items, partitions : ndarray of shape (n,), int64
        Item and partition of each.
    names : tuple of str
        Names of the items.
    item, partition : str
        What they are.
    dropped : int
        Items that are not in every partition, or beyond :data:`MOST_ITEMS`.
    """

    rows: np.ndarray
    items: np.ndarray
    partitions: np.ndarray
    names: tuple[str, ...]
    item: str
    partition: str
    dropped: int


def design_of(
    table: pd.DataFrame, carriers: tuple[str, ...], seed: int = 0, item: str | None = None
) -> Design:
    """Choose items and partitions of trials.

    Items are the values of the first carrier, and partitions what repeats them with other words:
    template families where there are several, else the values of another carrier in
    :data:`MOST_PARTITIONS` parts, else conditions.

    Parameters
    ----------
    table : DataFrame
        Trials.
    carriers : tuple of str
        Carriers of the task.
    seed : int
        Seed of the parts.
    item : str, optional
        Column of the items; by default the first carrier, without any the condition.

    Returns
    -------
    Design
        Items that are in every partition.

    Raises
    ------
    EvidenceError
        If nothing repeats the items, or fewer than :data:`LEAST_ITEMS` are in every partition.
    """
    item = item or (f"carrier_{carriers[0]}" if carriers else "condition")
    check_columns(table.columns, [item], "of trials", EvidenceError)
    partition, codes = _partitions(table, carriers, item, seed)
    counts = pd.crosstab(table[item].to_numpy(), codes)
    kept = counts.index[(counts > 0).all(axis=1)]
    if len(kept) < LEAST_ITEMS:
        raise EvidenceError(
            f"Dissimilarities must be of {LEAST_ITEMS} items or more that are repeated in every "
            f"partition. {len(kept)} of {len(counts)} values of '{item}' are in all "
            f"{counts.shape[1]} partitions by '{partition}': record more trials of each."
        )
    if len(kept) > MOST_ITEMS:
        drawn = np.random.default_rng(seed).permutation(len(kept))[:MOST_ITEMS]
        kept = kept[np.sort(drawn)]
    rows = np.flatnonzero(table[item].isin(kept))
    items, names = pd.factorize(table[item].to_numpy()[rows], sort=True)
    return Design(
        rows,
        items,
        codes[rows],
        tuple(map(str, names)),
        item,
        partition,
        len(counts) - len(kept),
    )


def crossnobis(batches: Iterable[np.ndarray], design: Design) -> np.ndarray:
    """Estimate squared distances between items, without the bias of noise.

    d_ij = (x_i - x_j)' S^-1 (x_i - x_j) / P with one factor from a partition and the other from the
    mean of all others, averaged over partitions; S is diagonal, the variance of each unit around
    the means of items and of partitions. 0 on average for items that are alike; it may be negative.

    Parameters
    ----------
    batches : iterable of ndarray of shape (n_trials, n_units of the batch)
        Activity of all trials of the table of the design.
    design : Design
        Items and partitions.

    Returns
    -------
    ndarray of shape (n_items (n_items - 1) / 2,), float64
        Above the diagonal, row by row.

    Raises
    ------
    EvidenceError
        If no unit varies.

    References
    ----------
    A. Walther et al., Reliability of dissimilarity measures for multi-voxel pattern analysis,
    NeuroImage 137 (2016); rsatoolbox.
    """
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    total, units = 0.0, 0
    for batch in batches:
        for start in range(0, batch.shape[1], UNITS_AT_ONCE):
            own = _by_noise(batch[design.rows, start : start + UNITS_AT_ONCE], design)
            if not own.shape[1]:
                continue
            data = Dataset(
                own,
                obs_descriptors={
                    "item": design.items.astype(float).tolist(),
                    "partition": design.partitions.astype(float).tolist(),
                },
            )
            found = calc_rdm(
                data, method="crossnobis", descriptor="item", cv_descriptor="partition"
            )
            total = total + found.dissimilarities[0] * own.shape[1]
            units += own.shape[1]
    if not units:
        raise EvidenceError("Dissimilarities must be of units that vary. No unit does.")
    return np.asarray(total / units)


@dataclass(frozen=True)
class Comparison:
    """Correlation of two dissimilarity matrices.

    Attributes
    ----------
    value : float
        Pearson correlation of the distances.
    low, high : float
        95 % interval over items, drawn with replacement.
    p : float
        One-sided, of items that change places.
    """

    value: float
    low: float
    high: float
    p: float


def compare(one: np.ndarray, other: np.ndarray, draws: int = 499, seed: int = 0) -> Comparison:
    """Compare dissimilarities of the same items.

    Parameters
    ----------
    one, other : ndarray of shape (n_pairs,)
        From :func:`crossnobis`.
    draws, seed : int
        Of the interval and the null.

    Returns
    -------
    Comparison
        NaN where all distances of one are the same.

    Raises
    ------
    EvidenceError
        If they are of different numbers of items.
    """
    if one.shape != other.shape:
        raise EvidenceError(
            f"Dissimilarities must be of the same items to be compared. Got {len(one)} and "
            f"{len(other)} distances."
        )
    first, second = _square(one), _square(other)
    items = len(first)
    rng = np.random.default_rng(seed)
    rows, columns = np.triu_indices(items, 1)
    resampled = rng.integers(items, size=(draws, items))
    a = first[resampled[:, rows], resampled[:, columns]]
    b = second[resampled[:, rows], resampled[:, columns]]
    # An item drawn twice has no distance to itself.
    a[resampled[:, rows] == resampled[:, columns]] = np.nan
    moved = np.stack([rng.permutation(items) for _ in range(draws)])
    value = float(_correlation(one, other))
    null = _correlation(one, second[moved[:, rows], moved[:, columns]])
    around = _correlation(a, b)
    around = around[np.isfinite(around)]
    low, high = np.quantile(around, (0.025, 0.975)) if len(around) else (np.nan, np.nan)
    return Comparison(value, float(low), float(high), rank_p(null, value))


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson correlation over the last axis, of entries that are there."""
    known = np.isfinite(one) & np.isfinite(other)
    count = known.sum(axis=-1, keepdims=True)
    sides = []
    for own in (one, other):
        own = np.where(known, own, 0.0)
        centred = np.where(known, own - own.sum(axis=-1, keepdims=True) / count, 0.0)
        sides.append(centred)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sides[0] * sides[1]).sum(axis=-1) / np.sqrt(
            (sides[0] ** 2).sum(axis=-1) * (sides[1] ** 2).sum(axis=-1)
        )


def _square(distances: np.ndarray) -> np.ndarray:
    items = round((1 + np.sqrt(1 + 8 * len(distances))) / 2)
    matrix = np.zeros((items, items))
    rows, columns = np.triu_indices(items, 1)
    matrix[rows, columns] = matrix[columns, rows] = distances
    return matrix


def _by_noise(values: np.ndarray, design: Design) -> np.ndarray:
    """Divide units by their deviation around items and partitions; constant ones are left out."""
    values = np.asarray(values, dtype=np.float64)
    left = values - values.mean(axis=0)
    for codes in (design.items, design.partitions):
        total = np.zeros((int(codes.max()) + 1, values.shape[1]))
        np.add.at(total, codes, left)
        left = left - (total / np.maximum(np.bincount(codes), 1)[:, None])[codes]
    freedom = len(left) - int(design.items.max()) - int(design.partitions.max()) - 1
    spread = np.sqrt((left**2).sum(axis=0) / max(freedom, 1))
    varies = spread > 1e-9 * np.abs(values).max(axis=0)
    return values[:, varies] / spread[varies]


def _partitions(
    table: pd.DataFrame, carriers: tuple[str, ...], item: str, seed: int
) -> tuple[str, np.ndarray]:
    """Choose what repeats the items: its name, and the partition of every trial."""
    if "family" in table and table["family"].nunique() >= LEAST_PARTITIONS:
        return "family", pd.factorize(table["family"], sort=True)[0]
    for name in carriers:
        values = table[f"carrier_{name}"].to_numpy()
        if f"carrier_{name}" != item and len(np.unique(values)) >= LEAST_PARTITIONS:
            count = min(MOST_PARTITIONS, len(np.unique(values)))
            codes = np.empty(len(table), dtype=np.int64)
            for number, rows in enumerate(folds_of(values, count, seed)):
                codes[rows] = number
            return name, codes
    repeated = table["condition"].nunique() if item != "condition" else 0
    if repeated >= LEAST_PARTITIONS:
        return "condition", pd.factorize(table["condition"], sort=True)[0]
    raise EvidenceError(
        f"Dissimilarities must be of items that are repeated in {LEAST_PARTITIONS} partitions or "
        f"more. Nothing repeats '{item}': it takes template families, another carrier, or several "
        "conditions of each item."
    )
