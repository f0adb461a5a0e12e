"""Entropy of units over samples, and of samples over units."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.activation_entropy import ActivationHistogram, spread_over_units


def entropy_of(reference, samples, bins=4):
    histogram = ActivationHistogram(reference, bins)
    for part in np.array_split(samples, 3):
        histogram.add(part)
    return histogram.entropy()


def test_the_reference_itself_fills_all_bins_alike(generator):
    reference = generator.standard_normal((4000, 2)) * [1, 100]
    found = entropy_of(reference, reference)
    np.testing.assert_allclose(found["entropy"], 2, atol=1e-6)
    np.testing.assert_allclose(found["relative"], 1, atol=1e-6)
    assert found["flags"].values.tolist() == ["", ""]
    assert found.attrs["samples"] == 4000


def test_known_shares():
    reference = np.arange(8.0)[:, None]  # bins of two: below 2, 4, 6, and the rest
    samples = np.repeat([0.0, 3, 5, 9], [4, 2, 1, 1])[:, None]
    found = entropy_of(reference, samples)
    assert float(found["entropy"][0]) == pytest.approx(1.75)
    assert float(found["relative"][0]) == pytest.approx(0.875)
    assert float(found["corrected"][0]) == pytest.approx(1.75 + 3 / (16 * np.log(2)))
    assert found["flags"].values.tolist() == ["few_samples"]


def test_zeros_of_a_rectifier_fill_one_bin_only(generator):
    reference = np.maximum(generator.standard_normal((2000, 1)), 0)
    found = entropy_of(reference, reference, bins=5)
    zeros = (reference == 0).mean()  # a value among a thousand others
    shares = np.r_[zeros + (1 - zeros) / 5, [(1 - zeros) / 5] * 4]
    expected = -(shares * np.log2(shares)).sum()
    assert float(found["entropy"][0]) == pytest.approx(expected, abs=2e-3)


def test_a_unit_that_falls_silent_loses_its_entropy(generator):
    reference = generator.standard_normal((500, 2))
    samples = reference * [1, 1e-9]
    found = entropy_of(reference, samples)
    assert float(found["entropy"][1]) <= 1 < float(found["entropy"][0])


def test_constant_units_have_no_bins():
    found = entropy_of(np.full((50, 1), 2.0), np.arange(90.0)[:, None])
    assert float(found["entropy"][0]) == 0
    assert np.isnan(found["relative"][0])
    assert found["flags"].values.tolist() == ["constant"]


def test_spread_over_units():
    samples = np.array([[1.0, -1, 1, -1], [0, 3, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(spread_over_units(samples), [np.log(4), 0, np.nan], atol=1e-12)
    np.testing.assert_allclose(spread_over_units(7 * samples), spread_over_units(samples))
    # Of four equal units a = 1/2 each: -4 (1/2) ln(1/2), which is above ln 4 / 1 and no entropy.
    released = spread_over_units(samples, "qvlm_compat")
    assert released[0] == pytest.approx(2 * np.log(2), abs=1e-6)


def test_values_that_have_no_entropy(generator):
    with pytest.raises(EvidenceError, match="must have samples"):
        ActivationHistogram(np.empty((0, 3)))
    with pytest.raises(EvidenceError, match="'bins' of the activation entropy"):
        ActivationHistogram(np.ones((3, 3)), bins=1)
    histogram = ActivationHistogram(generator.standard_normal((9, 2)))
    with pytest.raises(EvidenceError, match="None were counted"):
        histogram.entropy()
    with pytest.raises(EvidenceError, match=r"the 2 units of its reference\. Got 3"):
        histogram.add(np.ones((4, 3)))
    with pytest.raises(EvidenceError, match="some not finite"):
        histogram.add(np.array([[np.inf, 0]]))
    with pytest.raises(EvidenceError, match="'normalisation' of the activation entropy must be"):
        spread_over_units(np.ones((1, 2)), "softmax")
