"""Random sets of units or layers that a chosen set is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from math import comb, prod

import numpy as np

Chosen = tuple[tuple[int, ...], ...]
"""Members of a set, pool by pool."""


def distinct_draws(
    pools: Sequence[Sequence[int]],
    own: Sequence[Sequence[int]],
    draws: int,
    rng: np.random.Generator,
) -> list[Chosen]:
    """Draw sets that differ from one another and from the one they are compared with.

    A set that is drawn again is no further evidence: where few exist, repeats make any p small.

    Parameters
    ----------
    pools : sequence of sequence of int
        What sets are drawn from.
    own : sequence of sequence of int
        The set they are compared with: as many are drawn from each pool.
    draws : int
        Sets asked for; all there are where fewer exist.
    rng : numpy.random.Generator
        Draws them.

    Returns
    -------
    list of tuple of tuple of int
        The sets.
    """
    itself = tuple(tuple(sorted(part)) for part in own)
    shares = [(sorted(pool), len(part)) for pool, part in zip(pools, own, strict=True)]
    count = prod(comb(len(pool), size) for pool, size in shares)
    count -= all(set(part) <= set(pool) for pool, part in zip(pools, own, strict=True))
    if count <= draws:
        every = product(*(combinations(pool, size) for pool, size in shares))
        return [chosen for chosen in every if chosen != itself]
    found: dict[Chosen, None] = {}
    while len(found) < draws:
        picks = [rng.choice(pool, size, replace=False) for pool, size in shares]
        chosen = tuple(tuple(sorted(pick.tolist())) for pick in picks)
        if chosen != itself:
            found[chosen] = None
    return list(found)
