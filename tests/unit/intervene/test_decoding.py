"""Greedy responses: those of transformers, token for token, with or without plans."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lmri.errors import SubjectError
from lmri.intervene import INTACT, Plan, intervened, respond, says_exactly
from lmri.intervene.decoding import end_tokens

UNITS = ((0, 0), (0, 3), (1, 6))
PLANS = (INTACT, Plan("mask", UNITS), Plan("zero", UNITS), Plan("force", ((0, 1), (1, 5))))
LIMIT = 8


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


@pytest.fixture
def subject(tiny_subject, prompts):
    """The tiny subject with an end token that some responses reach early, some late, some never.

    The end token of the world is one of 241 to a random model.
    """
    found = respond(tiny_subject, prompts, [0] * 15, max_new_tokens=LIMIT, rows=64)
    at = {
        token: [np.flatnonzero(row == token)[:1].tolist() for row in found.tokens]
        for token in np.unique(np.concatenate(found.tokens))
    }
    [end, *_] = [t for t, rows in at.items() if [] in rows and [0] in rows and max(rows)[0] >= 2]
    return replace(tiny_subject, tokenizer=SimpleNamespace(eos_token_id=int(end)))


def generated(model, prompt, end):
    """The library's greedy response to one prompt."""
    ids = torch.tensor([prompt])
    tokens = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=LIMIT,
        eos_token_id=end,
        pad_token_id=0,
    )
    return tokens[0, len(prompt) :].tolist()


def test_responses_are_those_of_transformers(subject, prompts):
    end = subject.tokenizer.eos_token_id
    ours = respond(subject, prompts, [0] * 15, max_new_tokens=LIMIT, rows=4)
    theirs = [generated(subject.model, prompt, end) for prompt in prompts]
    assert [row.tolist() for row in ours.tokens] == theirs
    assert ours.ended.tolist() == [row[-1] == end for row in theirs]
    lengths = {len(row) for row, ended in zip(theirs, ours.ended, strict=True) if ended}
    assert 1 in lengths and len(lengths) > 1 and not ours.ended.all()


def test_responses_under_plans_are_those_of_a_loop_without_cache(subject, prompts):
    plan_of_row = [row % len(PLANS) for row in range(15)]
    ours = respond(
        subject,
        prompts,
        [0] * 15,
        plans=PLANS,
        plan_of_row=plan_of_row,
        max_new_tokens=LIMIT,
        rows=64,
    )
    for prompt, plan, got in zip(prompts, plan_of_row, ours.tokens, strict=True):
        text = list(prompt)
        with intervened(subject, [PLANS[plan]]):
            for _ in got:
                logits = subject.model(input_ids=torch.tensor([text]), use_cache=False).logits
                text.append(int(logits[0, -1].argmax()))
        assert text[len(prompt) :] == got.tolist()
    intact = respond(subject, prompts, [0] * 15, max_new_tokens=LIMIT, rows=64).tokens
    same = [np.array_equal(a, b) for a, b in zip(ours.tokens, intact, strict=True)]
    assert all(same[::4]) and not any(same[1::4])


@pytest.mark.parametrize("rows", [1, 3])
def test_the_size_of_batches_does_not_matter(subject, prompts, rows):
    watched = list(range(15))
    one = respond(subject, prompts, watched, max_new_tokens=LIMIT, rows=rows)
    all_ = respond(subject, prompts, watched, max_new_tokens=LIMIT, rows=64)
    assert [row.tolist() for row in one.tokens] == [row.tolist() for row in all_.tokens]
    np.testing.assert_allclose(one.onset_margin, all_.onset_margin, atol=1e-5)


def test_the_margin_is_that_of_the_watched_token_at_the_last_prompt_token(subject, prompts):
    watched = list(range(20, 35))
    got = respond(subject, prompts, watched, max_new_tokens=1, rows=64)
    for prompt, token, margin, response in zip(
        prompts, watched, got.onset_margin, got.tokens, strict=True
    ):
        logits = subject.model(input_ids=torch.tensor([prompt])).logits[0, -1].tolist()
        own = logits.pop(token)
        assert margin == pytest.approx(own - max(logits), abs=1e-5)
        assert len(response) == 1
    first = [int(row[0]) for row in got.tokens]
    sure = respond(subject, prompts, first, max_new_tokens=1, rows=64)
    assert (sure.onset_margin > 0).all() and (got.onset_margin < 0).all()


def variants(response, end):
    """The response itself, and near misses of it, all with one end token at the end."""
    body = [token for token in response if token != end]
    texts = [[*body[:length], end] for length in range(len(body) + 1)]
    texts += [[*body[:-1], 5, end], [5, *body[1:], end]]
    return [list(text) for text in dict.fromkeys(map(tuple, texts))]


def test_says_exactly_agrees_with_respond(subject, prompts):
    end = subject.tokenizer.eos_token_id
    plan_of_row = [row % len(PLANS) for row in range(15)]
    found = respond(
        subject,
        prompts,
        [0] * 15,
        plans=PLANS,
        plan_of_row=plan_of_row,
        max_new_tokens=LIMIT + 1,
        rows=64,
    )
    pairs = [
        (row, text)
        for row, response in enumerate(found.tokens)
        for text in variants(response[:LIMIT].tolist(), end)
    ]
    exact = says_exactly(
        subject,
        [prompts[row] for row, _ in pairs],
        [text for _, text in pairs],
        plans=PLANS,
        plan_of_row=[plan_of_row[row] for row, _ in pairs],
        rows=7,
    )
    wanted = [found.tokens[row].tolist() == text for row, text in pairs]
    assert exact.tolist() == wanted
    assert 4 < sum(wanted) < len(wanted) - 4
    # Prompts of both lengths meet in batches of one length of prompt and reference.
    totals = {(len(prompts[row]), len(prompts[row]) + len(text)) for row, text in pairs}
    assert {total for length, total in totals if length == 8} & {
        total for length, total in totals if length == 10
    }


def test_a_row_does_not_care_about_longer_prompts_beside_it(subject, prompts):
    end = subject.tokenizer.eos_token_id
    long, short = prompts[0], prompts[-1]
    first = respond(subject, [long, short], [0, 0], max_new_tokens=4, rows=8).tokens
    references = [[int(first[0][0]), end], first[1].tolist()]
    alone = [
        says_exactly(subject, [p], [r], plans=[INTACT], plan_of_row=[0], rows=8)[0]
        for p, r in zip([long, short], references, strict=True)
    ]
    both = says_exactly(
        subject, [long, short], references, plans=[INTACT], plan_of_row=[0, 0], rows=8
    )
    assert len(long) + 2 == len(short) + len(references[1])
    assert both.tolist() == alone


def test_a_turn_may_end_otherwise_than_a_text(tiny_subject, prompts, monkeypatch):
    """Chat models list several end tokens in their generation settings."""
    [first] = respond(tiny_subject, prompts[:1], [0], max_new_tokens=LIMIT, rows=1).tokens
    settings = copy.deepcopy(tiny_subject.model.generation_config)
    settings.eos_token_id = [2, int(first[3])]
    monkeypatch.setattr(tiny_subject.model, "generation_config", settings)
    assert end_tokens(tiny_subject) == [2, int(first[3])]
    found = respond(tiny_subject, prompts[:1], [0], max_new_tokens=LIMIT, rows=1)
    stop = first.tolist().index(first[3]) + 1
    assert found.tokens[0].tolist() == first[:stop].tolist()
    assert found.ended.tolist() == [True]


def test_a_subject_without_an_end_token_is_refused(tiny_subject, monkeypatch):
    monkeypatch.setattr(tiny_subject.model, "generation_config", None)
    nameless = replace(tiny_subject, tokenizer=SimpleNamespace(eos_token_id=None))
    with pytest.raises(SubjectError, match="'tiny' must have an end token"):
        end_tokens(nameless)
