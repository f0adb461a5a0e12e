"""Coherence: known answers, and log-probabilities by hand."""

import numpy as np
import pytest
import torch

from lmri.score import coherent, longest_run, response_log_probability

LIMITS = {"log_probability": -2.0, "repeats": 3, "share": 0.9}


@pytest.mark.parametrize(
    ("tokens", "run"),
    [
        ([], 0),
        ([5], 1),
        ([1, 2, 3], 1),
        ([1, 1, 2], 2),
        ([1, 2, 2], 2),
        ([1, 2, 2, 2, 1, 1], 3),
        ([7] * 9, 9),
        ([1, 2, 1, 2, 1], 1),
    ],
)
def test_longest_run(tokens, run):
    assert longest_run(np.array(tokens, dtype=np.int64)) == run


@pytest.mark.parametrize(
    ("log_probability", "tokens", "ended", "passes"),
    [
        (-1.0, [1, 2, 3], True, 1),
        (-2.0, [1, 1, 1], True, 1),  # limits are included
        (-2.001, [1, 2, 3], True, 0),
        (-1.0, [1, 1, 1, 1], True, 0),
        (-1.0, [1, 2, 3], False, 0),
        (np.nan, [2], True, 0),
        (-np.inf, [1, 2, 3], True, 0),
    ],
)
def test_every_part_must_hold(log_probability, tokens, ended, passes):
    got = coherent(np.array([log_probability]), [np.array(tokens)], np.array([ended]), LIMITS)
    assert got.tolist() == [passes]
    assert got.dtype == np.float64


def test_responses_are_judged_one_by_one():
    responses = [np.array([1, 2]), np.array([1, 1, 1, 1]), np.array([1, 2])]
    got = coherent(np.array([-1, -1, -9.0]), responses, np.array([True] * 3), LIMITS)
    assert got.tolist() == [1, 0, 0]


@torch.inference_mode()
def by_hand(subject, prompt, response):
    """Mean log-probability of the tokens after the first, one pass per token."""
    parts = []
    for position in range(1, len(response)):
        text = torch.tensor([[*prompt, *response[:position]]])
        log = subject.model(input_ids=text, use_cache=False).logits[0, -1].double().log_softmax(-1)
        parts.append(log[response[position]].item())
    return sum(parts) / len(parts)


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_log_probability_of_responses_by_hand(tiny_subject, rows):
    prompts = [[1, 3, 10, 11], [1, 3, 20], [1, 3, 10, 12, 4], [1, 3, 10], [1, 4]]
    responses = [[12, 40, 2], [7, 7, 7, 2], [30, 2], [9], [9, 8, 7, 6, 2]]
    got = response_log_probability(tiny_subject, prompts, [np.array(r) for r in responses], rows)
    assert np.isnan(got[3])  # one token: nothing after the decision
    for row in (0, 1, 2, 4):
        assert got[row] == pytest.approx(by_hand(tiny_subject, prompts[row], responses[row]), 1e-5)
