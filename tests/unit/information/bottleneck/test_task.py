"""The 12-bit task against what is known of it."""

import math

import numpy as np

from lmri.information.bottleneck.task import harmonic_power, make_task, vertices


def test_every_pattern_is_there_once_and_labels_are_balanced():
    task = make_task(0)
    assert len(np.unique(task.inputs, axis=0)) == len(task.inputs) == 2**12
    share = float(task.labels.mean())
    assert share == 2006 / 4096
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    assert entropy > 0.999


def test_the_split_is_of_all_inputs_and_of_its_seed():
    task = make_task(3)
    assert len(task.training) == 3277
    assert np.array_equal(np.sort([*task.training, *task.test]), np.arange(4096))
    assert np.array_equal(task.training, make_task(3).training)
    assert not np.array_equal(task.training, make_task(4).training)
    assert np.array_equal(task.labels, make_task(4).labels)
    assert 0.5 <= task.majority < 0.53


def test_points_are_an_icosahedron():
    cosines = np.unique(np.round(vertices() @ vertices().T, 9))
    assert np.allclose(cosines, [-1, -1 / math.sqrt(5), 1 / math.sqrt(5), 1])
    assert (np.isclose(vertices() @ vertices().T, 1 / math.sqrt(5)).sum(axis=1) == 5).all()


def test_power_of_patterns_that_can_be_worked_out():
    """One point: P_1(1) + P_2(1) = 2; opposite points: dipoles cancel; all points: nothing."""
    across = (vertices() @ vertices().T).argmin(axis=1)
    one, pair = np.zeros((2, 12))
    one[0] = pair[0] = pair[across[0]] = 1
    assert np.allclose(harmonic_power(np.stack([one, pair, np.ones(12)])), [2, 4, 0], atol=1e-6)


def test_no_rotation_changes_a_label():
    task, points = make_task(0), vertices()
    turn = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])  # a third of a turn about (1, 1, 1)
    order = (points @ turn @ points.T).argmax(axis=1)
    assert sorted(order) == list(range(12)) and not np.array_equal(order, np.arange(12))
    numbers = (task.inputs[:, order].astype(int) << np.arange(12)).sum(axis=1)
    assert np.array_equal(task.labels[numbers], task.labels)
