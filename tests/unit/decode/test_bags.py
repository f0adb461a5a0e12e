"""Bags of tokens with conformal sets, of new carriers."""

import numpy as np
import pytest

from lmri.decode import Question, ask, label_trials
from lmri.decode.bags import _rounds, decode_bags
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
    said = r"at least 9 carriers to calibrate on at 'decode.alpha' 0\.1\. Got 7"
    with pytest.raises(EvidenceError, match=said):
        decoded(rng, make_trials["entities"](16), record_states, 1.0)


def test_nobody_is_trained_on_or_compared_with_trials_of_one_carrier(rng, make_trials):
    trials = make_trials["crossed"](16, 12)
    labelled = label_trials(Question("condition", "events"), trials, ("place", "year"))
    asked = ask(labelled, folds=4, draws=0, seed=0)
    rounds = _rounds(asked, np.ones(len(labelled.rows), dtype=bool), 0)
    judged = np.concatenate([own.held[own.test] for own in rounds])
    assert sorted(judged) == list(range(len(labelled.rows)))
    for own in rounds:
        for carrier in labelled.carriers:
            held = carrier.values[own.held]
            assert not np.isin(held, carrier.values[own.train]).any()
            for place, group in zip(own.test, own.compared, strict=True):
                used = held[group >= 0]
                assert held[place] not in used
                assert len(np.unique(used)) == len(used) == 5  # 12 years: 6 in two parts
