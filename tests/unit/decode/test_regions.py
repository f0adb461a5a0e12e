"""What a joint decoder misses, and what others tell as well."""

import numpy as np
import pytest

from lmri.decode import Question, ask, label_trials
from lmri.decode.positions import read_position
from lmri.decode.regions import ablate_regions
from lmri.errors import EvidenceError

POSITION = read_position("content", ("content",))


def regions(rng, make_trials, record_states, layers, planted):
    trials = make_trials["entities"](60)
    states = rng.normal(size=(60, 4, layers, 6))
    for layer in planted:
        states[(trials["condition"] == "b").to_numpy(), :, layer, 0] += 4
    activity = record_states(trials, states, np.full(60, 3))
    labelled = label_trials(Question("condition", "events"), trials, ("entity",))
    asked = ask(labelled, folds=3, draws=0, seed=0)
    return ablate_regions(activity, asked, POSITION, draws=30, seed=0)


def test_the_one_region_that_tells_is_missed(rng, make_trials, record_states):
    found = regions(rng, make_trials, record_states, 6, [2])
    assert found["region"].values.tolist() == ["0-1", "2-3", "4-5"]
    assert found["all"] > 0.9
    assert found["loss"].sel(region="2-3") > 0.3
    assert found["low"].sel(region="2-3") > 0
    assert found["alone"].sel(region="2-3") > 0.9
    assert abs(found["loss"].sel(region="0-1")) < 0.05
    # Of 15 pairs of layers, five hold the one that tells.
    assert (found["groups"] == 14).all()
    assert found["p"].sel(region="2-3") <= 5 / 15


def test_what_others_tell_as_well_is_not_missed(rng, make_trials, record_states):
    found = regions(rng, make_trials, record_states, 6, range(6))
    assert np.abs(found["loss"]).max() < 0.05
    assert found["alone"].min() > 0.9


def test_one_layer_has_no_regions(rng, make_trials, record_states):
    with pytest.raises(EvidenceError, match=r"at least 2 layers\. Got 1"):
        regions(rng, make_trials, record_states, 1, [0])
