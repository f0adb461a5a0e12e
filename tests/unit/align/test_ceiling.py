"""Subjects as repeats: what was planted to be common is found, and nothing of noise."""

import numpy as np
import pytest

from lmri.align.ceiling import shared_ceiling
from lmri.align.shared_response import shared_response

WIDTHS, TRIALS, K = (30, 48, 24, 36), 400, 5


def planted(rng, share, noise=0.0):
    """Subjects whose K dimensions are common to this share, in units of their own."""
    common = rng.normal(size=(2 * TRIALS, K))
    subjects = []
    for width in WIDTHS:
        own = rng.normal(size=common.shape)
        axes = np.linalg.qr(rng.normal(size=(width, K)))[0]
        mixed = np.sqrt(share) * common + np.sqrt(1 - share) * own
        subjects.append(mixed @ axes.T + noise * rng.normal(size=(2 * TRIALS, width)) + 2)
    return [own[:TRIALS] for own in subjects], [own[TRIALS:] for own in subjects]


def ceiling(rng, share, noise=0.0, draws=19):
    fit, score = planted(rng, share, noise)
    model = shared_response(fit, K)
    told = np.stack([model.transform(n, own) for n, own in enumerate(score)])
    variances = [
        scale**2 * own.var(axis=0).sum() for scale, own in zip(model.scales, score, strict=True)
    ]
    orders = [rng.permutation(TRIALS) for _ in range(draws)]
    return shared_ceiling(told, variances, orders)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8, 1.0])
def test_the_planted_share_is_the_ceiling(share):
    found = ceiling(np.random.default_rng(1), share)
    assert found.value == pytest.approx(share, abs=0.05)
    assert found.share == pytest.approx(share, abs=0.05)  # all activity is in the shared space
    assert found.p == 0.05
    assert found.null[2] < 0.05


def test_of_all_activity_it_is_less_where_units_have_noise_of_their_own():
    found = ceiling(np.random.default_rng(1), 0.8, noise=0.5)
    assert found.value > found.share + 0.2


def test_subjects_without_anything_in_common_have_none():
    found = [ceiling(np.random.default_rng(seed), 0.0, draws=9) for seed in range(12)]
    assert abs(np.mean([own.value for own in found])) < 0.01
    assert np.mean([own.p <= 0.1 for own in found]) < 0.4
    assert all(abs(own.null[1]) < 0.01 for own in found)


def test_a_level_of_its_own_is_no_answer():
    rng = np.random.default_rng(0)
    told = np.tile(rng.normal(size=(1, 50, 3)), (3, 1, 1)) + np.arange(3)[:, None, None]
    found = shared_ceiling(told, [1.0, 1.0, 1.0], [rng.permutation(50)])
    assert found.value == pytest.approx(1)
