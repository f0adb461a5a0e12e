"""Phases of a prompt and pooling over them: known answers."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from lmri.anatomy import SPANS, encode, render_trials
from lmri.config import TemplateOptions
from lmri.record import (
    PHASES,
    STATISTICS,
    phase_masks,
    phase_names,
    pool,
    pooling,
    span_names,
    trial_spans,
)

CHAT = TemplateOptions(kind="chat")


def rendered(tokenizer, prompt, options=CHAT):
    template = json.dumps(options.to_dict())
    rows = pd.DataFrame([{"trial": "t", "prompt": prompt, "template": template}])
    return render_trials(tokenizer, rows)[0]


def named(spans):
    return [SPANS[span] for span in spans]


def test_spans_of_a_question(tiny_subject, small_world):
    item = small_world.event(small_world.places[0], "1900")
    rows = pd.DataFrame([{"trial": "t", "prompt": item.prompt, "content": item.content}])
    prompt = render_trials(tiny_subject.tokenizer, rows)[0]
    assert prompt.ids == tiny_subject.tokenizer(item.prompt, add_special_tokens=False)["input_ids"]
    spans = trial_spans(tiny_subject.tokenizer, prompt, [7, 2], PHASES)
    assert spans.dtype == np.uint8
    wanted = ["system"] * 2 + ["content"] * 7 + ["system"] + ["response"] * 2
    assert named(spans) == wanted


def test_phases_of_a_plain_prompt_are_always_the_same(chat_tokenizer):
    for family in (None, "deepseek"):
        tokenizer = chat_tokenizer(family)
        assert phase_names(tokenizer, TemplateOptions(), "hello") == PHASES
    assert span_names(PHASES) == ("system", "content", "response")


@pytest.mark.parametrize(("family", "think"), [("chatml", ()), ("deepseek", ("think",))])
def test_phases_of_a_chat_follow_from_the_subject(chat_tokenizer, family, think):
    tokenizer = chat_tokenizer(family, extra=("</think>",))
    phases = phase_names(tokenizer, CHAT, "hello")
    count = {"chatml": 5, "deepseek": 3}[family]
    assert phases == (*PHASES, *think, *(f"post_instruction_{i}" for i in range(count)))
    assert span_names(phases) == ("system", "content", "response", *think)


def test_a_response_is_thought_and_said(chat_tokenizer):
    tokenizer = chat_tokenizer("deepseek", extra=("</think>",))
    phases = phase_names(tokenizer, CHAT, "hello")
    prompt = rendered(tokenizer, "hello")
    for text, wanted in (
        ("I think </think> so </s>", ["think"] * 2 + ["response"] * 3),
        ("I think so", ["think"] * 3),
        ("</think> so <think> one", ["response"] * 3 + ["think"]),
    ):
        response = encode(tokenizer, text, "")
        spans = trial_spans(tokenizer, prompt, response, phases)
        assert named(spans[: len(prompt.ids)]) == named(prompt.spans)
        assert named(spans[len(prompt.ids) :]) == wanted
    plain = trial_spans(tokenizer, prompt, encode(tokenizer, "I think", ""), PHASES)
    assert named(plain[-2:]) == ["response"] * 2


def test_masks_of_a_chat(chat_tokenizer):
    tokenizer = chat_tokenizer("deepseek", extra=("</think>",))
    phases = phase_names(tokenizer, CHAT, "hello")
    prompt = rendered(tokenizer, "what is up ?")  # <s> <|User|> what is up ? <|Assistant|> ...
    spans = trial_spans(tokenizer, prompt, encode(tokenizer, "I </think> so", ""), phases)
    masks = phase_masks(spans, len(prompt.ids), phases, prompt.instruction_last)
    tokens = {p: np.flatnonzero(m).tolist() for p, m in zip(phases, masks, strict=True)}
    assert tokens == {
        "system": [0, 1, 6, 7, 8],
        "content": [2, 3, 4, 5],
        "content_last": [5],
        "prompt_last": [8],
        "response": [10, 11],
        "think": [9],
        "post_instruction_0": [6],
        "post_instruction_1": [7],
        "post_instruction_2": [8],
    }


def test_a_post_instruction_position_ends_with_the_prompt():
    spans = np.array([0, 1, 0, 2, 2], dtype=np.uint8)
    phases = ("post_instruction_0", "post_instruction_1")
    for n_prompt, n_prefill in ((3, 0), (4, 1)):
        masks = phase_masks(spans, n_prompt, phases, 1, n_prefill)
        assert [np.flatnonzero(mask).tolist() for mask in masks] == [[2], []]


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


def test_rows_pooled_in_steps_give_the_same(monkeypatch):
    values = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    masks = torch.rand(5, 4, 7, generator=torch.Generator().manual_seed(1)) < 0.6
    whole = pool(values, masks)
    monkeypatch.setattr(pooling, "POOLED_AT_ONCE", 2 * 7 * 3)
    assert torch.equal(pool(values, masks), whole)
