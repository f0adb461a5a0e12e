"""Conformal sets miss no more often than they say, also where trials share a carrier."""

import numpy as np
import pytest

from lmri.decode.conformal import (
    conformal_p,
    expected_coverage,
    least_carriers,
    nonconformity,
)


def scores(rng, carriers, trials, shared):
    """Scores of two classes, of which the first is true: what carriers share, and trials add."""
    own = shared * rng.normal(size=(carriers, 1)) + rng.normal(size=(carriers, trials))
    margin = own.reshape(-1)
    return np.stack([margin, -margin], axis=1), np.repeat(np.arange(carriers), trials)


@pytest.mark.parametrize("shared", [0.0, 3.0])
@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_coverage_is_at_least_nominal(rng, shared, alpha):
    covered = []
    for _ in range(400):
        both, carriers = scores(rng, 40, 5, shared)
        strange = nonconformity(both)
        calibration = carriers < 20
        p = conformal_p(strange[calibration, 0], carriers[calibration], strange[~calibration])
        covered.append((p[:, 0] > alpha).mean())
    assert np.mean(covered) >= 1 - alpha - 2 * np.std(covered) / 20
    assert np.mean(covered) < 1 - alpha + 0.08  # and not by always answering with all


def test_a_carrier_counts_once():
    # Nine strange trials of one carrier weigh no more than its only one would.
    calibration = np.array([5.0] * 9 + [0.0, 0.1, 0.2])
    carriers = np.array([0] * 9 + [1, 2, 3])
    assert conformal_p(calibration, carriers, np.array([1.0])) == pytest.approx((1 + 1) / 5)
    assert conformal_p(calibration, carriers, np.array([0.1])) == pytest.approx((1 + 3) / 5)
    assert conformal_p(calibration, carriers, np.array([9.0])) == pytest.approx(1 / 5)


def test_nonconformity_is_the_lead_of_another_class():
    values = nonconformity(np.array([[1.0, 3.0, 2.0]]))
    assert values.tolist() == [[2.0, -1.0, 1.0]]


def test_too_few_carriers_exclude_nothing():
    assert least_carriers(0.1) == 9
    assert least_carriers(0.2) == 4
    rest = np.zeros(8)
    assert conformal_p(rest, np.arange(8), np.array([99.0]))[0] > 0.1
    assert conformal_p(np.zeros(9), np.arange(9), np.array([99.0]))[0] <= 0.1


def test_the_expected_range_holds_what_is_observed(rng):
    low, high = expected_coverage(20, 20, 0.1)
    assert low < 0.9 < high
    observed = []
    for _ in range(500):
        both, carriers = scores(rng, 40, 1, 0.0)
        strange = nonconformity(both)
        p = conformal_p(strange[:20, 0], carriers[:20], strange[20:])
        observed.append((p[:, 0] > 0.1).mean())
    inside = np.mean((np.array(observed) >= low) & (np.array(observed) <= high))
    assert inside > 0.93
    assert expected_coverage(5, 20, 0.1) == (1.0, 1.0)
