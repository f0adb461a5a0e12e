"""Kernel alignment: what it does not see, and its bias."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from lmri.align.kernels import (
    biased_alignment,
    debiased_alignment,
    gram,
    permuted_alignments,
)
from lmri.errors import EvidenceError

N = 200


def debiased(x, y):
    return debiased_alignment(gram([x])[0], gram([y])[0])


@pytest.fixture
def pair():
    """Correlated activity of 12 units, far from isotropic."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 12)) * np.linspace(0.2, 3, 12)
    return x, x + rng.normal(size=x.shape)


@pytest.mark.parametrize("measure", [debiased, biased_alignment])
def test_rotation_scale_and_shift_are_not_seen(pair, measure):
    x, _ = pair
    rotation = ortho_group.rvs(12, random_state=1)
    assert measure(x, 3 * x @ rotation + 5) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("measure", [debiased, biased_alignment])
def test_a_general_linear_map_is_seen(pair, measure):
    x, _ = pair
    mixing = np.random.default_rng(1).normal(size=(12, 12))
    assert measure(x, x @ mixing) < 0.95


@pytest.mark.parametrize("d", [10, 100, 1000, 5000])
def test_independent_activity_is_not_aligned(d):
    rng = np.random.default_rng(d)
    x, y = rng.normal(size=(2, N, d))
    assert abs(debiased(x, y)) < 0.06
    if d < N:
        # d / (n + d), not 0.
        assert biased_alignment(x, y) == pytest.approx(d / (N + d), rel=0.25)


def test_biased_alignment_is_refused_with_many_units():
    x, y = np.random.default_rng(0).normal(size=(2, 50, 50))
    with pytest.raises(EvidenceError, match=r"50 units and 50 trials.*debiased_alignment"):
        biased_alignment(x, y)


def test_the_unbiased_estimate_is_that_of_its_definition(pair):
    """Song et al.: the mean of k_ij l_ij - 2 k_ij l_iq + k_ij l_qr over distinct trials."""
    x, y = (own[:7, :3] for own in pair)
    k, other = (gram([own])[0] for own in (x, y))

    def hsic(a, b):
        total, count = 0.0, 0
        for i in range(7):
            for j in range(7):
                for q in range(7):
                    for r in range(7):
                        if len({i, j, q, r}) == 4:
                            total += a[i, j] * (b[i, j] - 2 * b[i, q] + b[q, r])
                            count += 1
        return total / count

    expected = hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))
    assert debiased_alignment(k, other) == pytest.approx(expected, rel=1e-9)


def test_batches_of_units_make_one_kernel(pair):
    x, _ = pair
    whole, units = gram([x])
    parts, same = gram(x[:, start : start + 5] for start in (0, 5, 10))
    np.testing.assert_allclose(parts, whole, atol=1e-9)
    assert units == same == 12


def test_permuted_trials_are_the_null(pair):
    x, y = (gram([own])[0] for own in pair)
    rng = np.random.default_rng(0)
    null = permuted_alignments(x, y, [rng.permutation(N) for _ in range(50)])
    assert abs(null.mean()) < 0.02
    assert debiased_alignment(x, y) > null.max()
    assert permuted_alignments(x, y, [np.arange(N)])[0] == pytest.approx(debiased_alignment(x, y))


def test_what_cannot_be_aligned_is_refused(pair):
    x, y = pair
    with pytest.raises(EvidenceError, match=r"the same trials. Got 200 and 190"):
        debiased_alignment(gram([x])[0], gram([y[:190]])[0])
    with pytest.raises(EvidenceError, match=r"4 trials or more. Got 3"):
        debiased_alignment(gram([x[:3]])[0], gram([y[:3]])[0])
    with pytest.raises(EvidenceError, match=r"varies.*2 units"):
        gram([np.ones((10, 2))])
