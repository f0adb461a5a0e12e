"""Stacking checkpoints."""

import numpy as np
import pytest
import xarray as xr

from lmri.errors import EvidenceError
from lmri.information.dynamics import series
from lmri.information.dynamics.series import dependent, lag_one


def score(values, layers=(0, 1)):
    return xr.Dataset({"score": ("layer", np.asarray(values, float))}, coords={"layer": [*layers]})


def test_any_number_is_stacked_by_step():
    found = series({200: score([3, 4]), 0: score([1, 2])}, "score")
    assert found.dims == ("step", "layer")
    assert found["step"].values.tolist() == [0, 200]
    assert found.values.tolist() == [[1, 2], [3, 4]]
    scalars = {step: xr.Dataset({"loss": float(step)}) for step in range(3)}
    assert series(scalars, "loss").values.tolist() == [0, 1, 2]


def test_series_that_do_not_fit():
    with pytest.raises(EvidenceError, match=r"at least two checkpoints\. Got 1"):
        series({0: score([1, 2])}, "score")
    with pytest.raises(EvidenceError, match="Step 0 has score"):
        series({0: score([1, 2]), 1: score([1, 2])}, "loss")
    for other in (score([1, 2], (0, 2)), score([1], (0,))):
        with pytest.raises(EvidenceError, match="same dimensions and labels at every step"):
            series({0: score([1, 2]), 1: other}, "score")


def test_lag_one(generator):
    assert lag_one(np.array([1.0, -1, 1, -1])) == pytest.approx(-0.75)
    assert lag_one(np.ones(5)) == 0
    assert dependent(np.cumsum(generator.standard_normal(50)))
    assert not dependent(generator.standard_normal(50))
