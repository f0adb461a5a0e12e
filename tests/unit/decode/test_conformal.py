"""Conformal sets miss no more often than they say, also where trials share a carrier."""

import numpy as np
import pytest

from lmri.decode.conformal import (
    components,
    conformal_p,
    expected_coverage,
    least_carriers,
    matching,
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


def missed(strange, carriers, alpha, rng, *, matched=True):
    """Share of trials whose own value is excluded when they are compared with the others."""
    linked, out = components(carriers), 0
    for trial, value in enumerate(strange):
        if matched:
            group = matching(carriers, linked, trial, rng)
        else:  # every carrier once, all its trials on average: what one carrier allows
            apart = np.all([own != own[trial] for own in carriers], axis=0)
            group = np.where(apart, carriers[0], -1)
        other = group >= 0
        out += conformal_p(strange[other], group[other], np.array([value]))[0] <= alpha
    return out / len(strange)


def grid(places, years):
    return [np.repeat(np.arange(places), years), np.tile(np.arange(years), places)]


@pytest.mark.parametrize("effects", [(0, 0), (3, 0), (2, 2), (0.5, 4)])
def test_crossed_carriers_are_covered_at_least_as_often_as_said(rng, effects):
    """Places and years add to the scores; one trial of 8 × 9 is judged in each study."""
    carriers, alpha = grid(8, 9), 0.25
    linked = components(carriers)
    covered = []
    for _ in range(1500):
        strange = rng.normal(size=72)
        for size, own in zip(effects, carriers, strict=True):
            strange += size * rng.normal(size=own.max() + 1)[own]
        group = matching(carriers, linked, 0, rng)
        other = group >= 0
        covered.append(conformal_p(strange[other], group[other], strange[:1])[0] > alpha)
    # Seven to compare with: exactly 2 of 8 places of the rank are misses.
    assert abs(np.mean(covered) - 0.75) < 3 * np.sqrt(0.75 * 0.25 / 1500)


def test_an_average_over_crossed_carriers_may_miss_more_than_it_says(rng):
    """Three strange places and three strange years, least where both are: why it is a matching."""
    place, year = carriers = grid(9, 9)
    hot = (place < 3).astype(int) + (year < 3)
    strange = np.array([0.0, 2.0, 1.0])[hot] + rng.uniform(size=81) / 9
    assert missed(strange, carriers, 0.5, rng, matched=False) > 0.55
    assert np.mean([missed(strange, carriers, 0.5, rng) for _ in range(20)]) <= 0.5


def test_splits_of_a_grid_are_covered_each(rng):
    """What was never asked cannot be compared with; splits differ in their scores."""
    place, year = grid(12, 12)
    asked = (place < 4) == (year < 4)
    carriers = [place[asked], year[asked]]
    assert len(np.unique(components(carriers))) == 2
    first = carriers[0] < 4
    group = matching(carriers, components(carriers), 0, rng)
    assert set(np.flatnonzero(group >= 0)) <= set(np.flatnonzero(first))
    assert (group >= 0).sum() == 3
    strange = 5.0 * first + rng.normal(size=12)[carriers[0]] + rng.normal(size=len(first))
    # 1 of 4 places of the rank there, 2 of 8 here: over all matchings exactly a quarter.
    found = np.mean([missed(strange, carriers, 0.25, rng) for _ in range(30)])
    assert abs(found - 0.25) < 0.02


def test_one_carrier_is_compared_with_all_others():
    values = np.array([4, 4, 0, 1, 1, 1])
    group = matching([values], components([values]), 0, np.random.default_rng(0))
    assert group.tolist() == [-1, -1, 0, 1, 1, 1]
