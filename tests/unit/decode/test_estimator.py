"""One estimator, made of scikit-learn's."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from lmri.decode import MaskedDiscriminant
from lmri.errors import EvidenceError


def planted(rng, classes=2, n=90, d=12):
    labels = np.arange(n) % classes
    centres = 1.5 * rng.normal(size=(classes, d))
    return centres[labels] + rng.normal(size=(n, d)), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_scaling_components_and_a_discriminant(rng, classes):
    X, y = planted(rng, classes)
    ours = MaskedDiscriminant(components=5, shrinkage=0.3).fit(X, y)
    points = PCA(5, svd_solver="full").fit_transform(StandardScaler().fit_transform(X))
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(points, y)
    # Classes are of one size here, so that priors are equal.
    assert (ours.predict(X) == theirs.predict(points)).all()
    if classes == 2:
        np.testing.assert_allclose(
            ours.decision_function(X), theirs.decision_function(points), atol=1e-8
        )
    else:
        p = theirs.predict_proba(points)
        np.testing.assert_allclose(ours.decision_function(X), np.log(p / (1 - p)), atol=1e-6)


def test_rare_classes_count_alike(rng):
    y = (np.arange(400) % 5 == 0).astype(int)
    X = rng.normal(size=(400, 3)) + 0.6 * y[:, None]
    said = MaskedDiscriminant(shrinkage=0.1).fit(X, y).predict(X)
    shares = [(said[y == own] == own).mean() for own in (0, 1)]
    assert abs(shares[0] - shares[1]) < 0.1


def test_only_the_mask_is_used(rng):
    X, y = planted(rng)
    mask = np.arange(12) < 4
    made = MaskedDiscriminant(mask).fit(X, y)
    other = X.copy()
    other[:, 4:] = rng.normal(size=(len(X), 8))
    np.testing.assert_array_equal(made.decision_function(X), made.decision_function(other))


def test_unlabelled_trials_shape_the_components_only(rng):
    X, y = planted(rng)
    more = np.concatenate([X, rng.normal(size=(20, 12))])
    made = MaskedDiscriminant().fit(more, np.concatenate([y, np.full(20, -1)]))
    assert made.classes_.tolist() == [0, 1]
    np.testing.assert_allclose(made.space_["standardscaler"].mean_, more.mean(axis=0))


def test_it_can_be_cloned():
    made = clone(MaskedDiscriminant(np.ones(3, dtype=bool), components=2, shrinkage=0.7))
    assert made.get_params()["shrinkage"] == 0.7


def test_constant_units_are_left_out(rng):
    X, y = planted(rng)
    more = np.concatenate([X, np.full((len(X), 2), 3.0)], axis=1)
    np.testing.assert_allclose(
        MaskedDiscriminant().fit(more, y).decision_function(more),
        MaskedDiscriminant().fit(X, y).decision_function(X),
    )


def test_nothing_to_decode_from_is_refused(rng):
    X, y = planted(rng)
    with pytest.raises(EvidenceError, match="All 12 units are constant over 90 trials"):
        MaskedDiscriminant().fit(np.ones_like(X), y)
    with pytest.raises(EvidenceError, match=r"trials of 2 classes to train on\. Got 1 in 90"):
        MaskedDiscriminant().fit(X, np.zeros(90))
