"""Resolution curves of recorded states: bounds, their reference, states that are all the same."""

import numpy as np
import pytest

from lmri.information.kernel import kolchinsky_tracey
from lmri.information.resolution_profiles import resolution_profile


@pytest.fixture
def found(planted):
    return resolution_profile([planted], noises=(3.0, 1.0, 0.01))


def test_bounds_are_those_of_the_states(planted, found):
    states = planted.array("pooled/residual/residual")[:, 1, 0, 1, 1]
    chosen = (planted.trials["split"] == "selection").to_numpy()
    own = kolchinsky_tracey(states[chosen], noise=(3.0, 1.0, 0.01))
    at = {"phase": "response", "layer": 1}
    assert found["noise"].values.tolist() == [3.0, 1.0, 0.01]
    np.testing.assert_allclose(found["upper"].sel(at), [own[0].value, own[2].value, own[4].value])
    np.testing.assert_allclose(found["lower"].sel(at), [own[1].value, own[3].value, own[5].value])
    assert float(found["scale"].sel(at)) == pytest.approx(own[0].channel["scale"])


def test_the_scale_of_saturation_is_the_most_noise_that_tells_all_apart(found):
    at = found.sel(phase="content", layer=0)
    assert at["upper_flags"].values.tolist()[-1] == "saturation"
    assert at["upper_flags"].values.tolist()[0] == ""
    assert float(at["saturation"]) in (1.0, 0.01)


def test_states_with_something_in_common_tell_less_than_independent_units(found):
    common = found.sel(phase="response", layer=1, noise=3.0)
    alone = found.sel(phase="content", layer=1, noise=3.0)
    assert float(common["independent"] - common["upper"]) > 0.02
    assert abs(float(alone["independent"] - alone["upper"])) < 0.05


def test_a_phase_without_tokens_says_why(found):
    assert np.isnan(found["upper"].sel(phase="think")).all()
    assert (found["reason"].sel(phase="think") == "No trial has a token in the phase.").all()


def test_states_that_are_all_the_same_say_why(planted):
    planted.array("pooled/residual/residual")[:, 0] = 1.0
    found = resolution_profile([planted], noises=(1.0,), surrogates=1)
    assert (found["reason"].sel(phase="content") == "All states are the same.").all()
