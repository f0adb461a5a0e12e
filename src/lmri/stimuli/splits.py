"""Splits: which carriers are for selection, calibration and evaluation.

Splits are drawn once per task over carriers (a place, a year, an entity), never over trials: a
trial belongs to a split only if all of its carriers do. The draw depends on the name of the
carrier, on the set of its values with their classes, on the shares and on the seed. The same set
of carriers therefore gets the same splits in every task; a task with fewer of them, or with other
shares, draws them anew. :func:`lmri.preflight.inputs.check_inputs` refuses a contrast that would
then select on an entity in one task and evaluate on it in another.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lmri.config import SPLITS, SplitOptions


def split_carriers(
    classes: Mapping[str, str], carrier: str, shares: SplitOptions, seed: int
) -> dict[str, str]:
    """Assign every carrier to a split, in the same shares within each class.

    Parameters
    ----------
    classes : mapping of str to str
        Class of every carrier value, for example "sensitive" or "null".
    carrier : str
        Name of the carrier, for example "place"; enters the seed.
    shares : SplitOptions
        Shares of the splits.
    seed : int
        Seed of the study.

    Returns
    -------
    dict of str to str
        Split of every carrier value.
    """
    # crc32, not hash(): the latter differs between processes.
    rng = np.random.default_rng([seed, zlib.crc32(carrier.encode())])
    splits: dict[str, str] = {}
    for kind in sorted(set(classes.values())):
        members = sorted(value for value, own in classes.items() if own == kind)
        order = rng.permutation(members)
        for value, split in zip(order, _split_sequence(len(members), shares), strict=True):
            splits[str(value)] = split
    return splits


def assign_splits(
    trials: pd.DataFrame, carriers: Sequence[str], shares: SplitOptions, seed: int
) -> pd.DataFrame:
    """Add a ``split`` column and drop trials whose carriers are in different splits.

    Parameters
    ----------
    trials : DataFrame
        With ``carrier_<name>`` and ``class_<name>`` for every carrier.
    carriers : sequence of str
        Names of the carriers.
    shares : SplitOptions
        Shares of the splits.
    seed : int
        Seed of the study.

    Returns
    -------
    DataFrame
        The trials that belong to one split, in their order.
    """
    per_carrier = []
    for carrier in carriers:
        column = f"carrier_{carrier}"
        classes = dict(zip(trials[column], trials[f"class_{carrier}"], strict=True))
        splits = split_carriers(classes, carrier, shares, seed)
        per_carrier.append(trials[column].map(splits))
    agree = pd.concat(per_carrier, axis=1).nunique(axis=1) == 1
    return trials.assign(split=per_carrier[0])[agree].reset_index(drop=True)


def _split_sequence(count: int, shares: SplitOptions) -> list[str]:
    edges = np.cumsum([getattr(shares, name) for name in SPLITS]) / sum(
        getattr(shares, name) for name in SPLITS
    )
    stops = np.round(edges * count).astype(int)
    sizes = np.diff(np.concatenate([[0], stops]))
    return [name for name, size in zip(SPLITS, sizes, strict=True) for _ in range(size)]
