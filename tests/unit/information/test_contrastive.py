"""InfoNCE: its ceiling with the true critic, and what a trained one reaches."""

import math

import closed_forms as known
import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.contrastive import bound_of_scores, infonce


def true_scores(x, y, rho):
    """Log density ratio of every pair, up to a function of y."""
    left = y[None] - rho * x[:, None]
    return (-0.5 * left**2 / (1 - rho**2) + 0.5 * y[None] ** 2).sum(axis=-1)


@pytest.mark.parametrize(("rho", "expected"), [(0.6, 3.579), (0.9, 4.851)])  # of the notes' runs
def test_bound_with_the_true_density_ratio(rho, expected):
    x, y = known.gaussian_pair(128 * 40, 20, rho)
    bounds = [
        bound_of_scores(true_scores(x[i : i + 128], y[i : i + 128], rho))
        for i in range(0, len(x), 128)
    ]
    assert np.mean(bounds) == pytest.approx(expected, abs=0.06)
    assert max(bounds) <= math.log(128) < known.gaussian_information(20, 0.9)


def test_trained_critic():
    x, y = known.gaussian_pair(4_000, 1, 0.9)
    found = infonce(x, y, steps=600)
    truth = known.gaussian_information(1, 0.9)
    assert 0.7 * truth < found.value < truth + 0.05
    assert found.ceiling == math.log(128)
    assert infonce(x, y, steps=600) == found


def test_independent_variables_have_nothing():
    rng = np.random.default_rng(0)
    found = infonce(rng.normal(size=(1_000, 2)), rng.normal(size=(1_000, 2)), steps=100)
    assert -0.5 < found.value < 0.05


def test_what_is_refused():
    x, y = known.gaussian_pair(300, 1, 0.5)
    with pytest.raises(EvidenceError, match="at least 'batch' = 128"):
        infonce(x, y, groups=np.arange(300) // 100)
    with pytest.raises(EvidenceError, match="must be in"):
        infonce(x[:200], y[:200])
    with pytest.raises(EvidenceError, match="must be square"):
        bound_of_scores(np.ones((2, 3)))
