"""Rate reduction: a closed form, classes that do not differ, carriers."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.nulls import exchanged_labels
from lmri.information.rate_reduction import rate_reduction


def exchanged(labels: np.ndarray, carriers: np.ndarray | None = None) -> np.ndarray:
    """Labels of 99 draws, exchanged among rows or among carriers."""
    names, codes = np.unique(labels, return_inverse=True)
    return names[exchanged_labels(codes, carriers, 99, 1)]


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_rate_reduction_of_classes_on_two_axes():
    rows = np.repeat(np.eye(2), 10, axis=0) * 7.0
    labels = np.repeat(["a", "b"], 10)
    found = rate_reduction(rows, labels, 0.5, exchanged=exchanged(labels))
    assert found.rate == pytest.approx(np.log(1 + 4))
    assert found.within == pytest.approx(0.5 * np.log(1 + 8))
    assert found.reduction == pytest.approx(np.log(5) - np.log(3))
    assert found.p == pytest.approx(0.01)
    assert found.excess > 0 and found.flags == ()
    assert np.isnan(rate_reduction(rows, labels, 0.5).p)


def test_classes_that_do_not_differ_fail_the_null(generator):
    rows, labels = generator.standard_normal((60, 20)), np.repeat([0, 1, 2], 20)
    found = rate_reduction(rows, labels, exchanged=exchanged(labels))
    assert found.reduction > 0.5  # large by itself, as of any classes of few rows
    assert abs(found.excess) < 0.2
    assert "failed_null" in found.flags
    assert rate_reduction(rows, labels).flags == ("few_samples",)


def test_carriers_are_exchanged_as_a_whole(generator):
    # Ten carriers of six equal rows: rows look significant, carriers do not.
    carriers = np.repeat(np.arange(10), 6)
    rows = generator.standard_normal((10, 20))[carriers]
    rows = rows + 0.1 * generator.standard_normal(rows.shape)
    labels = (carriers >= 5).astype(int)
    by_row = rate_reduction(rows, labels, exchanged=exchanged(labels))
    by_carrier = rate_reduction(rows, labels, exchanged=exchanged(labels, carriers))
    assert by_row.p == pytest.approx(0.01)
    assert by_carrier.p > 0.05


def test_a_class_of_one_row_is_refused(generator):
    with pytest.raises(EvidenceError, match="classes of 1, 4"):
        rate_reduction(generator.standard_normal((5, 2)), [0, 1, 1, 1, 1])


def test_draws_that_leave_a_class_with_one_row_are_left_out(generator):
    rows, labels = generator.standard_normal((6, 4)), np.repeat([0, 1], 3)
    drawn = np.array([[0, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1]])
    found = rate_reduction(rows, labels, exchanged=drawn)
    assert len(found.null) == 1 and found.p in (0.5, 1.0)
    assert rate_reduction(rows, labels, exchanged=drawn[:1]).flags == ("failed_null",)
