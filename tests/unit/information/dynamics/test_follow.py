"""Following a whole profile."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import false_discovery_control

from lmri.errors import EvidenceError
from lmri.information.dynamics import follow


@pytest.fixture
def profile(generator):
    """Four layers over 40 checkpoints: a jump, a ramp into a jump, noise, and no number."""
    steps = np.arange(40) * 100
    values = 0.1 * generator.standard_normal((40, 2, 2))
    values[20:, 0, 0] += 3
    values[:, 1, 1] = np.nan
    values[:3, 1, 0] = np.nan
    coords = {"step": steps, "phase": ["content", "response"], "layer": [0, 1]}
    return xr.DataArray(values, dims=("step", "phase", "layer"), coords=coords, name="rank")


def test_each_number_has_its_change(profile):
    found = follow(profile, draws=199)
    own = found.sel(phase="content", layer=0)
    assert (float(own["after"]), float(own["until"])) == (1900, 2000)
    assert float(own["jump"]) == pytest.approx(3, abs=0.1)
    assert int(own["changes"]) == 1
    assert float(own["p"]) == pytest.approx(0.005)
    assert float(own["q"]) == pytest.approx(0.015)
    # The jump itself is left out of the checkpoints that might warn of it.
    assert (own["warning_p"] > 0.05).all()
    assert all("failed_null" in text for text in own["warning_flags"].values)
    quiet = found.sel(phase="content", layer=1)
    assert int(quiet["changes"]) == 0 and np.isnan(quiet["after"])
    assert "failed_null" in str(quiet["flags"].values)
    assert found.attrs["variable"] == "rank"


def test_warnings_are_corrected_over_all_numbers(profile):
    found = follow(profile, draws=199)
    p, q = found["warning_p"].values.ravel(), found["warning_q"].values.ravel()
    tested = np.isfinite(p)
    np.testing.assert_allclose(q[tested], false_discovery_control(p[tested]))
    assert np.isnan(q[~tested]).all()
    few = follow(profile[:8], draws=19)
    assert np.isnan(few["warning_q"]).all()
    assert (few["warning_flags"] == "").all()


def test_numbers_that_are_not_there(profile):
    found = follow(profile, draws=19)
    assert str(found["flags"].sel(phase="response", layer=1).values) == "few_checkpoints"
    assert np.isnan(found["p"].sel(phase="response", layer=1))
    late = found.sel(phase="response", layer=0)
    assert float(late["first"]) == float(profile.sel(phase="response", layer=0)[3])
    scalar = follow(profile.sel(phase="content", layer=0, drop=True), draws=19)
    assert scalar["jump"].shape == ()


def test_what_cannot_be_followed(profile):
    with pytest.raises(EvidenceError, match="must be over 'step' first"):
        follow(profile.transpose("phase", "step", "layer"))
    with pytest.raises(EvidenceError, match="finite at 6 checkpoints at least"):
        follow(profile[:5])
