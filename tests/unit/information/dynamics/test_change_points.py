"""Change points: planted jumps and bends, noise, exhaustive search."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.dynamics import change_points


def test_planted_jumps(generator):
    steps = np.arange(0, 3000, 100)
    values = np.repeat([0.0, 2.0, 1.0], 10) + 0.05 * generator.standard_normal(30)
    found = change_points(steps, values)
    assert found.after.tolist() == [900, 1900]
    assert found.until.tolist() == [1000, 2000]
    np.testing.assert_allclose(found.jumps, [2, -1], atol=0.05)
    assert found.p == pytest.approx(0.001)
    assert found.flags == ()


def test_a_planted_bend_is_one_of_slope_and_not_of_level(generator):
    steps = np.arange(40.0)
    values = np.where(steps < 20, 0.1 * steps, 2 + 0.5 * (steps - 20))
    values = values + 0.05 * generator.standard_normal(40)
    found = change_points(steps, values, model="slope")
    assert len(found.after) == 1
    assert found.after[0] == pytest.approx(19.5, abs=2)
    assert found.p == pytest.approx(0.001)
    assert len(change_points(steps, values, model="level").after) > 1


def test_exact_segments():
    found = change_points(range(8), [1, 1, 1, 1, 5, 5, 5, 5])
    assert (found.after.tolist(), found.until.tolist()) == ([3], [4])
    assert found.fitted.tolist() == [1] * 4 + [5] * 4
    assert found.flags == ("few_checkpoints",)


def test_constant_values_have_no_change():
    found = change_points(range(20), np.full(20, 0.3))
    assert len(found.after) == 0
    assert found.p == 1
    assert found.flags == ("failed_null",)


@pytest.mark.parametrize("model", ["level", "slope"])
def test_noise_is_seldom_called_a_change(generator, model):
    steps = np.arange(20)
    trend = 0.0 if model == "level" else 0.3 * steps
    found = [
        change_points(steps, trend + generator.standard_normal(20), model=model, draws=99, seed=i)
        for i in range(60)
    ]
    assert np.mean(["failed_null" not in own.flags for own in found]) < 0.15


def test_a_random_walk_is_flagged_as_dependent(generator):
    # A walk looks full of changes: nothing in it is one.
    found = change_points(range(60), np.cumsum(generator.standard_normal(60)), most=1, draws=99)
    assert "dependent_steps" in found.flags


def test_all_divisions_are_searched(generator):
    values = generator.standard_normal(12) + np.repeat([0, 3, 0], [3, 4, 5])
    found = change_points(range(12), values, most=2, draws=9)

    def left(starts):
        bounds = [0, *starts, 12]
        parts = [values[a:b] for a, b in pairwise(bounds)]
        return sum(((part - part.mean()) ** 2).sum() for part in parts)

    every = [pair for pair in combinations(range(2, 11), 2) if pair[1] - pair[0] >= 2]
    assert found.until.tolist() == list(min(every, key=left))


def test_series_without_change_points():
    with pytest.raises(EvidenceError, match=r"at least 6 checkpoints\. Got 5"):
        change_points(range(5), range(5))
    with pytest.raises(EvidenceError, match="finite numbers at every step"):
        change_points(range(6), [0, 1, np.nan, 1, 1, 1])
    with pytest.raises(EvidenceError, match="steps of change points must be ascending"):
        change_points([0, 1, 1, 2, 3, 4], range(6))
    with pytest.raises(EvidenceError, match="one number at each step"):
        change_points(range(7), range(6))
    with pytest.raises(EvidenceError, match="'model' of the change points must be one of"):
        change_points(range(6), range(6), model="variance")
