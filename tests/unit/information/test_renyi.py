"""Matrix-based information: its ends, and the width that decides."""

import math

import closed_forms as known
import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.renyi import matrix_renyi


def test_labels_against_themselves_give_their_entropy():
    y = np.repeat(np.arange(4), 25)
    far = 1e3 * y[:, None] + 1e-3 * np.random.default_rng(0).normal(size=(100, 1))
    found = matrix_renyi(far, y, labels=True, width=0.01)
    assert found.value == pytest.approx(math.log(4), abs=0.01)


def test_narrow_kernels_are_saturated():
    _, t, y = known.wide_layer(300, 64)
    wide, narrow = (matrix_renyi(t, y, labels=True, width=own) for own in (1.0, 0.1))
    assert wide.saturation < 0.6
    assert narrow.saturation == pytest.approx(1, abs=1e-3)
    assert narrow.value == pytest.approx(math.log(10), abs=0.05)  # for random labels


def test_symmetric_and_larger_where_there_is_a_relation():
    x, y = known.gaussian_pair(200, 2, 0.9)
    shuffled = np.random.default_rng(1).permutation(y)
    assert matrix_renyi(x, y).value == pytest.approx(matrix_renyi(y, x).value, abs=1e-9)
    assert matrix_renyi(x, y).value > matrix_renyi(x, shuffled).value + 0.1
    assert matrix_renyi(5 * x, y).value == pytest.approx(matrix_renyi(x, y).value, abs=1e-9)


def test_what_is_refused():
    x = np.random.default_rng(0).normal(size=(10, 2))
    with pytest.raises(EvidenceError, match="must differ"):
        matrix_renyi(np.ones((10, 1)), x)
    for wrong in ({"alpha": 1}, {"width": 0}):
        with pytest.raises(EvidenceError, match=f"'{next(iter(wrong))}' of matrix_renyi"):
            matrix_renyi(x, x, **wrong)
    with pytest.raises(EvidenceError, match=r"must be in \[2, 5000\]"):
        matrix_renyi(np.arange(5001), np.arange(5001))
