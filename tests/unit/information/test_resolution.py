"""Resolution curves: a known channel, saturation, estimators of one and of several numbers."""

import numpy as np
import pytest
from scipy.special import logsumexp

from lmri.errors import EvidenceError
from lmri.information.resolution import gaussian_channel, resolution_curve


def bounds(rows, deviation):
    """Kolchinsky and Tracey's bounds for a mixture of Gaussians around the rows."""
    apart = np.square(rows[:, None] - rows).sum(-1)

    def bound(factor):
        inside = -apart / (factor * deviation**2)
        return float(-(logsumexp(inside, axis=1) - np.log(len(rows))).mean())

    return {"upper": bound(2), "lower": bound(8)}


def test_a_gaussian_layer_between_its_bounds(generator):
    rows = generator.standard_normal((1000, 1))
    found = resolution_curve(rows, bounds, noises=(0.1, 1.0))
    assert found["noise"].values.tolist() == [1.0, 0.1]
    # Section 7B of the notes: .611 and .218 around .347 at a noise of 1.
    assert float(found["upper"][0]) == pytest.approx(0.611, abs=0.03)
    assert float(found["lower"][0]) == pytest.approx(0.218, abs=0.02)
    assert float(found["gaussian"][0]) == pytest.approx(0.5 * np.log(2), abs=0.01)
    assert float(found["gaussian"][1]) == pytest.approx(0.5 * np.log(101), abs=0.01)
    assert (found["upper_flags"] == "").all()
    assert np.isnan(found["saturation"]).all()


def test_wide_layers_saturate_and_say_at_which_noise(generator):
    rows = np.maximum(generator.standard_normal((300, 256)), 0)
    found = resolution_curve(rows, bounds, noises=(10.0, 3.0, 0.3, 0.01))
    assert float(found["upper"][-1]) == pytest.approx(np.log(300), rel=1e-3)
    assert found["upper_flags"].values.tolist()[-1] == "saturation"
    assert float(found["saturation"].sel(estimate="upper")) >= float(
        found["saturation"].sel(estimate="lower")
    )
    assert float(found["gaussian"][-1]) > np.log(300)  # it has no ceiling


def test_scale_is_divided_out(generator):
    rows = generator.standard_normal((100, 5))
    first, second = (resolution_curve(factor * rows, bounds) for factor in (1.0, 50.0))
    np.testing.assert_allclose(first["upper"], second["upper"])
    np.testing.assert_allclose(first["gaussian"], second["gaussian"])
    assert second.attrs["scale"] == pytest.approx(50 * first.attrs["scale"])
    fixed = resolution_curve(rows, bounds, scale=2 * first.attrs["scale"], noises=[0.5])
    assert float(fixed["upper"][0]) == pytest.approx(bounds(rows, first.attrs["scale"])["upper"])


def test_the_ceiling_is_that_of_different_rows(generator):
    rows = np.repeat(generator.standard_normal((10, 3)), 20, axis=0)
    found = resolution_curve(rows, lambda own, noise: bounds(own, noise)["upper"], noises=[1e-3])
    assert float(found["information"][0]) == pytest.approx(np.log(10))
    assert found["information_flags"].values.tolist() == ["saturation"]
    assert found.attrs["distinct"] == 10


def test_an_estimate_below_zero_is_kept_and_flagged(generator):
    found = resolution_curve(generator.standard_normal((20, 2)), lambda rows, noise: -0.1)
    assert (found["information"] == -0.1).all()
    assert set(found["information_flags"].values.tolist()) == {"negativity"}


def test_known_channels():
    assert gaussian_channel(np.array([3.0, 8.0]), 1.0) == pytest.approx(0.5 * np.log(36))
    assert gaussian_channel(np.array([3.0, 8.0]), 1e9) == pytest.approx(0)


def test_rows_without_a_curve(generator):
    with pytest.raises(EvidenceError, match="must differ"):
        resolution_curve(np.ones((9, 2)), bounds)
    with pytest.raises(
        EvidenceError, match=r"noises and a scale above 0\. Got the noises 1.0, 0.0"
    ):
        resolution_curve(generator.standard_normal((9, 2)), bounds, noises=[1, 0])
    with pytest.raises(EvidenceError, match="the scale 0"):
        resolution_curve(np.zeros((9, 2)), bounds)
    with pytest.raises(EvidenceError, match="Got the noises none"):
        resolution_curve(generator.standard_normal((9, 2)), bounds, noises=[])
