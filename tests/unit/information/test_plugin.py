"""Discrete variables: closed forms, the bias and its correction, and routing."""

import math

import closed_forms as known
import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.plugin import choice_information, expert_information, plug_in


@pytest.mark.parametrize(("n", "tolerance"), [(1_000, 0.06), (10_000, 0.02)])
def test_closed_forms(n, tolerance):
    rng = np.random.default_rng(0)
    bit = rng.integers(0, 2, n)
    flipped = bit ^ (rng.random(n) < 0.1)
    expected = known.flipped_information(0.1)
    assert plug_in(bit, flipped).value == pytest.approx(expected, abs=tolerance)
    symbols = rng.integers(0, 8, n)
    found = plug_in(symbols, symbols)
    assert found.value == pytest.approx(math.log(8), abs=tolerance)
    assert found.ceiling == pytest.approx(math.log(8), abs=0.01)


@pytest.mark.parametrize(("k", "n", "bias"), [(10, 1_000, 0.0398), (10, 10_000, 0.00405)])
def test_bias_of_independent_symbols(k, n, bias):
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, k, n), rng.integers(0, k, n)) for _ in range(20)]
    raw = [plug_in(x, y, correction="none").value for x, y in pairs]
    corrected = [plug_in(x, y).value for x, y in pairs]
    assert np.mean(raw) == pytest.approx(bias, rel=0.1)
    assert abs(np.mean(corrected)) < 0.1 * bias


def test_names_do_not_matter():
    x = np.array(["a", "b", "a", "c", "b", "a"])
    y = np.array([True, False, True, True, False, True])
    assert plug_in(x, y).value == plug_in(y, x).value
    assert plug_in(x, y, correction="none").value == pytest.approx(math.log(3) - math.log(2) / 1.5)


def test_each_expert_is_a_table_of_two():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    chosen = rng.random((500, 4)) < 0.3
    chosen[:, 1] = labels == 2
    chosen[:, 2] = True
    found = expert_information(chosen, labels)
    expected = [plug_in(chosen[:, e], labels).value for e in (0, 1, 3)]
    assert found[[0, 1, 3]] == pytest.approx(expected)
    assert found[2] == 0
    assert found.argmax() == 1


def test_choice_of_one_token_is_the_plug_in():
    rng = np.random.default_rng(0)
    experts, labels = rng.integers(0, 5, 200), rng.integers(0, 3, 200)
    rates = np.eye(5)[experts]
    labellings = np.stack([labels, rng.permutation(labels)])
    expected = [plug_in(experts, own, correction="none").value for own in labellings]
    assert choice_information(rates, labellings) == pytest.approx(expected)


def test_what_is_refused():
    with pytest.raises(EvidenceError, match="same samples"):
        plug_in(np.arange(4), np.arange(5))
    with pytest.raises(EvidenceError, match="'correction' of plug_in"):
        plug_in(np.arange(4), np.arange(4), correction="nsb")
    with pytest.raises(EvidenceError, match="must be finite"):
        plug_in(np.array([0.0, np.nan]), np.arange(2))
