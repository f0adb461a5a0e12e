"""Traces are aligned at the end of the prompt, and padding is never read."""

import numpy as np
import pytest

from lmri.decode import Question, ask, label_trials
from lmri.decode.trace import trace
from lmri.errors import EvidenceError


@pytest.fixture
def followed(rng, make_trials, record_states):
    """Prompts of 3 to 6 tokens with a code from two tokens before their end to one after it."""
    trials = make_trials["entities"](60)
    prompt = 3 + np.arange(60) % 4
    states = rng.normal(size=(60, 9, 1, 6))
    offsets = np.arange(9) - (prompt - 1)[:, None]
    told = (np.abs(offsets) <= 1) & (trials["condition"] == "b").to_numpy()[:, None]
    states[told, 0, 0] += 6
    states[np.arange(9) >= (prompt + 2)[:, None]] = np.nan  # two tokens of response
    activity = record_states(trials, states, prompt)
    labelled = label_trials(Question("condition", "events"), trials, ("entity",))
    asked = ask(labelled, folds=3, draws=0, seed=0)
    return activity, asked, trace(activity, asked, before=10, after=10, seed=0)


def test_the_label_shows_where_it_is(followed):
    found = followed[2].sel(layer=0)
    assert found["auc"].sel(offset=[-1, 0, 1]).min() > 0.95
    assert found["auc"].sel(offset=-3) < 0.8
    assert found["probability"].sel(condition="b", offset=0) > 0.9
    assert found["probability"].sel(condition="a", offset=0) < 0.1


def test_offsets_that_no_trial_has_are_not_there(followed):
    found = followed[2]
    assert found["offset"].values.tolist() == list(range(-5, 3))
    assert found["n"].sel(offset=-5).sum() == 15  # the longest prompts only
    assert found["n"].sel(offset=0).sum() == 60


def test_trials_that_have_not_begun_do_not_pull_the_mean(make_trials, record_states):
    # Without noise the decoder is sure: every token of b that is there is b.
    trials = make_trials["entities"](60)
    prompt = 3 + np.arange(60) % 2
    states = np.zeros((60, 5, 1, 3))
    states += np.random.default_rng(0).normal(size=states.shape)
    states[(trials["condition"] == "b").to_numpy(), :, 0, 0] += 30
    states[np.arange(5) >= prompt[:, None]] = np.nan
    activity = record_states(
        trials.assign(condition=np.roll(trials["condition"], 0)), states, prompt
    )
    labelled = label_trials(Question("condition", "events"), trials, ("entity",))
    found = trace(activity, ask(labelled, folds=3, draws=0, seed=0), before=3, after=0, seed=0)
    assert found["n"].sel(offset=-3, condition="b") == 30  # half of the others have no such token
    assert found["probability"].sel(layer=0, offset=-3, condition="b") > 0.99


def test_tokens_are_needed(make_trials, record_states, rng):
    trials = make_trials["entities"](40)
    states = rng.normal(size=(40, 5, 1, 3))
    activity = record_states(trials, states, np.full(40, 3), tokens=False)
    labelled = label_trials(Question("condition", "events"), trials, ("entity",))
    asked = ask(labelled, folds=3, draws=0, seed=0)
    with pytest.raises(EvidenceError, match=r"add 'residual' to 'record.full' and record again"):
        trace(activity, asked, before=3, after=3, seed=0)


def test_two_classes_are_needed(make_trials, record_states, rng):
    trials = make_trials["entities"](60, ("a", "b", "c"))
    activity = record_states(trials, rng.normal(size=(60, 5, 1, 3)), np.full(60, 3))
    labelled = label_trials(Question("condition", "events"), trials, ("entity",))
    with pytest.raises(EvidenceError, match=r"needs 2 classes\. Got 3"):
        trace(activity, ask(labelled, folds=3, draws=0, seed=0), before=3, after=3, seed=0)
