"""Entropies by neighbours: the Gaussian, the weights, and labels."""

import math

import closed_forms as known
import numpy as np
import pytest
from scipy.special import gamma

from lmri.errors import EvidenceError
from lmri.information.entropy import kozachenko_leonenko, label_information, neighbour_weights


def gaussian_entropy(d):
    return 0.5 * d * math.log(2 * math.pi * math.e)


@pytest.mark.parametrize(("n", "tolerance"), [(1_000, 0.1), (10_000, 0.04)])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_entropy_of_a_gaussian(d, n, tolerance):
    x = np.random.default_rng(d).normal(size=(n, d))
    assert kozachenko_leonenko(x).value == pytest.approx(gaussian_entropy(d), abs=d * tolerance)


def test_entropy_of_a_scaled_uniform():
    x = 3 * np.random.default_rng(0).random(5_000)
    assert kozachenko_leonenko(x).value == pytest.approx(math.log(3), abs=0.04)


@pytest.mark.parametrize(("k", "d"), [(10, 4), (20, 8), (30, 12)])
def test_weights_meet_their_conditions(k, d):
    w = neighbour_weights(k, d)
    j = np.arange(1, k + 1)
    assert w.sum() == pytest.approx(1)
    for power in range(1, d // 4 + 1):
        assert (w * gamma(j + 2 * power / d) / gamma(j)).sum() == pytest.approx(0, abs=1e-6)
    used = {i * k // d for i in range(1, d + 1)}
    assert set(np.flatnonzero(w) + 1) <= used


def test_weights_in_few_dimensions_are_plain():
    assert neighbour_weights(5, 3).tolist() == [0, 0, 0, 0, 1]
    x = np.random.default_rng(0).normal(size=(500, 2))
    plain, weighted = (kozachenko_leonenko(x, weighted=own).value for own in (False, True))
    assert weighted == plain


def test_weighted_has_less_bias_in_five_dimensions():
    samples = [np.random.default_rng(seed).normal(size=(2_000, 5)) for seed in range(6)]
    plain, weighted = (
        np.mean([kozachenko_leonenko(x, k=10, weighted=own).value for x in samples])
        for own in (False, True)
    )
    assert abs(weighted - gaussian_entropy(5)) < 0.8 * abs(plain - gaussian_entropy(5))


@pytest.mark.parametrize("n", [1_000, 10_000])
def test_labels_of_steps(n):
    x, y = known.stepped_pair(n, 5)
    tolerance = 0.08 if n == 1_000 else 0.03
    expected = known.stepped_information(5)
    assert label_information(y, x).value == pytest.approx(expected, abs=tolerance)


def test_labels_without_a_relation():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(2_000, 2)), rng.integers(0, 4, 2_000)
    # Entropies within classes come from fewer samples: a small bias is left.
    assert abs(label_information(x, labels).value) < 0.05


def test_what_is_refused():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    with pytest.raises(EvidenceError, match="at least 6 samples"):
        label_information(x, np.arange(200) < 3)
    with pytest.raises(EvidenceError, match="must have at least 4 neighbours"):
        kozachenko_leonenko(rng.normal(size=(200, 12)), k=2, weighted=True)
    x[1] = x[0]
    assert np.isfinite(kozachenko_leonenko(x, k=5).value)
    with pytest.raises(EvidenceError, match="2 repeat another"):
        kozachenko_leonenko(x, k=1)
