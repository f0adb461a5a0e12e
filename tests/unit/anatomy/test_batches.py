"""Batches of equal and of similar length: every row once, within the limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmri.anatomy import equal_length_batches, pad, similar_length_batches


def test_batches_hold_rows_of_one_length_in_their_order():
    batches = [b.tolist() for b in equal_length_batches([5, 3, 5, 3, 3, 9], 2)]
    assert batches == [[1, 3], [4], [0, 2], [5]]


def test_no_rows_no_batches():
    assert list(equal_length_batches([], 4)) == []


def test_batches_bound_rows_padding_and_tokens():
    lengths = [5, 3, 5, 3, 3, 9]
    assert grouped(lengths, 6, 1.0) == [[1, 3, 4, 0, 2, 5]]
    assert grouped(lengths, 6, 0.0) == [[1, 3, 4], [0, 2], [5]]
    # 3 + 3 + 3 + 5 of 20 are 6 padded: 30 %; of a batch of four the share is above a quarter.
    assert grouped(lengths, 6, 0.25) == [[1, 3, 4], [0, 2], [5]]
    assert grouped(lengths, 6, 0.3) == [[1, 3, 4, 0, 2], [5]]
    assert grouped(lengths, 6, 1.0, 12) == [[1, 3, 4], [0, 2], [5]]
    assert grouped([30, 2], 6, 1.0, 12) == [[1], [0]]  # a longer row runs alone


def grouped(*arguments):
    return [batch.tolist() for batch in similar_length_batches(*arguments)]


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 6), st.floats(0, 0.9))
def test_every_row_is_in_one_batch_and_no_batch_wastes_more(lengths, rows, padding):
    batches = list(similar_length_batches(lengths, rows, padding))
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(lengths)))
    for batch in batches:
        own = np.array(lengths)[batch]
        assert len(batch) <= rows
        assert own.max() * len(own) - own.sum() <= padding * own.max() * len(own) + 1e-9


@pytest.mark.parametrize("left", [True, False])
def test_padding_is_on_the_asked_side(left):
    ids, real = pad([[4, 5], [6]], 9, left=left)
    assert ids.tolist() == ([[4, 5], [9, 6]] if left else [[4, 5], [6, 9]])
    assert real.tolist() == (
        [[True, True], [False, True]] if left else [[True, True], [True, False]]
    )
