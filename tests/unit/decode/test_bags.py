"""Bags of tokens with conformal sets, of new carriers."""

import numpy as np
import pytest

from lmri.decode import Question, ask, label_trials
from lmri.decode.bags import decode_bags
from lmri.errors import EvidenceError


def decoded(rng, trials, record_states, effect, alpha=0.1, classes=("a", "b")):
    states = rng.normal(size=(len(trials), 8, 1, 6))
    for number, name in enumerate(classes):
        states[(trials["condition"] == name).to_numpy(), 4, 0, number] += effect
    activity = record_states(trials, states, np.full(len(trials), 6))
    labelled = label_trials(Question("condition", "events"), trials, ("entity",))
    asked = ask(labelled, folds=4, draws=0, seed=0)
    return decode_bags(activity, asked, bag=4, alpha=alpha, seed=0).squeeze()


def test_a_token_that_tells_is_answered(rng, make_trials, record_states):
    found = decoded(rng, make_trials["entities"](120), record_states, 5.0)
    assert found["auc"] > 0.95
    assert found["coverage"] >= found["expected_low"]
    assert found["answered"] > 0.8
    assert found["accuracy_answered"] > 0.9
    assert found["n"] == 120
    assert found["answered"] + found["empty"] + found["several"] == pytest.approx(1)


def test_without_a_label_the_answer_is_neither(rng, make_trials, record_states):
    found = decoded(rng, make_trials["entities"](120), record_states, 0.0)
    assert abs(found["auc"] - 0.5) < 0.15
    assert found["coverage"] >= found["expected_low"]
    assert found["several"] > 0.6  # both cannot be excluded


def test_three_classes(rng, make_trials, record_states):
    classes = ("false", "neither", "true")
    trials = make_trials["entities"](120, classes)
    found = decoded(rng, trials, record_states, 6.0, classes=classes)
    assert found["balanced_accuracy"] > 0.85
    assert found["coverage"] >= found["expected_low"]


def test_too_few_carriers_to_calibrate(rng, make_trials, record_states):
    said = r"at least 9 carriers to calibrate on at 'decode.alpha' 0\.1\. Got 6"
    with pytest.raises(EvidenceError, match=said):
        decoded(rng, make_trials["entities"](24), record_states, 1.0)
