"""Bounds with Gaussian noise: closed form between them, scale, blocks, and labels."""

import math

import closed_forms as known
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lmri.errors import EvidenceError
from lmri.information import kernel
from lmri.information.kernel import adaptive_kde, kolchinsky_tracey, label_bounds


def slow_bound(t, variance, factor):
    own = np.exp(-(cdist(t, t) ** 2) / (factor * variance)).mean(axis=1)
    return -np.log(own).mean()


@pytest.mark.parametrize("block", [16, 1024])
def test_bounds_are_their_formulas(block, monkeypatch):
    monkeypatch.setattr(kernel, "BLOCK", block)
    _, t, y = known.wide_layer(70, 5)
    y = y % 3
    found = kolchinsky_tracey(t, y, noise=(0.7, 0.2), reference="absolute")
    names = [(e.estimator, e.quantity) for e in found[:4]]
    both = ("kt_upper", "kt_lower")
    assert names == [(b, q) for b in both for q in ("I(X;T)", "I(T;Y)")]
    for start, sd in ((0, 0.7), (4, 0.2)):
        for offset, factor in ((0, 2), (2, 8)):
            whole = slow_bound(t, sd**2, factor)
            within = sum(np.mean(y == c) * slow_bound(t[y == c], sd**2, factor) for c in range(3))
            assert found[start + offset].value == pytest.approx(whole, abs=1e-9)
            assert found[start + offset + 1].value == pytest.approx(whole - within, abs=1e-9)


@pytest.mark.parametrize(
    ("d", "upper", "lower"),
    [(1, 0.611, 0.218), (5, 2.898, 1.027)],  # of the notes' runs, n = 1,000
)
@pytest.mark.parametrize("n", [1_000, 10_000])
def test_truth_lies_between(d, upper, lower, n):
    t = np.random.default_rng(d).normal(size=(n, d))
    above, below = kolchinsky_tracey(t, noise=[1], reference="absolute")
    assert below.value < known.noisy_information(d, 1) < above.value
    if n == 1_000:
        assert (above.value, below.value) == pytest.approx((upper, lower), abs=0.12)


def test_many_dimensions_end_at_log_n():
    t = np.random.default_rng(0).normal(size=(500, 20))
    found = kolchinsky_tracey(t, noise=[math.sqrt(0.1)], reference="absolute")
    for own in found:
        assert own.value == pytest.approx(math.log(500), abs=1e-3)
        assert own.value < known.noisy_information(20, 0.1)  # not a bound of the population
        assert own.saturation > 0.99


def test_relative_noise_follows_the_scale():
    _, t, y = known.wide_layer(200, 4)
    for estimate in (kolchinsky_tracey, adaptive_kde):
        one, two = estimate(t, y), estimate(9 * t, y)
        assert [e.value for e in one] == pytest.approx([e.value for e in two])
        assert two[0].channel["scale"] == pytest.approx(9 * one[0].channel["scale"])
    shifted = kolchinsky_tracey(t + 100)  # what all samples share is not hidden by noise
    assert shifted[0].value == pytest.approx(kolchinsky_tracey(t)[0].value)


def test_adaptive_noise_is_a_share_of_the_squared_scale():
    _, t, _ = known.wide_layer(200, 4)
    found = adaptive_kde(t, variances=[0.04])
    assert found[0].channel["sd"] == pytest.approx(0.2 * np.abs(t).max())
    plain = kolchinsky_tracey(t, noise=[0.2], reference="maximum")
    assert found[0].value == plain[0].value
    assert len({e.channel["variance_share"] for e in adaptive_kde(t)}) == 5


@pytest.mark.parametrize("members", [1, 2**20])
def test_many_labellings_in_few_passes(members, monkeypatch):
    monkeypatch.setattr(kernel, "MEMBERS", members)
    _, t, y = known.wide_layer(120, 3)
    rng = np.random.default_rng(1)
    labellings = np.stack([y, rng.permutation(y), rng.permutation(y)])
    fast = label_bounds(t, 0.3, labellings)
    for number, own in enumerate(labellings):
        found = kolchinsky_tracey(t, own, noise=[0.3], reference="absolute")
        assert fast[:, number] == pytest.approx([found[1].value, found[3].value])


def test_wide_layers_are_saturated_for_random_labels():
    _, t, y = known.wide_layer(1_000, 64)
    found = kolchinsky_tracey(t, y, noise=[math.sqrt(1e-3)], reference="absolute")
    assert found[0].value == pytest.approx(6.908, abs=1e-3)
    assert found[1].value == pytest.approx(found[1].ceiling, abs=1e-3)


def test_what_is_refused():
    t = np.random.default_rng(0).normal(size=(10, 2))
    with pytest.raises(EvidenceError, match="must be above 0"):
        kolchinsky_tracey(t, noise=[0.1, 0])
    with pytest.raises(EvidenceError, match="must vary for noise"):
        kolchinsky_tracey(np.ones((10, 2)))
    with pytest.raises(EvidenceError, match="'reference' of noise"):
        adaptive_kde(t, reference="median")
    with pytest.raises(EvidenceError, match="same samples"):
        kolchinsky_tracey(t, np.arange(9) % 2)
