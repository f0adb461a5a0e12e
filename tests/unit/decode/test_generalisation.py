"""A code that stays generalises over time; one that changes does not."""

import numpy as np
import pytest

from lmri.decode import Question, ask, label_trials
from lmri.decode.generalisation import generalise
from lmri.decode.positions import read_position
from lmri.errors import EvidenceError

PHASES = ("content", "prompt_last", "response")
NAMES = ("prompt_last-2", "prompt_last-1", "prompt_last", "response_first")


def matrix(rng, trials, record_states, directions, draws=0):
    states = rng.normal(size=(len(trials), 6, 1, 8))
    signs = np.where(trials["condition"] == "b", 1.0, -1.0)
    for place, direction in enumerate(directions):
        states[:, 2 + place, 0] += 1.6 * signs[:, None] * direction
    activity = record_states(trials, states, np.full(len(trials), 5))
    labelled = label_trials(Question("condition", "events"), trials, ("entity",))
    asked = ask(labelled, folds=3, draws=draws, seed=0)
    positions = [read_position(name, PHASES) for name in NAMES]
    return generalise(activity, asked, positions, {})


def test_a_sustained_code_is_a_square(rng, make_trials, record_states):
    found = matrix(rng, make_trials["entities"](120), record_states, [np.eye(8)[0]] * 4)
    assert found["value"].sel(statistic="balanced_accuracy").min() > 0.85


def test_a_changing_code_is_a_diagonal(rng, make_trials, record_states):
    trials = make_trials["entities"](120)
    found = matrix(rng, trials, record_states, np.eye(8)[:4], draws=19)
    value = found["value"].sel(statistic="auc", layer=0).values
    assert np.diag(value).min() > 0.95
    assert np.abs(value[~np.eye(4, dtype=bool)] - 0.5).max() < 0.3
    p_max = found["p_max"].sel(statistic="auc", layer=0).values
    assert np.diag(p_max).max() == 0.05
    assert p_max[~np.eye(4, dtype=bool)].min() > 0.05


def test_one_position_is_refused(rng, make_trials, record_states):
    trials = make_trials["entities"](40)
    states = rng.normal(size=(40, 6, 1, 8))
    states[:, 3] = 0
    activity = record_states(trials, states, np.full(40, 4))
    labelled = label_trials(Question("condition", "events"), trials, ("entity",))
    asked = ask(labelled, folds=3, draws=0, seed=0)
    positions = [read_position(name, PHASES) for name in ("content", "prompt_last")]
    left_out = {}
    with pytest.raises(EvidenceError, match=r"at least 2 positions\. Got 1: .*constant"):
        generalise(activity, asked, positions, left_out)
    assert list(left_out) == ["prompt_last"]
