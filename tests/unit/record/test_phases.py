"""Phases of a prompt and pooling over them: known answers."""

import numpy as np
import pytest
import torch

from lmri.errors import StimuliError
from lmri.record import PHASES, SPANS, STATISTICS, phase_masks, pool, prompt_spans

CONTENT = "what happened in 1900 in {} ?"


@pytest.fixture
def prompt(small_world):
    """A question of ten tokens: two of the template, seven of content, one of the template."""
    return f"<bos> <user> {CONTENT.format(small_world.places[0])} <assistant>"


def names(spans):
    return [SPANS[span] for span in spans]


def test_spans_of_a_question(tiny_subject, small_world, prompt):
    content = CONTENT.format(small_world.places[0])
    spans = prompt_spans(tiny_subject.tokenizer, prompt, content, "t")
    assert spans.dtype == np.uint8
    assert names(spans) == ["system"] * 2 + ["content"] * 7 + ["system"]


@pytest.mark.parametrize(
    ("content", "inside"),
    [("1900", [5]), ("happened in", [3, 4]), ("in", [4]), ("d i", [3, 4]), ("<bos>", [0])],
)
def test_content_is_where_it_first_occurs(tiny_subject, prompt, content, inside):
    spans = prompt_spans(tiny_subject.tokenizer, prompt, content, "t")
    assert np.flatnonzero(spans == SPANS.index("content")).tolist() == inside


@pytest.mark.parametrize(
    ("content", "message"), [("elsewhere", "be a part"), ("", "be a part"), (" ", "cover a token")]
)
def test_content_that_is_not_there_is_refused(tiny_subject, prompt, content, message):
    with pytest.raises(StimuliError, match=rf"content of trial 'events:1' must {message}"):
        prompt_spans(tiny_subject.tokenizer, prompt, content, "events:1")


def test_masks_of_every_phase():
    spans = np.array([0, 0, 1, 1, 1, 0, 2, 2], dtype=np.uint8)
    masks = dict(zip(PHASES, phase_masks(spans, n_prompt=6), strict=True))
    tokens = {phase: np.flatnonzero(mask).tolist() for phase, mask in masks.items()}
    assert tokens == {
        "system": [0, 1, 5],
        "content": [2, 3, 4],
        "content_last": [4],
        "prompt_last": [5],
        "response": [6, 7],
    }


def test_the_last_token_of_a_prompt_may_be_content():
    masks = phase_masks(np.array([0, 1, 1, 2], dtype=np.uint8), n_prompt=3)
    last = masks[PHASES.index("content_last")], masks[PHASES.index("prompt_last")]
    assert last[0].tolist() == last[1].tolist() == [False, False, True, False]


def statistics(values, mask):
    """Statistics of one row of tokens, by name, for one phase."""
    pooled = pool(torch.tensor([values]), torch.tensor([[mask]]))
    assert pooled.dtype == torch.float32
    return dict(zip(STATISTICS, pooled[0, 0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        ([1, 1, 1, 1], {"mean": 1.0, "last": -5.0, "sum": 4.0, "sum_squares": 54.0, "count": 4}),
        ([0, 1, 1, 0], {"mean": 3.5, "last": 4.0, "sum": 7.0, "sum_squares": 25.0, "count": 2}),
        ([1, 0, 0, 0], {"mean": 2.0, "last": 2.0, "sum": 2.0, "sum_squares": 4.0, "count": 1}),
        ([0, 0, 0, 1], {"mean": -5.0, "last": -5.0, "sum": -5.0, "sum_squares": 25.0, "count": 1}),
    ],
)
def test_known_statistics(mask, wanted):
    assert statistics([2.0, 3.0, 4.0, -5.0], [bool(token) for token in mask]) == wanted


def test_a_phase_without_a_token_has_no_mean_and_no_last():
    got = statistics([2.0, 3.0], [False, False])
    assert (got["sum"], got["sum_squares"], got["count"]) == (0, 0, 0)
    assert np.isnan(got["mean"]) and np.isnan(got["last"])


def test_rows_phases_and_units_stay_apart():
    values = torch.arange(2 * 3 * 2 * 5, dtype=torch.float32).view(2, 3, 2, 5)
    masks = torch.tensor([[[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]], dtype=torch.bool)
    pooled = pool(values, masks)
    assert pooled.shape == (2, 2, 5, 2, 5)
    means, lasts = pooled[:, :, 0], pooled[:, :, 1]
    assert torch.equal(means[0, 0], values[0, :2].mean(0))
    assert torch.equal(means[0, 1], values[0, 2])
    assert torch.equal(means[1, 1], values[1, 1:].mean(0))
    assert torch.equal(lasts[0, 0], values[0, 1])
    assert torch.equal(lasts[1, 1], values[1, 2])


def test_sums_do_not_lose_small_values():
    many = [1e8, *[1.0] * 8, -1e8]
    assert statistics(many, [True] * 10)["sum"] == 8.0
