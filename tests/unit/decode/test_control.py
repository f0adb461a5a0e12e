"""Selectivity tells what is read from what is remembered."""

import numpy as np
import pytest

from lmri.decode import Question, ask, label_trials
from lmri.decode.control import selectivity
from lmri.decode.positions import read_position
from lmri.errors import EvidenceError

PHASES = ("content", "prompt_last", "response")


def control(rng, trials, record_states, effect, memory):
    states = rng.normal(size=(len(trials), 4, 1, 40))
    codes = trials["carrier_entity"].astype("category").cat.codes
    states += memory * rng.normal(size=(codes.max() + 1, 1, 1, 40))[codes]
    states[(trials["condition"] == "b").to_numpy(), ..., 0] += effect
    activity = record_states(trials, states, np.full(len(trials), 3))
    labelled = label_trials(Question("condition", "events"), trials, ("entity",))
    asked = ask(labelled, folds=3, draws=0, seed=0)
    positions = [read_position("content", PHASES)]
    return selectivity(activity, asked, positions, {}, draws=10, seed=0).squeeze()


def test_a_label_that_is_only_remembered_is_not_selective(rng, make_trials, record_states):
    trials = make_trials["entities"](20, trials=8)
    found = control(rng, trials, record_states, effect=0.0, memory=3.0)
    assert found["accuracy"] > 0.85
    assert abs(found["selectivity"]) < 3 * found["control_sd"] + 0.02


def test_a_label_that_is_there_is_selective(rng, make_trials, record_states):
    trials = make_trials["entities"](20, trials=8)
    found = control(rng, trials, record_states, effect=4.0, memory=0.0)
    assert found["selectivity"] > 0.3
    assert found["control"] == pytest.approx(0.5, abs=0.1)


def test_what_is_met_once_cannot_be_remembered(rng, make_trials, record_states):
    trials = make_trials["entities"](40)
    with pytest.raises(EvidenceError, match=r"at least 2 trials of each entity\. Got 1\.0"):
        control(rng, trials, record_states, 1.0, 1.0)


def test_labels_that_differ_within_an_entity_are_not_remembered_of_it(
    rng, make_trials, record_states
):
    trials = make_trials["relations"]()
    activity = record_states(trials, rng.normal(size=(36, 4, 1, 6)), np.full(36, 3))
    labelled = label_trials(Question("condition", "relations"), trials, ("place",))
    asked = ask(labelled, folds=3, draws=0, seed=0)
    with pytest.raises(EvidenceError, match="Every place has several"):
        selectivity(activity, asked, [read_position("content", PHASES)], {}, draws=2, seed=0)
