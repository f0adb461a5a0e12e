"""Sets that something is compared with are distinct, and never that thing itself."""

import numpy as np
import pytest

from lmri.decode.draws import distinct_draws


@pytest.mark.parametrize(
    ("pools", "own", "exist"),
    [
        ([[2, 3]], [[0, 1]], 1),
        ([range(4)], [[0, 1, 2]], 3),
        ([[1, 2, 3], [0, 1, 2]], [[0], [3]], 9),
        ([range(4), range(2)], [[2, 0, 1], [0, 1]], 3),
    ],
)
def test_all_sets_are_taken_where_few_exist(pools, own, exist):
    found = distinct_draws(pools, own, 39, np.random.default_rng(0))
    assert len(found) == len(set(found)) == exist
    assert tuple(tuple(sorted(part)) for part in own) not in found
    for chosen in found:
        for pool, part, drawn in zip(pools, own, chosen, strict=True):
            assert len(set(drawn)) == len(part)
            assert set(drawn) <= set(pool)


@pytest.mark.parametrize("draws", [39, 44])
def test_many_are_drawn_without_repeats(draws):
    # Of ten units 45 pairs exist, the chosen one among them.
    found = distinct_draws([range(10)], [[4, 7]], draws, np.random.default_rng(0))
    assert len(found) == len(set(found)) == draws
    assert ((4, 7),) not in found
