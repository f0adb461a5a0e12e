"""Bins: the edges of the paper without its wrap, and what wide layers do to them."""

import math

import closed_forms as known
import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.binning import bin_information, ebab, equal_mass_edges, fixed_bins


def test_edges_are_those_of_the_paper():
    t = np.array([[0.0, 0.0, 1.0], [2.0, 3.0, 4.0], [5.0, 0.0, 6.0]])
    # Without the lowest: 1 … 6; u[floor(k 6 / 3)] is u[0], u[2], u[4]; then the largest.
    assert equal_mass_edges(t, 3).tolist() == [0, 1, 3, 5, 6]
    assert equal_mass_edges(t - 10, 3).tolist() == [-10, -9, -7, -5, -4]


def test_zeros_share_one_bin_and_leave_the_others_to_the_rest():
    rng = np.random.default_rng(0)
    t = np.maximum(rng.normal(size=(1_000, 1)), 0)
    found = ebab(t, bins=10)[0]
    zeros = np.mean(t == 0)
    # One bin of zeros, ten of equal mass, the largest value alone.
    rest = (1 - zeros) / 10
    expected = -zeros * math.log(zeros) - 10 * rest * math.log(rest)
    assert found.value == pytest.approx(expected, abs=0.02)


def test_nothing_below_the_first_edge_wraps_to_the_top():
    t = np.linspace(-3, 3, 601)[:, None]
    binned = np.digitize(t, equal_mass_edges(t, 6))[:, 0]
    assert (np.diff(binned) >= 0).all()
    assert binned.min() == 1
    # In the code of the paper, whose lowest edge is fixed, the two ends would share a bin.
    assert binned[0] != binned[-1]


def test_does_not_depend_on_scale_or_place():
    _, t, y = known.wide_layer(300, 3)
    for changed in (7 * t, t - 5):
        assert [e.value for e in ebab(changed, y)] == [e.value for e in ebab(t, y)]


def test_fixed_width_counts_rows():
    t = np.array([[0.0, 0.1], [0.4, 0.1], [0.6, 0.1], [-0.1, 0.1]])
    found = fixed_bins(t, np.array([0, 0, 1, 1]), width=0.5)
    assert found[0].value == pytest.approx(1.5 * math.log(2))  # 2, 1 and 1 of 4
    assert found[1].value == pytest.approx(math.log(2))
    assert found[0].singletons == 0.5
    assert found[0].ceiling == pytest.approx(math.log(4))


def test_wide_layers_are_saturated_and_narrow_ones_are_not():
    _, wide, y = known.wide_layer(1_000, 64)
    _, narrow, _ = known.wide_layer(1_000, 1)
    for found in (ebab(wide, y), fixed_bins(wide, y, width=0.5)):
        assert found[0].saturation == pytest.approx(1)
        assert found[1].value == pytest.approx(found[1].ceiling)  # for random labels
        assert found[1].singletons == 1
    assert ebab(narrow, y)[0].saturation < 0.5


def test_prepared_labels_give_the_same():
    _, t, y = known.wide_layer(200, 2)
    assert bin_information(t)(y) == pytest.approx(ebab(t, y)[1].value)
    prepared = bin_information(t, bins=None, width=0.3)
    assert prepared(y) == pytest.approx(fixed_bins(t, y, width=0.3)[1].value)


def test_constant_activity_has_nothing():
    found = ebab(np.full((10, 3), 2.0), np.arange(10) % 2)
    assert [e.value for e in found] == [0, pytest.approx(0)]
    assert found[0].n_distinct == 1


def test_what_is_refused():
    t = np.random.default_rng(0).normal(size=(10, 2))
    with pytest.raises(EvidenceError, match="'bins' of ebab"):
        ebab(t, bins=0)
    with pytest.raises(EvidenceError, match="'width' of fixed_bins"):
        fixed_bins(t, width=0)
    with pytest.raises(EvidenceError, match="has 1: leave it out"):
        ebab(t, np.arange(10) == 0)
    with pytest.raises(EvidenceError, match="must be finite"):
        ebab(np.where(t > 0, np.inf, t))
