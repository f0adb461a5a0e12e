"""Tokens of a phase."""

import numpy as np
import pandas as pd

from lmri.anatomy import phase_tokens


def test_a_phase_of_one_token_is_found_inside_its_span():
    trials = pd.DataFrame({"n_prompt": [4, 3], "content_last": [2, 1]})
    index = {
        "trial": np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]),
        "position": np.array([0, 1, 2, 3, 4, 0, 1, 2, 3]),
        "phase": np.array([0, 1, 1, 0, 2, 0, 1, 0, 2]),
        "spans": ["system", "content", "response"],
    }
    assert np.flatnonzero(phase_tokens(trials, index, "prompt_last")).tolist() == [3, 7]
    assert np.flatnonzero(phase_tokens(trials, index, "content_last")).tolist() == [2, 6]
    assert np.flatnonzero(phase_tokens(trials, index, "content")).tolist() == [1, 2, 6]


def test_positions_after_the_instruction_end_with_the_prompt():
    trials = pd.DataFrame({"n_prompt": [4, 4], "n_prefill": [0, 1], "instruction_last": [1, 1]})
    index = {
        "trial": np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]),
        "position": np.array([0, 1, 2, 3, 4, 0, 1, 2, 3]),
        "phase": np.array([0, 1, 0, 0, 3, 0, 1, 0, 2]),
        "spans": ["system", "content", "response", "think"],
    }
    wanted = {"post_instruction_0": [2, 7], "post_instruction_1": [3], "think": [4]}
    for phase, tokens in wanted.items():
        assert np.flatnonzero(phase_tokens(trials, index, phase)).tolist() == tokens, phase
    without = {**index, "spans": ["system", "content", "response"]}
    assert not phase_tokens(trials, without, "think").any()
