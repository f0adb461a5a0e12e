"""Spectral measures: closed forms, what few rows can show, chunks, bad rows."""

import tracemalloc

import numpy as np
import pytest

from lmri.errors import EvidenceError, LmriError
from lmri.information.spectral import (
    Moments,
    Spectrum,
    matrix_spectrum,
    spectral_summary,
    spectrum,
    unit_rows,
)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def planted(*eigenvalues, samples=1000):
    return Spectrum(np.array(eigenvalues, dtype=float), samples, len(eigenvalues))


def test_measures_of_a_known_spectrum():
    found = planted(1, 1, 0, 0)
    assert found.entropy() == pytest.approx(np.log(2))
    assert found.entropy(2) == pytest.approx(np.log(2))
    assert found.participation_ratio == pytest.approx(2)
    assert found.effective_rank() == pytest.approx(2)
    assert found.normalised_entropy() == pytest.approx(0.5)
    uneven = planted(9, 1)
    assert uneven.participation_ratio == pytest.approx(100 / 82)
    assert np.exp(uneven.entropy(2)) == pytest.approx(uneven.participation_ratio)
    # Singular values are 3 and 1: shares of .75 and .25, not of .9 and .1.
    shares = np.array([0.75, 0.25])
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert uneven.effective_rank("singular_values") == pytest.approx(expected)
    assert uneven.effective_rank() < uneven.effective_rank("singular_values")
    assert uneven.coding_rate(0.5) == pytest.approx(0.5 * np.log((1 + 8 * 9) * (1 + 8)))


@pytest.mark.parametrize(
    ("n", "d", "published"), [(1000, 256, (204, 225, 247)), (1000, 1024, (505, 612, 812))]
)
def test_isotropic_rows_show_what_their_number_allows(generator, n, d, published):
    found = spectrum(generator.standard_normal((n, d)))
    ranks = (
        found.participation_ratio,
        found.effective_rank(),
        found.effective_rank("singular_values"),
    )
    np.testing.assert_allclose(ranks, published, rtol=0.01)
    assert found.participation_ratio == pytest.approx(found.isotropic_participation, rel=0.01)
    assert found.rank_ceiling == min(n - 1, d)
    assert found.flags(found.participation_ratio) == ("ceiling",)


def test_enough_rows_are_not_flagged(generator):
    found = spectrum(generator.standard_normal((4000, 5)))
    assert found.participation_ratio == pytest.approx(5, rel=0.01)
    assert found.flags(found.participation_ratio) == ()


def test_no_measure_depends_on_scale_or_rotation(generator):
    rows = generator.standard_normal((60, 7)) * np.arange(1, 8)
    rotation, _ = np.linalg.qr(generator.standard_normal((7, 7)))
    reference = spectral_summary(spectrum(rows))
    moved = spectral_summary(spectrum(3.0 * rows @ rotation + 10.0))
    assert moved == pytest.approx(reference, rel=1e-9)


@pytest.mark.parametrize("shape", [(12, 30), (30, 30), (200, 30)])
@pytest.mark.parametrize("scaling", ["raw", "standardised", "trimmed"])
def test_chunks_give_the_spectrum_of_the_whole(generator, shape, scaling):
    rows = generator.standard_normal(shape) * np.linspace(1, 2, 30) + 4.0
    rows[:, 3] *= 100
    moments = Moments(30)
    for part in np.array_split(rows, [1, 2, 9, 10, 11]):
        moments.add(part)
    keep = np.arange(30) != 3 if scaling == "trimmed" else np.full(30, True)
    covariance = np.cov(rows.T, bias=True)
    if scaling == "standardised":
        covariance = np.corrcoef(rows.T)
    expected = np.linalg.eigvalsh(covariance[np.ix_(keep, keep)])[::-1]
    found = moments.spectrum(scaling)
    size = len(found.eigenvalues)
    np.testing.assert_allclose(found.eigenvalues, expected[:size], rtol=1e-7, atol=1e-9)
    assert found.dimensions == keep.sum()
    assert moments.mean == pytest.approx(rows.mean(axis=0))
    assert moments.mean_square == pytest.approx(np.square(rows).mean())
    assert moments.outlying().nonzero()[0].tolist() == [3]
    second = moments.spectrum(centred=False).eigenvalues
    about_zero = np.linalg.eigvalsh(rows.T @ rows / len(rows))[::-1][: len(second)]
    np.testing.assert_allclose(second, about_zero, rtol=1e-7, atol=1e-9)


def test_a_constant_dimension_is_left_out_of_the_standardised(generator):
    rows = np.c_[generator.standard_normal((50, 3)), np.full(50, 0.1)]
    found = spectrum(rows, "standardised")
    assert found.dimensions == 3
    assert found.eigenvalues.sum() == pytest.approx(3)


def test_memory_does_not_grow_with_rows(generator):
    def peak(chunks):
        moments, rows = Moments(64), generator.standard_normal((256, 64))
        tracemalloc.start()
        for _ in range(chunks):
            moments.add(rows)
        moments.spectrum()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(200) < 1.1 * peak(10)


def test_prompt_entropy_is_that_of_directions():
    rows = np.array([[3.0, 0, 0], [0, 5.0, 0], [-3.0, 0, 0], [0, -5.0, 0]])
    assert matrix_spectrum(rows).entropy() == pytest.approx(np.log(2))
    assert spectrum(rows).entropy() < np.log(2)
    np.testing.assert_allclose(np.linalg.norm(unit_rows(rows, rows.mean(axis=0)), axis=1), 1)


def test_rows_that_have_no_spectrum(generator):
    with pytest.raises(EvidenceError, match=r"at least 2 rows .* Got 1"):
        spectrum(np.ones((1, 3)))
    for samples in (4, 40):
        with pytest.raises(EvidenceError, match=f"The {samples} rows .* must differ"):
            spectrum(np.full((samples, 9), 0.1))
    with pytest.raises(EvidenceError, match="1 of 2 are not"):
        spectrum(np.array([[1.0, np.nan], [0.0, 1.0]]))
    with pytest.raises(EvidenceError, match=r"must have the shape \(n, 3\). Got \(2, 2\)"):
        Moments(3).add(np.ones((2, 2)))
    with pytest.raises(LmriError, match="'scaling' of the spectral measures must be one of"):
        spectrum(generator.standard_normal((5, 2)), "whitened")
    with pytest.raises(LmriError, match="'of' of the effective rank must be one of"):
        planted(1, 1).effective_rank("neither")
    with pytest.raises(EvidenceError, match=r"'alpha' .* must be above 0"):
        planted(1, 1).entropy(0)
    with pytest.raises(LmriError, match="'epsilon' of the coding rate"):
        planted(1, 1).coding_rate(0)
