"""Bags of which one token tells."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from lmri.decode import BagClassifier
from lmri.decode.instances import separating
from lmri.errors import EvidenceError


def bags(rng, count=120, tokens=6, at=None, size=4.0):
    """Noise, with one token of every second bag moved; the last but one unless said."""
    X = rng.normal(size=(count, tokens, 8))
    y = np.arange(count) % 2 == 1
    place = np.full(count, tokens - 2) if at is None else at
    X[y, place[y], 0] += size
    return X, y


def test_one_token_of_a_bag_is_found(rng):
    X, y = bags(rng)
    made = BagClassifier(share=1 / 6).fit(X[:80], y[:80])
    assert roc_auc_score(y[80:], made.decision_function(X[80:])) > 0.95
    # A classifier of means has it diluted six times.
    means = LinearSVC(C=0.1, random_state=0).fit(X[:80].mean(axis=1), y[:80])
    assert roc_auc_score(y[80:], means.decision_function(X[80:].mean(axis=1))) < 0.9


def test_a_token_elsewhere_is_found_where_none_is_expected(rng):
    X, y = bags(rng, at=np.zeros(120, dtype=int), size=8.0)
    made = BagClassifier(share=0.16, informative=1).fit(X[:80], y[:80])
    assert roc_auc_score(y[80:], made.decision_function(X[80:])) > 0.9


def test_missing_tokens_are_not_read(rng):
    X, y = bags(rng)
    X[::3, :3] = np.nan
    made = BagClassifier().fit(X, y)
    alone = made.decision_function(X[:1, 3:])
    np.testing.assert_allclose(made.decision_function(X[:1]), alone)
    assert np.isnan(made.decision_function(np.full((1, 6, 8), np.nan)))


def test_margins_of_one_are_a_support_vector_machine(rng):
    rows = rng.normal(size=(80, 4))
    side = np.where(np.arange(80) % 2, 1.0, -1.0)
    rows[:, 0] += side
    weights, offset = separating(rows, side, np.ones(80), 0.5)
    theirs = LinearSVC(C=0.5, intercept_scaling=1e3, tol=1e-8, max_iter=100000).fit(rows, side)
    np.testing.assert_allclose(weights, theirs.coef_[0], atol=1e-3)
    assert offset == pytest.approx(theirs.intercept_[0], abs=1e-3)


def test_one_kind_of_bags_is_refused(rng):
    X, _ = bags(rng, 10)
    with pytest.raises(EvidenceError, match=r"without the class\. Got 10 of 10"):
        BagClassifier().fit(X, np.ones(10))
