"""Which stimulus it was: chance, its interval, and what is told apart."""

import numpy as np
import pytest

from lmri.align.identification import identify
from lmri.errors import EvidenceError


def orders(n, draws, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.permutation(n) for _ in range(draws)]


def test_independent_activity_is_at_chance_and_in_its_interval():
    """Over 40 pairs of subjects the interval of 95 % covers what is found as often as it says."""
    inside, two_way, top = [], [], []
    for seed in range(40):
        told, seen = np.random.default_rng(seed).normal(size=(2, 60, 8))
        found = identify(told, seen, orders(60, 99, seed))
        low, mean, high = found.null["two_way"]
        inside.append(low <= found.two_way <= high)
        two_way.append(found.two_way)
        top.append(found.top[5])
        assert mean == pytest.approx(0.5, abs=0.03)
    assert np.mean(two_way) == pytest.approx(0.5, abs=0.02)
    assert np.mean(top) == pytest.approx(5 / 60, abs=0.015)
    assert np.mean(inside) >= 0.875


def test_the_same_activity_is_always_identified():
    seen = np.random.default_rng(0).normal(size=(30, 8))
    found = identify(seen, seen, orders(30, 99))
    assert (found.two_way, found.top[1], found.top[5], found.n) == (1, 1, 1, 30)
    assert found.p["two_way"] == 0.01
    low, mean, high = found.null["top_5"]
    assert low <= 5 / 30 <= high
    assert mean == pytest.approx(5 / 30, abs=0.02)


def test_two_way_is_its_definition():
    told, seen = np.random.default_rng(1).normal(size=(2, 12, 6))
    seen = seen + told
    ready = [(own - own.mean(axis=0)) / own.std(axis=0) for own in (told, seen)]
    told_to, seen_as = (own / np.linalg.norm(own, axis=1, keepdims=True) for own in ready)
    r = told_to @ seen_as.T
    expected = np.mean([r[i, i] > r[i, j] for i in range(12) for j in range(12) if i != j])
    assert identify(told, seen, orders(12, 9)).two_way == pytest.approx(expected)


def test_conditions_alone_identify_nothing_within_them():
    rng = np.random.default_rng(0)
    conditions = np.repeat(["one", "two"], 30)
    means = rng.normal(size=(2, 8)).repeat(30, axis=0)
    told, seen = (means + 0.3 * rng.normal(size=(60, 8)) for _ in range(2))
    found = identify(told, seen, orders(60, 99), conditions=conditions)
    assert found.two_way > 0.7
    assert found.p["two_way"] == 0.01
    assert found.within == pytest.approx(0.5, abs=0.1)
    assert np.isnan(found.p["within"])  # no order stays inside conditions


def test_within_conditions_is_compared_with_exchanges_inside_them():
    """Orders that cross conditions leave nothing to compare with, and are no evidence."""
    rng = np.random.default_rng(0)
    conditions = np.repeat(["one", "two"], 20)
    inside = [np.concatenate([rng.permutation(20), 20 + rng.permutation(20)]) for _ in range(99)]
    p = []
    for _ in range(20):
        told, seen = rng.normal(size=(2, 40, 8))
        own = identify(told, seen, orders(40, 9), conditions=conditions, inside=inside)
        p.append(own.p["within"])
        assert own.null["within"][1] == pytest.approx(0.5, abs=0.05)
    assert np.mean(np.array(p) <= 0.05) <= 0.1
    same = identify(seen, seen, orders(40, 9), conditions=conditions, inside=inside)
    assert same.p["within"] == 0.01
    crossed = identify(seen, seen, [], conditions=conditions, inside=orders(40, 99))
    assert crossed.p["within"] == 1


def test_small_and_constant_samples_are_refused():
    told, seen = np.random.default_rng(0).normal(size=(2, 9, 4))
    with pytest.raises(EvidenceError, match=r"10 stimuli or more"):
        identify(told, seen, [])
    with pytest.raises(EvidenceError, match=r"All 4 features are constant over 12"):
        identify(np.ones((12, 4)), np.random.default_rng(0).normal(size=(12, 4)), orders(12, 2))
    with pytest.raises(EvidenceError, match=r"\(12, 4\) and \(11, 4\)"):
        identify(np.ones((12, 4)), np.ones((11, 4)), [])
