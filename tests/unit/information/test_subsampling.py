"""Intervals by disjoint parts, and curves over the number of samples."""

import closed_forms as known
import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.gaussian import gaussian
from lmri.information.neighbours import ksg
from lmri.information.subsampling import disjoint_interval, disjoint_parts, sample_size_curve


def test_parts_are_disjoint_and_keep_groups():
    groups = np.repeat(np.arange(10), 3)
    parts = disjoint_parts(groups, 3, 0)
    assert sorted(np.concatenate(parts)) == list(range(30))
    owners = [set(groups[rows]) for rows in parts]
    assert not owners[0] & owners[1]
    assert sorted(map(len, owners)) == [3, 3, 4]


def test_parts_of_crossed_carriers_share_no_value_of_either():
    place, year = (own.ravel() for own in np.meshgrid(np.arange(9), np.arange(6)))
    codes = 2 * (place % 3 == 0) + (year % 2)
    parts = disjoint_parts(np.stack([place, year]), 3, 0, codes)
    assert [len(rows) for rows in parts] == [6, 6, 6]
    for own in (place, year):
        seen = [set(own[rows]) for rows in parts]
        assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
    assert all(set(codes[rows]) == set(codes) for rows in parts)
    interval = disjoint_interval(
        lambda rows: float(len(rows)), 1.0, np.stack([place, year]), parts=5, codes=codes
    )
    assert (interval.method, interval.freedom, interval.sd) == ("3 disjoint parts", 2, 0)
    alone = disjoint_interval(lambda rows: float(len(rows)), 1.0, place[None], parts=5)
    assert alone.method == "5 disjoint parts"


def test_interval_holds_the_truth_about_as_often_as_it_says():
    truth = known.gaussian_information(1, 0.6)
    held, errors, values = 0, [], []
    for seed in range(60):
        x, y = known.gaussian_pair(400, 1, 0.6, seed)
        value = gaussian(x, y).value
        interval = disjoint_interval(
            lambda rows, x=x, y=y: gaussian(x[rows], y[rows]).value, value, np.arange(400)
        )
        held += interval.low <= truth <= interval.high
        errors.append(interval.sd)
        values.append(value)
    assert held >= 51  # 57 expected; below 52 in 1 of 200
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.35)


def test_curve_shows_the_bias_of_neighbours():
    x, y = known.gaussian_pair(2_000, 5, 0.6)
    curve = sample_size_curve(lambda rows: ksg(x[rows], y[rows]).value, np.arange(2_000))
    assert curve.n == (2_000, 1_000, 667, 500)
    assert curve.mean[0] > curve.mean[1] > curve.mean[3]
    assert curve.mean[3] == pytest.approx(0.738, abs=0.06)
    assert curve.slope == pytest.approx((curve.mean[0] - curve.mean[1]) / curve.mean[0])
    flat = sample_size_curve(lambda rows: gaussian(x[rows], y[rows]).value, np.arange(2_000))
    assert abs(flat.slope) < 0.05


def test_what_is_refused():
    with pytest.raises(EvidenceError, match=r"must be in \[1, 3\]"):
        disjoint_parts(np.arange(9) // 3, 4, 0)
    with pytest.raises(EvidenceError, match="'parts' of an interval"):
        disjoint_interval(lambda rows: 0.0, 0.0, np.arange(9), parts=1)
