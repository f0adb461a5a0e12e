"""Intrinsic dimension: known clouds, neighbours, duplicates."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from lmri.errors import EvidenceError, LmriError
from lmri.information import geometry
from lmri.information.geometry import intrinsic_dimension, neighbour_distances


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def embedded(generator, n, dimension, ambient=200):
    frame, _ = np.linalg.qr(generator.standard_normal((ambient, dimension)))
    return generator.standard_normal((n, dimension)) @ frame.T


@pytest.mark.parametrize("method", ["two_nn", "likelihood"])
@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_gaussians_of_a_low_dimension(generator, method, dimension):
    found = intrinsic_dimension(embedded(generator, 1000, dimension), method)
    assert found.value == pytest.approx(dimension, rel=0.15)
    assert 0 < found.error < 0.1 * found.value
    assert (found.samples, found.duplicates, found.flags) == (1000, 0, ())


@pytest.mark.parametrize(("dimension", "published"), [(10, 9.6), (20, 16.1), (50, 31)])
def test_high_dimensions_are_underestimated_and_flagged(generator, dimension, published):
    found = intrinsic_dimension(embedded(generator, 1000, dimension))
    assert found.value == pytest.approx(published, rel=0.1)
    assert ("dimension" in found.flags) == (dimension > 15)


def test_a_curve_has_one_dimension(generator):
    t = generator.uniform(0, 4 * np.pi, 2000)
    helix = np.c_[np.cos(t), np.sin(t), t]
    for method in geometry.METHODS:
        assert intrinsic_dimension(helix, method).value == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("method", ["two_nn", "likelihood"])
def test_known_distances(method):
    # Points at 0, 1, 3, 7: nearest two distances are (1, 3), (1, 2), (2, 3), (4, 6).
    rows = np.array([[0.0], [1], [3], [7]])
    ratios = np.log([3, 2, 1.5, 1.5])
    expected = {"two_nn": 3 / ratios.sum(), "likelihood": 4 / ratios.sum()}[method]
    assert intrinsic_dimension(rows, method, neighbours=2).value == pytest.approx(expected)


def test_neighbours_are_those_of_a_tree(generator, monkeypatch):
    rows = generator.standard_normal((300, 6))
    monkeypatch.setattr(geometry, "BLOCK_BYTES", 50_000)
    expected = cKDTree(rows).query(rows, k=6)[0][:, 1:]
    np.testing.assert_allclose(neighbour_distances(rows, 5), expected, rtol=1e-12)


def test_close_neighbours_far_from_the_origin_keep_their_digits(generator):
    rows = 1e-5 * generator.standard_normal((100, 3))
    far = np.r_[rows, [[1e3, 0, 0], [-1e3, 0, 0]]]
    expected = cKDTree(rows).query(rows, k=3)[0][:, 1:]
    np.testing.assert_allclose(neighbour_distances(far, 2)[:100], expected, rtol=1e-6)


def test_equal_points_count_once(generator):
    rows = embedded(generator, 200, 2)
    repeated = np.concatenate([rows, rows, rows[:50]])
    found = intrinsic_dimension(repeated)
    assert found.value == pytest.approx(intrinsic_dimension(rows).value)
    assert (found.samples, found.duplicates) == (200, 250)
    assert "duplicates" in found.flags


def test_points_of_one_text_are_dependent(generator):
    rows = embedded(generator, 1000, 2)
    many = intrinsic_dimension(rows, carriers=np.repeat(np.arange(100), 10))
    assert many.flags == ("dependent_tokens",)
    few = intrinsic_dimension(rows, carriers=np.repeat(np.arange(4), 250))
    assert np.isnan(few.error)


def test_points_without_a_dimension(generator):
    with pytest.raises(EvidenceError, match=r"at least 4 different points\. Got 1 among 50"):
        intrinsic_dimension(np.ones((50, 3)))
    with pytest.raises(EvidenceError, match=r"'likelihood' .* at least 12 .* Got 11"):
        intrinsic_dimension(generator.standard_normal((11, 2)), "likelihood")
    with pytest.raises(EvidenceError, match="must be finite"):
        intrinsic_dimension(np.array([[np.nan]] * 9))
    with pytest.raises(LmriError, match="'method' of the intrinsic dimension must be one of"):
        intrinsic_dimension(np.ones((9, 1)), "box_counting")
