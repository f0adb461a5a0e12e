"""Many labellings at once give what the estimator gives for each."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from lmri.decode import MaskedDiscriminant
from lmri.decode.folds import Fold
from lmri.decode.labellings import decode_held_out

ROWS = np.arange(60)
parts = ROWS % 3


def drawn(rng, classes, missing):
    labels = rng.permuted(np.tile(ROWS % classes, (4, 1)), axis=1)
    if missing:
        labels[rng.random(labels.shape) < 0.2] = -1
    centres = rng.normal(size=(classes, 8))
    return centres[np.maximum(labels[0], 0)] + rng.normal(size=(60, 8)), labels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("missing", [False, True])
def test_every_labelling_is_as_if_alone(rng, classes, missing):
    X, labels = drawn(rng, classes, missing)
    folds = [Fold(ROWS[parts != own], ROWS[parts == own]) for own in range(3)]
    held = decode_held_out(X, labels, folds, classes, components=5, shrinkages=(0.4,))
    for number, own in enumerate(labels):
        for fold in folds:
            alone = MaskedDiscriminant(components=5, shrinkage=0.4)
            odds = alone.fit(X[fold.train], own[fold.train]).decision_function(X[fold.test])
            ours = held.odds[number, fold.test]
            np.testing.assert_allclose(ours[:, 1] if classes == 2 else ours, odds, atol=1e-8)


def test_the_shrinkage_is_chosen_inside_the_fold(rng):
    X, labels = drawn(rng, 2, False)
    inner = tuple((ROWS[parts == 3 - own], ROWS[parts == own]) for own in (1, 2))
    fold = Fold(ROWS[parts != 0], ROWS[parts == 0], inner)
    offered = (0.99, 0.5, 0.01)
    held = decode_held_out(X, labels, [fold], 2, components=6, shrinkages=offered)
    for number, own in enumerate(labels):
        scores = []
        for shrinkage in offered:
            said = np.full(60, -1)
            for train, test in inner:
                made = MaskedDiscriminant(components=6, shrinkage=shrinkage)
                said[test] = made.fit(X[train], own[train]).predict(X[test])
            scores.append(balanced_accuracy_score(own[fold.train], said[fold.train]))
        best = MaskedDiscriminant(components=6, shrinkage=offered[int(np.argmax(scores))])
        odds = best.fit(X[fold.train], own[fold.train]).decision_function(X[fold.test])
        np.testing.assert_allclose(held.odds[number, fold.test, 1], odds, atol=1e-8)


def test_trials_without_activity_are_left_out(rng):
    X, labels = drawn(rng, 2, False)
    X[:5] = np.nan
    folds = [Fold(ROWS[parts != own], ROWS[parts == own]) for own in range(3)]
    held = decode_held_out(X, labels, folds, 2)
    assert (held.fold[:5] == -1).all()
    assert np.isnan(held.odds[:, :5]).all()
    assert np.isfinite(held.odds[:, 5:]).all()
