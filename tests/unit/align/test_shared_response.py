"""Shared spaces: what is planted is found, what is not is not."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.stats import ortho_group

from lmri.align.shared_response import procrustes, shared_response
from lmri.errors import EvidenceError


def canonical(one, other):
    """Smallest canonical correlation of two spaces of responses."""
    angles = subspace_angles(one - one.mean(axis=0), other - other.mean(axis=0))
    return np.cos(angles).min()


def test_a_planted_space_is_recovered(planted):
    shared, subjects = planted()
    found = shared_response(subjects, 5)
    assert canonical(found.response, shared) > 0.97
    for number, weights in enumerate(found.weights):
        np.testing.assert_allclose(weights.T @ weights, np.eye(5), atol=1e-10)
        assert canonical(found.transform(number, subjects[number]), shared) > 0.97
    assert found.explained > 0.7


def test_subjects_that_share_nothing_share_nothing_in_new_trials(planted):
    _, subjects = planted(unrelated=(0, 1, 2))
    found = shared_response([own[:150] for own in subjects], 5)
    told = [found.transform(n, own[150:]) for n, own in enumerate(subjects)]
    correlations = [np.corrcoef(told[0][:, j], told[1][:, j])[0, 1] for j in range(5)]
    assert np.abs(correlations).max() < 0.3
    _, subjects = planted()
    found = shared_response([own[:150] for own in subjects], 5)
    told = [found.transform(n, own[150:]) for n, own in enumerate(subjects)]
    correlations = [np.corrcoef(told[0][:, j], told[1][:, j])[0, 1] for j in range(5)]
    assert min(correlations) > 0.9


def test_a_large_subject_does_not_decide(planted):
    _, subjects = planted(unrelated=(2,))
    loud = [subjects[0], subjects[1], 1000 * subjects[2]]
    first, second = (shared_response(own, 5) for own in (subjects, loud))
    np.testing.assert_allclose(first.response, second.response, atol=1e-6)


def test_the_fit_is_the_same_each_time(planted):
    _, subjects = planted()
    first, second = (shared_response(subjects, 5) for _ in range(2))
    np.testing.assert_array_equal(first.response, second.response)


def test_one_subject_is_its_principal_components(planted):
    _, subjects = planted()
    own = subjects[0] - subjects[0].mean(axis=0)
    best = np.linalg.svd(own, full_matrices=False)[0][:, :5]
    assert canonical(shared_response(subjects[:1], 5).response, best) > 1 - 1e-6


def test_a_rotated_subject_is_rotated_back():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 6)) * np.arange(1, 7)
    y = 2 * x @ ortho_group.rvs(6, random_state=1) + 4
    found = procrustes(x[:50], y[:50], 6)
    assert found.explained(x[50:], y[50:]) == pytest.approx(1, abs=1e-9)
    assert found.scale == pytest.approx(2)
    noise = rng.normal(size=y.shape)
    assert procrustes(x[:50], noise[:50], 6).explained(x[50:], noise[50:]) < 0.1


def test_what_cannot_be_shared_is_refused(planted):
    _, subjects = planted()
    with pytest.raises(EvidenceError, match=r"the same trials. Got .300, 290, 300."):
        shared_response([subjects[0], subjects[1][:290], subjects[2]], 5)
    with pytest.raises(EvidenceError, match=r"Got 50 with 48 units and 300 trials"):
        shared_response(subjects, 50)
    with pytest.raises(EvidenceError, match=r"Got 20 with 64 units and 20 trials"):
        shared_response([own[:20] for own in subjects], 20)
    with pytest.raises(EvidenceError, match=r"All 64 are constant"):
        shared_response([np.full((300, 64), 0.1), subjects[1]], 5)
    with pytest.raises(EvidenceError, match=r"'dimensions'.*Got 0"):
        procrustes(subjects[0], subjects[1], 0)
    with pytest.raises(EvidenceError, match=r"1 subject or more"):
        shared_response([], 5)
