"""Changes: a p that says what the interval says, and corrections for many."""

import math

import numpy as np
import pandas as pd
import pytest

from lmri.validate.change import Carriers, Change
from lmri.validate.statistics import as_large, holm, rank_p, sequential_p, stopped_draws


@pytest.fixture(scope="module")
def carriers():
    return Carriers(pd.DataFrame({"carrier_place": np.arange(100) // 4}), 999, 0)


@pytest.mark.parametrize("seed", range(4))
def test_p_is_small_where_the_interval_is_beyond(carriers, seed):
    differences = (np.random.default_rng(seed).random(100) < 0.3).astype(float)
    change = Change(differences, carriers, 0.95)
    effect = change.effect
    for threshold in (effect.low - 0.01, effect.low + 0.01):
        assert (change.p_above(threshold) <= 0.05) == (effect.low > threshold)
    for threshold in (effect.high - 0.01, effect.high + 0.01):
        assert (change.p_below(threshold) <= 0.05) == (effect.high < threshold)
    wide, narrow = effect.high + 0.01, effect.high - 0.01
    assert change.p_within(wide) <= 0.05 < change.p_within(narrow)


def test_without_variation_the_number_of_trials_decides():
    for n, within in ((35, False), (36, True)):
        table = pd.DataFrame({"carrier_place": np.arange(n)})
        still = Change(np.zeros(n), Carriers(table, 100, 0), 0.95)
        assert (still.p_within(0.1) <= 0.05) == within
        low, high = still.effect.low, still.effect.high
        assert (low > -0.1 and high < 0.1) == within


def test_a_logit_that_never_varies_shows_nothing(carriers):
    still = Change(np.ones(100), carriers, 0.95, is_rate=False)
    assert still.p_above(0.0) == still.p_within(2.0) == 1.0


def test_changes_are_subtracted_trial_by_trial(carriers):
    first, second = (Change(np.full(100, x), carriers, 0.95) for x in (0.75, 0.25))
    assert (first - second).effect.mean == 0.5


def test_holm_known_answer():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    corrected = holm([0.01, math.nan])
    assert corrected[0] == pytest.approx(0.02) and math.isnan(corrected[1])


def test_a_sequential_test_stops_and_says_so():
    controls = [0.0, 0.9, 0.0, 0.8, 0.0, 0.0]
    assert stopped_draws(0.5, controls, 2) == 4
    assert sequential_p(0.5, controls, 2) == 2 / 4
    assert stopped_draws(0.5, controls, 3) == 6
    assert sequential_p(0.5, controls, 3) == rank_p(0.5, controls) == 3 / 7
    assert as_large(0.5, controls) == 2


def test_a_sequential_p_is_valid():
    """Under the null it is at most alpha no more often than alpha, whatever it stops at."""
    rng, alpha = np.random.default_rng(0), 0.1
    p = [sequential_p(own[0], own[1:], 3) for own in rng.normal(size=(2000, 60))]
    assert 0.01 < np.mean(np.array(p) <= alpha) <= alpha + 0.02
