"""Rank p, equivalence."""

import math

import numpy as np
import pytest

from lmri.score import Effect
from lmri.validate import rank_p, within_margin
from lmri.validate.statistics import nothing_to_lose


@pytest.mark.parametrize(
    ("effect", "controls", "p"),
    [(1.0, [0.0] * 99, 0.01), (0.5, [0.5] * 99, 1.0), (0.5, [0.6, 0.5, 0.4, 0.1], 3 / 5)],
)
def test_rank_p_counts_ties_as_large(effect, controls, p):
    assert rank_p(effect, controls) == pytest.approx(p)


def test_rank_p_is_uniform_under_the_null():
    rng = np.random.default_rng(4)
    p = [rank_p(values[0], values[1:]) for values in rng.normal(size=(2000, 20))]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [(-0.05, 0.05, True), (-0.1, 0.05, False), (0.05, 0.11, False), (0.2, 0.3, False)],
)
def test_the_whole_interval_must_lie_inside_the_margin(low, high, inside):
    assert within_margin(Effect((low + high) / 2, low, high, 150, 10), 0.1) is inside


def test_an_effect_without_an_interval_is_not_within_any_margin():
    assert not within_margin(Effect(-3.5, math.nan, math.nan, 120, 10), 10.0)


@pytest.mark.parametrize(("right", "nothing"), [(0, True), (10, True), (11, False), (100, False)])
def test_what_is_rarer_than_the_margin_has_nothing_to_lose(right, nothing):
    intact = np.repeat([1.0, 0.0], [right, 100 - right])
    assert nothing_to_lose(intact, 0.1) is nothing
