"""Positions are counted from events, whatever the lengths of trials."""

import numpy as np
import pytest

from lmri.decode.positions import read_position
from lmri.errors import EvidenceError

PHASES = ("content", "prompt_last", "response")


@pytest.fixture
def activity(make_trials, record_states):
    """Three trials whose tokens hold their own position: prompts of 3 to 5, responses of 3 to 1."""
    trials = make_trials["entities"](3)
    states = np.tile(np.arange(6.0)[None, :, None, None], (3, 1, 1, 1))
    return record_states(trials, states, np.array([3, 4, 5]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("content", [1.5, 2.0, 2.5]),
        ("prompt_last", [2, 3, 4]),
        ("prompt_last-2", [0, 1, 2]),
        ("prompt_last+1", [3, 4, 5]),
        ("content_first", [1, 1, 1]),
        ("response_first", [3, 4, 5]),
        ("response_first+1", [4, 5, np.nan]),
        ("response_last", [5, 5, 5]),
        ("response_last-1", [4, 4, np.nan]),
        ("content_last-3", [np.nan, np.nan, 1]),
    ],
)
def test_a_position_is_the_same_event_in_every_trial(activity, name, expected):
    values = activity.at(0, read_position(name, PHASES), np.arange(3))
    np.testing.assert_array_equal(values[:, 0], expected)


def test_pooled_activity_is_used_where_it_is_enough():
    assert read_position("response_last", PHASES).statistic == "last"
    assert read_position("prompt_last", PHASES).phase == "prompt_last"
    assert read_position("response_last-1", PHASES).phase is None


@pytest.mark.parametrize("name", ["12", "answer", "response", "prompt_first", "content+1"])
def test_an_absolute_index_is_no_position(name):
    with pytest.raises(EvidenceError, match="A position must be a recorded phase"):
        read_position(name, ("content",))


def test_tokens_are_read_by_default_where_they_were_recorded(make_trials, record_states):
    trials = make_trials["entities"](3)
    states = np.zeros((3, 6, 1, 1))
    whole = record_states(trials, states, np.full(3, 3)).default_positions(PHASES)
    assert "prompt_last-1" in whole
    assert "response_last-2" in whole
    pooled = record_states(trials, states, np.full(3, 3), tokens=False)
    names = ["content", "prompt_last", "response", "response_last"]
    assert pooled.default_positions(PHASES) == names
