"""Overlap of sets of units: of contrasts, tasks, subjects or checkpoints.

``Jaccard = |A ∩ B| / |A ∪ B|``, ``overlap coefficient = |A ∩ B| / min(|A|, |B|)``, and the
probability that two random sets of these sizes, out of N units, share at least as many: the upper
tail of the hypergeometric distribution.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from itertools import combinations

import pandas as pd
from scipy.stats import hypergeom

from lmri.errors import EvidenceError

COLUMNS = (
    "a",
    "b",
    "n_a",
    "n_b",
    "shared",
    "universe",
    "expected",
    "jaccard",
    "coefficient",
    "p",
)


def overlap(a: Collection[Hashable], b: Collection[Hashable], universe: int) -> dict[str, float]:
    """Compare two sets of units.

    Parameters
    ----------
    a, b : collection of hashable
        Units of one kind, as (layer, head) or (layer, expert, neuron).
    universe : int
        Units that could have been chosen.

    Returns
    -------
    dict of str to float
        ``n_a``, ``n_b``, ``shared``, ``universe``, ``expected`` (shared by chance), ``jaccard``,
        ``coefficient`` and ``p``. With an empty set the two ratios are NaN and p is 1.

    Raises
    ------
    EvidenceError
        If the sets hold more units than there are.
    """
    first, second = set(a), set(b)
    together = len(first | second)
    if together > universe:
        raise EvidenceError(
            f"The 'universe' of an overlap must be at least the units of both sets, {together}. "
            f"Got {universe}."
        )
    shared, smaller = len(first & second), min(len(first), len(second))
    return {
        "n_a": len(first),
        "n_b": len(second),
        "shared": shared,
        "universe": universe,
        "expected": len(first) * len(second) / universe if universe else float("nan"),
        "jaccard": shared / together if smaller else float("nan"),
        "coefficient": shared / smaller if smaller else float("nan"),
        "p": float(hypergeom.sf(shared - 1, universe, len(first), len(second))) if smaller else 1.0,
    }


def chance_of_significance(n_a: int, n_b: int, universe: int, alpha: float) -> float:
    """Probability that random sets of two sizes share so many units that ``p`` is at most a level.

    Sets share whole units, so it is below the level, and 0 where even equal sets are too likely.

    Parameters
    ----------
    n_a, n_b : int
        Sizes of the sets.
    universe : int
        Units that could have been chosen.
    alpha : float
        The level.

    Returns
    -------
    float
        At most ``alpha``.
    """
    chance = hypergeom(universe, n_a, n_b)
    return float(chance.sf(chance.isf(alpha)))


def overlap_table(sets: Mapping[str, Collection[Hashable]], universe: int) -> pd.DataFrame:
    """Compare every pair of sets: of contrasts, tasks, subjects or checkpoints.

    Parameters
    ----------
    sets : mapping of str to collection of hashable
        Units of one kind by name.
    universe : int
        Units that could have been chosen, the same for all.

    Returns
    -------
    DataFrame
        One row a pair, in the order of the names: :data:`COLUMNS`. The p-values are those of
        single pairs.

    Raises
    ------
    EvidenceError
        As :func:`overlap`, with the names of the pair.
    """
    rows = []
    for a, b in combinations(sets, 2):
        try:
            rows.append({"a": a, "b": b, **overlap(sets[a], sets[b], universe)})
        except EvidenceError as error:
            raise EvidenceError(f"'{a}' and '{b}': {error}") from None
    return pd.DataFrame(rows, columns=list(COLUMNS))
