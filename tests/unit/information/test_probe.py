"""Probes: nothing for random labels, groups kept together, and the interval."""

import closed_forms as known
import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.probe import (
    _group_interval,
    group_folds,
    held_out_gains,
    probe_information,
    standardised,
)


def test_random_labels_have_nothing_and_real_ones_something():
    x, t, y = known.wide_layer(1_000, 64)
    assert probe_information(t, y).value < 0.02  # below 0 where it overfits
    tenth = np.digitize(x[:, 0], np.quantile(x[:, 0], np.arange(0.1, 1, 0.1)))
    found = probe_information(t, tenth)
    assert found.value == pytest.approx(0.594, abs=0.12)
    assert found.ceiling == pytest.approx(np.log(10), abs=0.01)
    assert found.interval.low < found.value < found.interval.high


def test_gain_is_over_the_frequencies():
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.8).astype(np.int64)
    useless = 1e-6 * rng.normal(size=(400, 1))
    assert probe_information(useless, y).value == pytest.approx(0, abs=0.02)


def test_separated_classes_reach_their_entropy():
    y = np.arange(400) % 2
    t = y[:, None] + 0.01 * np.random.default_rng(0).normal(size=(400, 1))
    assert probe_information(t, y, strength=1e3).value == pytest.approx(np.log(2), abs=0.01)


def test_groups_are_held_out_together():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    y = rng.integers(0, 2, 40)[groups]
    t = rng.normal(size=(40, 30))[groups] + 0.01 * rng.normal(size=(400, 30))
    # Each group is recognised where some of its samples were seen, which tells nothing of others.
    assert probe_information(t, y).value > 0.3
    grouped = probe_information(t, y, groups=groups)
    assert grouped.value < 0.1
    assert grouped.interval.method == "means of 40 groups"
    folds = group_folds(y, groups, 5, 0)
    seen = np.concatenate(folds.held_out)
    assert sorted(seen) == list(range(400))
    for rows in folds.held_out:
        assert not set(groups[rows]) & set(np.delete(groups, rows))


def crossed(places=9, years=6):
    """A grid of places and years; the label follows from a class of each."""
    place, year = (own.ravel() for own in np.meshgrid(np.arange(places), np.arange(years)))
    return np.stack([place, year]), 2 * (place % 3 == 0) + (year % 2)


def test_crossed_carriers_are_held_out_together():
    carriers, y = crossed()
    folds = group_folds(y, carriers, 5, 0)
    assert len(folds.held_out) == 9  # three parts of each
    assert sorted(np.concatenate(folds.held_out)) == list(range(54))
    for rows, train in zip(folds.held_out, folds.trained_on, strict=True):
        for own in carriers:
            assert not set(own[rows]) & set(own[train])
        assert set(y[train]) == set(y)
        assert len(train) == 24


def test_a_fold_that_leaves_one_class_to_train_on_is_refused():
    carriers, _ = crossed(3, 3)
    y = np.zeros(9, dtype=np.int64)
    y[(carriers[0] == carriers[1]) & (carriers[0] < 2)] = 1  # seen again, but not in every fold
    with pytest.raises(EvidenceError, match="trained on two classes at least"):
        group_folds(y, carriers, 3, 0)


def test_a_second_carrier_that_is_seen_again_is_no_evidence():
    """States tell which year it is, and nothing else: years are recognised, classes are not."""
    rng = np.random.default_rng(0)
    carriers, _ = crossed(12, 12)
    y = rng.permutation(np.arange(12) % 2)[carriers[1]]
    t = rng.normal(size=(12, 30))[carriers[1]] + 0.01 * rng.normal(size=(144, 30))
    assert probe_information(t, y, groups=carriers[0]).value > 0.3
    found = probe_information(t, y, groups=carriers)
    assert found.value < 0.1
    assert found.interval.method == "means of 12 x 12 groups"
    assert found.interval.freedom == 11


def test_the_interval_is_over_both_carriers():
    rng = np.random.default_rng(0)
    carriers, _ = crossed(20, 20)
    gains = rng.normal(size=20)[carriers[0]] + rng.normal(size=20)[carriers[1]]
    both = _group_interval(gains, carriers)
    alone = _group_interval(gains, carriers[:1])
    truth = np.sqrt(gains.reshape(20, 20).mean(0).var(ddof=1) / 20 * 2)
    assert alone.sd < both.sd == pytest.approx(truth, rel=0.25)


def test_rotation_into_few_coordinates_changes_nothing():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    t = rng.normal(size=(60, 200)) + np.eye(200)[y]
    t[:, 7] = 3.0  # a dead unit
    short = standardised(t)
    assert short.shape == (60, 60)
    scale = t.std(axis=0)
    whole = (t - t.mean(axis=0)) / np.where(scale > 0, scale, 1)
    folds = group_folds(y, np.arange(60), 3, 0)
    assert held_out_gains(short, y, folds) == pytest.approx(
        held_out_gains(whole, y, folds), abs=1e-3
    )


def test_gains_are_reproducible():
    _, t, y = known.wide_layer(200, 4)
    folds = group_folds(y, np.arange(200), 4, 3)
    assert np.array_equal(held_out_gains(t, y, folds), held_out_gains(t, y, folds))


def test_what_is_refused():
    t = np.random.default_rng(0).normal(size=(20, 3))
    y = np.arange(20) % 2
    with pytest.raises(EvidenceError, match=r"at least as many groups as folds \(5\)\. Got 3"):
        probe_information(t, y, groups=np.arange(20) % 3)
    with pytest.raises(EvidenceError, match="at least two folds"):
        probe_information(t, y, groups=np.where(y == 1, 0, 1 + np.arange(20) // 2), folds=4)
    with pytest.raises(EvidenceError, match="at least two classes"):
        probe_information(t, np.zeros(20))
    with pytest.raises(EvidenceError, match="has 1: leave it out"):
        probe_information(t, np.arange(20) == 3)
