"""Intervals over carriers say how much is known, also of what never failed."""

import numpy as np
import pytest

from lmri.decode import Question, label_trials
from lmri.decode.intervals import accuracy_interval, difference_interval, mean_interval
from lmri.decode.labellings import HeldOut

PLACES, YEARS = 12, 10
BOUND = 1 - 0.025 ** (1 / YEARS)


@pytest.fixture
def labelled(make_trials):
    """A crossed grid of twelve places and ten years."""
    trials = make_trials["crossed"](PLACES, YEARS)
    sides = (("near_miss_place", "near_miss_year", "benign"), ("sensitive",))
    return label_trials(Question("refusal", "events", sides=sides), trials, ("place", "year"))


def told(labelled, right):
    """Held-out trials, told right or wrong."""
    said = np.where(right, labelled.codes, 1 - labelled.codes)
    return HeldOut(np.eye(2)[said][None], np.zeros(len(said), dtype=np.int64))


@pytest.mark.parametrize(
    ("right", "low", "high"), [(True, 1 - BOUND, 1), (False, 0, BOUND)], ids=["all", "none"]
)
def test_an_accuracy_without_variation_has_the_bound_of_its_carriers(labelled, right, low, high):
    held = told(labelled, np.full(len(labelled.codes), right))
    assert accuracy_interval(held, labelled, 0) == pytest.approx((low, high))


def test_one_class_for_all_trials_has_the_bound_too(labelled):
    assert accuracy_interval(told(labelled, labelled.codes == 0), labelled, 0) == pytest.approx(
        (0.5 - BOUND, 0.5 + BOUND)
    )


def test_trials_that_differ_are_resampled(rng, labelled):
    right = rng.random(len(labelled.codes)) > 0.2
    low, high = accuracy_interval(told(labelled, right), labelled, 0)
    assert 0.5 < low < 0.8 < high < 1


def test_decoders_that_do_alike_may_differ_elsewhere(rng, labelled):
    right = rng.random(len(labelled.codes)) > 0.2
    held = told(labelled, right)
    assert difference_interval(held, held, labelled, 0) == pytest.approx((-BOUND, BOUND))
    low, high = difference_interval(told(labelled, right | True), held, labelled, 0)
    assert 0 < low < 0.2 < high < 0.5


def test_means_without_variation_have_the_bound_of_the_carriers_that_they_are_of(labelled):
    rows = np.arange(len(labelled.codes))
    values = np.ones((len(rows), 3))
    values[labelled.carriers[1].values > 3, 1] = np.nan
    values[:, 2] = np.nan
    mean, low, high = mean_interval(values, labelled, rows, 0)
    assert mean[:2].tolist() == [1, 1]
    assert high[:2].tolist() == [1, 1]
    assert low[:2] == pytest.approx([1 - BOUND, 0.025 ** (1 / 4)])
    assert np.isnan([mean[2], low[2], high[2]]).all()
