"""Confounds of tokens and trials, by hand and whatever the blocks."""

import numpy as np
import pandas as pd
import pytest
from streams import FakeRecording

from lmri.errors import EvidenceError
from lmri.stimuli.confounds import (
    CONFOUNDS,
    TokenConfounds,
    token_frequency,
    trial_confounds,
    trial_lengths,
)


@pytest.fixture(params=[1, 3, 100])
def recording(request):
    trials = pd.DataFrame({"n_prompt": [3, 2, 1], "content_last": [1, 0, 0]})
    index = {
        "trial": np.array([0, 0, 0, 0, 1, 1, 1, 2], dtype=np.int32),
        "position": np.array([0, 1, 2, 3, 0, 1, 2, 0], dtype=np.int32),
        "phase": np.array([0, 0, 1, 1, 0, 0, 1, 0], dtype=np.uint8),
        "token_id": np.array([5, 2, 2, 5, 5, 2, 3, 5], dtype=np.int32),
        "logp_next": np.array([-1, -2, -3, -9, -4, -5, -9, -9], dtype=np.float32),
    }
    return FakeRecording(trials, {f"tokens/index/{k}": v for k, v in index.items()}, request.param)


def test_frequency_is_the_log_of_a_tokens_share(recording):
    frequency = token_frequency([recording, recording])
    assert np.exp(frequency) == pytest.approx([0, 0, 3 / 8, 1 / 8, 0, 4 / 8])


def test_rows_of_tokens_by_hand_in_blocks_of_any_size(recording):
    confounds = TokenConfounds(trial_lengths(recording), token_frequency([recording]))
    names = [f"tokens/index/{name}" for name in TokenConfounds.NEEDED]
    rows = np.concatenate([confounds.rows(*block) for block in recording.stream(*names)])
    half, three, one = np.log([4 / 8, 3 / 8, 1 / 8])
    assert (
        pytest.approx(
            np.array(
                [
                    [4, 4, 4, 4, 3, 3, 3, 1],
                    [0, 1, 2, 3, 0, 1, 2, 0],
                    [half, three, three, half, half, three, one, half],
                    [0, 1, 2, 3, 0, 4, 5, 0],
                ]
            )
        )
        == rows.T
    )


def test_a_gap_between_positions_has_no_surprisal():
    confounds = TokenConfounds(np.array([2]), np.zeros(1))
    zeros = np.zeros(2, dtype=int)
    rows = confounds.rows(zeros, np.array([0, 2]), zeros, np.array([-7.0, -8.0]))
    assert rows[:, 3].tolist() == [0, 0]


def test_means_over_a_phase_by_hand(recording):
    table = trial_confounds(recording, "response", token_frequency([recording]))
    assert list(table) == list(CONFOUNDS)
    expected = [
        [2, 2.5, (np.log(3 / 8) + np.log(4 / 8)) / 2, 2.5],
        [1, 2, np.log(1 / 8), 5],
        [0, np.nan, np.nan, np.nan],
    ]
    assert table.to_numpy() == pytest.approx(np.array(expected), nan_ok=True)
    last = trial_confounds(recording, "prompt_last", token_frequency([recording]))
    assert last["position"].tolist() == [2, 1, 0]
    assert last["surprisal"].tolist() == [2, 4, 0]


def test_no_tokens_are_refused():
    empty = FakeRecording(pd.DataFrame(), {"tokens/index/token_id": np.zeros(0, dtype=int)}, 1)
    with pytest.raises(EvidenceError, match="need recordings with tokens"):
        token_frequency([empty])
