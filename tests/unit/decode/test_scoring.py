"""Scores against scikit-learn's, and permutation tests."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from lmri.decode.labellings import HeldOut
from lmri.decode.scoring import (
    area_under_curve,
    balanced_accuracy,
    permutation_test,
    scores_of,
)


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_those_of_scikit_learn(rng, classes):
    labels = rng.integers(classes, size=(5, 80))
    odds = np.round(rng.normal(size=(5, 80, classes)), 1)  # with ties
    if classes == 2:
        odds[..., 0] = -odds[..., 1]
    held = HeldOut(odds, np.zeros(80, dtype=int))
    for number in range(5):
        said = odds[number].argmax(axis=1)
        expected = balanced_accuracy_score(labels[number], said)
        assert balanced_accuracy(held, labels)[number] == pytest.approx(expected)
        areas = [roc_auc_score(labels[number] == k, odds[number, :, k]) for k in range(classes)]
        assert area_under_curve(held, labels)[number] == pytest.approx(np.mean(areas))


def test_trials_are_compared_within_their_fold(rng):
    labels = np.tile([0, 1], 20)[None]
    fold = np.repeat([0, 1], 20)
    score = np.where(labels[0] == 1, 1.0, 0.0) + 100 * fold
    held = HeldOut(np.stack([-score, score], axis=-1)[None], fold)
    assert area_under_curve(held, labels)[0] == 1.0


def test_unlabelled_trials_do_not_count(rng):
    labels = rng.integers(2, size=(1, 60))
    score = rng.normal(size=60)
    held = HeldOut(np.stack([-score, score], axis=-1)[None], np.zeros(60, dtype=int))
    masked = labels.copy()
    masked[0, 40:] = -1
    few = HeldOut(held.odds[:, :40], held.fold[:40])
    np.testing.assert_allclose(scores_of(held, masked), scores_of(few, labels[:, :40]))


def test_an_imbalanced_null_is_at_one_half(rng):
    # Always saying the frequent class is right 80 % of the time.
    labels = (rng.random((200, 300)) < 0.2).astype(int)
    score = rng.normal(size=(200, 300)) - 3
    held = HeldOut(np.stack([-score, score], axis=-1), np.zeros(300, dtype=int))
    assert (held.odds.argmax(axis=-1) == labels).mean() > 0.75
    assert scores_of(held, labels).mean(axis=1) == pytest.approx([0.5, 0.5], abs=0.01)


def test_p_counts_the_labels_themselves():
    scores = np.array([[0.9, 0.5], [0.4, 0.5], [0.6, 0.95], [0.9, 0.2]])
    tested = permutation_test(scores)
    assert tested.p.tolist() == [0.5, 0.75]
    assert tested.p_max.tolist() == [0.75, 1.0]
    assert tested.null_mean == pytest.approx([1.9 / 3, 1.65 / 3])


def test_a_cell_without_a_score_is_in_no_maximum():
    scores = np.array([[0.9, np.nan], [0.4, 0.99], [0.5, 0.99]])
    tested = permutation_test(scores)
    assert tested.p_max[0] == pytest.approx(1 / 3)
    assert np.isnan(tested.p[1])


def test_an_exchange_that_cannot_be_scored_counts_against():
    tested = permutation_test(np.array([[0.9], [np.nan], [0.5]]))
    assert tested.p.tolist() == [2 / 3]
    assert tested.p_max.tolist() == [2 / 3]
