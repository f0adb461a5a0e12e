"""Gaussian and copula: closed forms, the correction, what they are blind to, and permutations."""

import closed_forms as known
import numpy as np
import pytest
from scipy.stats import norm

from lmri.errors import EvidenceError
from lmri.information.gaussian import Whitened, gaussian, gaussian_copula, normal_ranks

DEVIATION = {  # of the notes' runs, of either estimator
    (1, 1_000): 0.029,
    (1, 10_000): 0.006,
    (5, 1_000): 0.024,
    (5, 10_000): 0.024,
    (20, 1_000): 0.104,
    (20, 10_000): 0.025,
}


@pytest.mark.parametrize("estimate", [gaussian, gaussian_copula])
@pytest.mark.parametrize(("d", "n"), DEVIATION)
def test_gaussians(estimate, d, n):
    x, y = known.gaussian_pair(n, d, 0.6)
    expected = known.gaussian_information(d, 0.6)
    assert estimate(x, y).value == pytest.approx(expected, abs=3 * DEVIATION[d, n])


def test_is_the_ratio_of_determinants():
    x, y = known.gaussian_pair(200, 3, 0.5)
    y = y[:, :2]
    both = np.cov(np.concatenate([x, y], axis=1), rowvar=False)
    ratio = np.linalg.det(np.cov(x.T)) * np.linalg.det(np.cov(y.T)) / np.linalg.det(both)
    assert gaussian(x, y, corrected=False).value == pytest.approx(0.5 * np.log(ratio), rel=1e-10)
    assert gaussian(y, x).value == pytest.approx(gaussian(x, y).value, rel=1e-10)


@pytest.mark.parametrize("estimate", [gaussian, gaussian_copula])
@pytest.mark.parametrize("d", [1, 5, 20])
def test_correction_takes_out_what_is_there_by_chance(estimate, d):
    raw, corrected = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(300, d)), rng.normal(size=(300, d))
        raw.append(estimate(x, y, corrected=False).value)
        corrected.append(estimate(x, y).value)
    assert np.mean(raw) == pytest.approx(d * d / 600, rel=0.35)
    assert abs(np.mean(corrected)) < 3 * np.std(corrected) / np.sqrt(20) + 0.002


@pytest.mark.parametrize("change", [norm.cdf, np.arcsinh, lambda v: np.sign(v) * np.abs(v) ** 1.5])
def test_copula_does_not_change_under_monotone_maps(change):
    x, y = known.gaussian_pair(500, 3, 0.75)
    assert gaussian_copula(change(x), y).value == gaussian_copula(x, y).value


def test_gaussian_does_not_change_under_linear_maps():
    x, y = known.gaussian_pair(500, 3, 0.75)
    turned = 7 + x @ np.random.default_rng(0).normal(size=(3, 3))
    assert gaussian(turned, y).value == pytest.approx(gaussian(x, y).value, abs=1e-9)


@pytest.mark.parametrize("n", [1_000, 10_000])
def test_copula_is_blind_to_magnitudes_and_tails(n):
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    assert abs(gaussian_copula(x, np.abs(x) + 0.1 * rng.normal(size=n)).value) < 0.01
    assert abs(gaussian_copula(*known.student_pair(n, 1, 1)).value) < 0.01
    assert "blind" in gaussian_copula.__doc__.lower()


def test_channel_with_gaussian_noise():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10_000, 5))
    t = x + np.sqrt(0.1) * rng.normal(size=x.shape)
    assert gaussian(x, t).value == pytest.approx(known.noisy_information(5, 0.1), abs=0.06)


@pytest.mark.parametrize(("dx", "dy"), [(1, 1), (4, 2), (2, 4)])
def test_permutations_are_estimates_of_permuted_samples(dx, dy):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, dx))
    y = x[:, :1] + rng.normal(size=(120, dy))
    orders = [rng.permutation(120) for _ in range(3)]
    fast = list(Whitened(x, y).permuted(orders))
    slow = [gaussian(x, y[order], corrected=False).value for order in orders]
    assert fast == pytest.approx(slow, abs=1e-12)


def test_ranks_are_normal():
    ranked = normal_ranks(np.array([[3.0], [-1.0], [10.0]]))
    assert ranked[:, 0] == pytest.approx(norm.ppf([0.5, 0.25, 0.75]))


def test_what_is_refused():
    x, y = known.gaussian_pair(20, 10, 0.5)
    with pytest.raises(EvidenceError, match=r"at least 22 samples.*Got 20"):
        gaussian(x, y)
    x, y = known.gaussian_pair(100, 2, 0.5)
    with pytest.raises(EvidenceError, match="determine each other"):
        gaussian(x, 2 * x)
    with pytest.raises(EvidenceError, match="must not follow from each other"):
        gaussian(np.concatenate([x, x.sum(axis=1, keepdims=True)], axis=1), y)
    with pytest.raises(EvidenceError, match="must be continuous"):
        gaussian_copula(np.sign(x), y)
