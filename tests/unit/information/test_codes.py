"""Neural codes: planted classes, matching, saturation, chance."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.codes import code_redundancy, matched_accuracy, neural_codes


def trials(generator, n, flip, classes=3, units=40):
    """Codes of classes with a share of bits flipped, and their labels."""
    prototypes = np.random.default_rng(7).standard_normal((classes, units)) > 0
    labels = np.arange(n) % classes
    bits = prototypes[labels] ^ (generator.random((n, units)) < flip)
    return np.where(bits, 1.5, -0.5), np.array(["a", "b", "c"])[labels]


def test_classes_without_noise_have_one_code_each(generator):
    train, test = trials(generator, 60, 0), trials(generator, 60, 0)
    found = neural_codes(*train, *test)
    assert found.redundancy == found.redundancy_train == pytest.approx(57 / 60)
    accuracies = (found.k_means, found.k_means_train, found.nearest, found.logistic)
    assert accuracies == (1, 1, 1, 1)
    assert found.within_between == 0
    assert found.chance == pytest.approx(1 / 3)
    assert found.flags == ()


def test_noisy_classes_are_told_apart_although_no_code_repeats(generator):
    found = neural_codes(*trials(generator, 90, 0.1), *trials(generator, 60, 0.1))
    assert found.redundancy < 0.05
    assert found.flags == ("saturation",)
    assert min(found.k_means, found.nearest, found.logistic) > 0.95
    # Two codes of a class differ in 2 (.1) (.9) of the bits.
    assert found.within_between * found.distance == pytest.approx(0.18, abs=0.05)
    assert found.within_between < 0.6


def test_codes_of_noise_are_at_chance(generator):
    found = neural_codes(*trials(generator, 300, 0.5), *trials(generator, 300, 0.5))
    for accuracy in (found.nearest, found.logistic, found.k_means):
        assert accuracy == pytest.approx(1 / 3, abs=0.12)
    assert found.within_between == pytest.approx(1, abs=0.02)
    assert found.distance == pytest.approx(0.5, abs=0.01)


def test_bits_that_are_constant_in_training_are_dropped(generator):
    (train, labels), (test, truth) = trials(generator, 60, 0.1), trials(generator, 60, 0.1)
    reference = neural_codes(train, labels, test, truth)
    wider = [np.c_[rows, generator.random(60)] for rows in (train, test)]
    wider[1][:, -1] -= 0.5  # varies, but only in the test trials
    assert neural_codes(wider[0], labels, wider[1], truth) == reference


def test_exchanged_classes_are_the_null_of_what_was_predicted(generator):
    (train, labels), (test, truth) = trials(generator, 60, 0.1), trials(generator, 60, 0.1)
    drawn = generator.permuted(np.tile(truth, (99, 1)), axis=1)
    found = neural_codes(train, labels, test, truth, exchanged=drawn)
    assert found.nearest_p == found.logistic_p == pytest.approx(0.01)
    assert found.nearest_null == pytest.approx(found.chance, abs=0.1)
    assert "failed_null" not in found.flags
    shuffled = neural_codes(train, labels, test, drawn[0], exchanged=drawn)
    assert shuffled.nearest_p > 0.05
    assert "failed_null" in shuffled.flags
    assert np.isnan(neural_codes(train, labels, test, truth).nearest_p)


def test_two_clusters_cannot_take_one_class():
    classes = np.array([0, 0, 0, 0, 1, 1])
    clusters = np.array([0, 0, 1, 1, 1, 1])
    # Mapped greedily, cluster 1 would be class 0 too; matched, it is class 1.
    assert matched_accuracy(clusters, classes) == pytest.approx(4 / 6)
    assert matched_accuracy(1 - classes, classes) == 1


def test_redundancy():
    codes = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], dtype=bool)
    assert code_redundancy(codes) == 0.25
    assert code_redundancy(codes[[0, 2, 3]]) == 0


def test_trials_that_have_no_codes(generator):
    train, labels = trials(generator, 30, 0.1)
    with pytest.raises(EvidenceError, match="'d' is not among 'a', 'b', 'c'"):
        neural_codes(train, labels, train, np.full(30, "d"))
    with pytest.raises(EvidenceError, match="in classes of 1, 29"):
        neural_codes(train, np.r_[["a"], ["b"] * 29], train, np.full(30, "b"))
    with pytest.raises(EvidenceError, match="None of 40 is"):
        neural_codes(np.ones((30, 40)), labels, train, labels)
    with pytest.raises(EvidenceError, match="Got 40 and 39"):
        neural_codes(train, labels, train[:, 1:], labels)
    with pytest.raises(EvidenceError, match="some not finite"):
        neural_codes(train * np.nan, labels, train, labels)
    with pytest.raises(EvidenceError, match="Got 30 and 29 labels"):
        neural_codes(train, labels, train, labels[1:])
