"""Nearest neighbours: closed forms, their known bias, and the same bits on every way."""

import closed_forms as known
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.special import digamma
from scipy.stats import norm
from sklearn.feature_selection import mutual_info_classif

from lmri.errors import EvidenceError
from lmri.information.distances import count_within
from lmri.information.gaussian import gaussian_copula, normal_ranks
from lmri.information.geometry import two_nearest_dimension
from lmri.information.neighbours import _pair_terms, _tree_terms, ksg, ross


def slow_ksg(x, y, k, variant):
    """The formulas, by trees and by every pair in turn."""
    n, joint = len(x), np.concatenate([x, y], axis=1)
    distances, near = cKDTree(joint).query(joint, k=k + 1, p=np.inf)
    total = 0.0
    for i in range(n):
        for part in (x, y):
            own = np.abs(part - part[i]).max(axis=1)
            if variant == 1:
                total += digamma(np.sum(own < distances[i, -1]))
            else:
                total += digamma(np.sum(own <= own[near[i, 1:]].max()) - 1)
    return digamma(k) + digamma(n) - (1 / k if variant == 2 else 0) - total / n


@pytest.mark.parametrize("variant", [1, 2])
@pytest.mark.parametrize("d", [1, 2, 6])
def test_ksg_is_its_formula(d, variant):
    x, y = known.gaussian_pair(300, d, 0.7)
    got = ksg(x, y, k=4, variant=variant)
    assert got.value == pytest.approx(slow_ksg(x, y, 4, variant), abs=1e-12)
    assert got.estimator == f"ksg{variant}"
    assert got.channel == {"neighbours": 4, "norm": "maximum"}


@pytest.mark.parametrize("variant", [1, 2])
@pytest.mark.parametrize("d", [1, 2])
def test_tree_and_pairs_count_the_same(d, variant):
    x, y = known.gaussian_pair(700, d, 0.6)
    x[::9] = np.round(x[::9], 2)  # distances that are equal
    assert np.array_equal(_tree_terms(x, y, 3, variant), _pair_terms(x, y, 3, variant))


@pytest.mark.parametrize(
    ("d", "n", "expected", "tolerance"),
    [
        # In one dimension the truth; beyond, the notes' value of a known bias: mean, 4 deviations.
        (1, 1_000, 0.223, 0.12),
        (1, 10_000, 0.223, 0.03),
        (5, 1_000, 0.786, 0.10),
        (5, 10_000, 0.947, 0.06),
        (20, 1_000, 0.836, 0.15),
        (20, 10_000, 1.236, 0.06),
    ],
)
def test_ksg_of_gaussians(d, n, expected, tolerance):
    x, y = known.gaussian_pair(n, d, 0.6)
    found = ksg(x, y).value
    assert found == pytest.approx(expected, abs=tolerance)
    assert found < known.gaussian_information(d, 0.6) + 0.05


@pytest.mark.parametrize("n", [1_000, 10_000])
@pytest.mark.parametrize("width", [0.1, 0.75])
def test_ksg_of_added_uniform_noise(n, width):
    x, y = known.uniform_pair(n, width)
    bias, sd = {1_000: (0.05, 0.05), 10_000: (0.02, 0.015)}[n]
    assert ksg(x, y).value == pytest.approx(known.uniform_information(width), abs=bias + 2 * sd)


@pytest.mark.parametrize(("n", "tolerance"), [(1_000, 0.10), (10_000, 0.03)])
def test_ksg_of_heavy_tails_by_ranks(n, tolerance):
    assert known.student_information(1, 1) == pytest.approx(0.2242, abs=1e-4)
    x, y = known.student_pair(n, 1, 1)
    ranked = ksg(normal_ranks(x), normal_ranks(y)).value
    assert ranked == pytest.approx(known.student_information(1, 1), abs=tolerance)


@pytest.mark.parametrize(
    ("n", "expected", "tolerance"), [(1_000, 0.24, 0.1), (10_000, 0.218, 0.05)]
)
def test_ksg_reads_heavy_tails_in_five_dimensions_low(n, expected, tolerance):
    assert known.student_information(5, 2) == pytest.approx(0.448, abs=1e-3)
    found = ksg(*known.student_pair(n, 5, 2)).value
    assert found == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("n", "tolerance"), [(1_000, 0.13), (10_000, 0.035)])
@pytest.mark.parametrize("rho", [0.75, 0.9])
def test_ksg_of_one_pair(rho, n, tolerance):
    x, y = known.gaussian_pair(n, 1, rho)
    expected = known.gaussian_information(1, rho)
    assert ksg(x, y).value == pytest.approx(expected, abs=tolerance)
    half_cube = ksg(np.sign(x) * np.abs(x) ** 1.5, y).value
    assert half_cube == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    "change", [norm.cdf, np.arcsinh, lambda v: v + 0.4 * np.sin(v) + 0.2 * np.sin(1.7 * v)]
)
def test_ksg_hardly_moves_under_monotone_maps(change):
    x, y = known.gaussian_pair(4_000, 1, 0.75)
    assert ksg(change(x), y).value == pytest.approx(ksg(x, y).value, abs=0.03)


def test_a_spiral_keeps_information_that_gaussians_lose():
    x, y = known.gaussian_pair(4_000, 2, 0.9)
    truth = known.gaussian_information(2, 0.9)
    slow, fast = (known.twisted(x, speed) for speed in (0.1, 0.7))
    assert ksg(slow, y).value == pytest.approx(truth, abs=0.1)
    assert truth + 0.05 > ksg(fast, y).value > 2 * gaussian_copula(fast, y).value


@pytest.mark.parametrize(("n", "tolerance"), [(1_000, 0.13), (10_000, 0.05)])
@pytest.mark.parametrize("variance", [1.0, 0.1])
def test_ksg_of_gaussian_noise(variance, n, tolerance):
    rng = np.random.default_rng(3)
    x = rng.normal(size=n)
    found = ksg(x, x + np.sqrt(variance) * rng.normal(size=n)).value
    assert found == pytest.approx(known.noisy_information(1, variance), abs=tolerance)


def test_ksg_sees_what_is_not_monotone():
    rng = np.random.default_rng(0)
    x = rng.normal(size=1_000)
    assert ksg(x, np.abs(x) + 0.1 * rng.normal(size=1_000)).value > 1.5


def test_ksg_in_many_coordinates_of_few_dimensions():
    z, w = known.gaussian_pair(1_000, 2, 0.9)
    rng = np.random.default_rng(5)
    x, y = (
        part @ rng.normal(size=(2, 50)) + 0.01 * rng.normal(size=(1_000, 50)) for part in (z, w)
    )
    assert two_nearest_dimension(z) == pytest.approx(2, abs=0.3)
    assert two_nearest_dimension(z) <= 2
    wide = z @ rng.normal(size=(2, 50))
    assert two_nearest_dimension(wide) == pytest.approx(2, abs=0.3)
    assert ksg(x, y).value == pytest.approx(known.gaussian_information(2, 0.9), abs=0.15)


@pytest.mark.parametrize("d", [1, 4])
def test_independent_variables_have_nothing(d):
    values = [
        ksg(*(np.random.default_rng([i, j]).normal(size=(400, d)) for j in (0, 1))).value
        for i in range(20)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(20) + 0.005
    assert min(values) < 0  # never clipped


@pytest.mark.parametrize(("n", "tolerance"), [(1_000, 0.06), (10_000, 0.02)])
def test_ross_of_steps(n, tolerance):
    x, y = known.stepped_pair(n, 5)
    got = ross(y, x)
    assert got.value == pytest.approx(known.stepped_information(5), abs=tolerance)
    assert got.ceiling == pytest.approx(np.log(5), abs=0.01)


def test_ross_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 600)
    x = rng.normal(size=600) + labels
    theirs = mutual_info_classif(x[:, None], labels, random_state=0)[0]
    assert ross(x, labels).value == pytest.approx(theirs, abs=1e-6)


def test_ross_in_many_dimensions_compares_pairs_as_the_tree_does():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    x = rng.normal(size=(400, 2)) + labels[:, None]
    wider = np.concatenate([x, 1e-9 * rng.normal(size=(400, 3))], axis=1)
    assert ross(wider, labels).value == pytest.approx(ross(x, labels).value, abs=1e-9)


def test_ends_of_a_radius_are_exact():
    values = np.array([0.1, 0.2, 0.3, 0.7, 1e-17, 0.4])
    radius = np.abs(values[[1, 2, 3, 4, 5, 0]] - values)
    slow = [(np.abs(values - v) < r).sum() for v, r in zip(values, radius, strict=True)]
    assert count_within(values[:, None], radius).tolist() == slow


@pytest.mark.parametrize("estimate", [ksg, lambda x, y: ross(x, (y[:, 0] > 0))])
@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda x: np.where(x > 0, 1.0, 0.0), "must be continuous"),
        (lambda x: np.ones_like(x), "must vary"),
        (lambda x: np.where(np.arange(len(x))[:, None] == 3, np.nan, x), "must be finite"),
        (lambda x: x[:2], "must be in"),
        (lambda x: np.repeat(x[: len(x) // 4], 4, axis=0), "must be continuous"),
        (lambda x: x[:, :, None], "must have the shape"),
        (lambda x: x.astype(str), "must be real numbers"),
    ],
)
def test_samples_that_are_refused(estimate, break_it, message):
    x, y = known.gaussian_pair(100, 1, 0.5)
    with pytest.raises(EvidenceError, match=message):
        estimate(break_it(x), y)


def test_equal_neighbours_and_small_classes_are_refused():
    x, y = known.gaussian_pair(100, 2, 0.5)
    x[:5], y[:5] = x[0], y[0]
    with pytest.raises(EvidenceError, match="equal their k-th neighbour"):
        ksg(x, y)
    with pytest.raises(EvidenceError, match="has 1: leave it out"):
        ross(y[10:], np.arange(90) == 4 * np.ones(90))
    with pytest.raises(EvidenceError, match="same samples"):
        ksg(x[10:], y[11:])
    with pytest.raises(EvidenceError, match="variant"):
        ksg(x, y, variant=3)
