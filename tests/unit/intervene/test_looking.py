"""Heads that look at the first token more or less, or where a plan tells them."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import FAMILIES, tiny_model, tokens

from lmri.anatomy import Subject, describe
from lmri.errors import LmriError
from lmri.intervene import (
    INTACT,
    Plan,
    check_plan,
    clamped_patterns,
    intervened,
    recorded_patterns,
    respond,
)
from lmri.intervene.looking import reweighted_sink

HEAD = (1, 2)


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def subject_of(family):
    model = tiny_model(family)
    return Subject(family, model, SimpleNamespace(eos_token_id=127), describe(model))


def logits(subject, *plans, rows=(0, 0, 0)):
    with intervened(subject, plans) as session:
        session.rows = torch.tensor(rows)
        return subject.model(input_ids=tokens(subject.name)).logits


def sink(factor, *units):
    units = units or (HEAD,)
    return Plan.of("sink", list(units), "head", {key: [factor] for key in units})


def test_known_weights_of_a_sink():
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])[None, None]
    positions = torch.tensor([[2, 3, 4]])  # two keys of padding were left out

    def changed(factor, first):
        factors = torch.tensor([[factor]])
        return reweighted_sink(weights, factors, positions - first)[0, 0].tolist()

    doubled, none = changed(2.0, 2), changed(0.0, 2)
    assert doubled[0] == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert none[0] == pytest.approx([0, 0.5, 0.5])
    for found in (doubled, none):
        assert found[1:] == weights[0, 0, 1:].tolist()  # not seen, or nothing else seen
    assert changed(2.0, -1) == weights[0, 0].tolist()  # the first token is out of the window


@pytest.mark.parametrize("family", FAMILIES)
def test_a_factor_of_one_keeps_every_bit_and_others_move_the_weight(family):
    subject = subject_of(family)
    intact = logits(subject, INTACT)
    assert torch.equal(logits(subject, sink(1.0)), intact)
    with recorded_patterns(subject, [HEAD]) as patterns:
        logits(subject, INTACT)
    before = patterns[HEAD].clone()
    after = {}
    for factor in (0.0, 0.5, 4.0):
        # What is put in place of the pattern is seen by whoever clamps it.
        found = logits(subject, INTACT, sink(factor), rows=(0, 1, 0))
        # How many tokens an expert is run on together decides its last bits.
        rounding = 1e-5 if subject.anatomy.moe_layers else 0
        torch.testing.assert_close(found[[0, 2]], intact[[0, 2]], rtol=rounding, atol=rounding)
        assert (found[1] - intact[1]).abs().max() > 1e-3
        wanted = before.clone()
        wanted[..., 0] *= factor
        rows = before.sum(-1, keepdim=True)
        wanted = wanted / wanted.sum(-1, keepdim=True).clamp_min(1e-9) * rows
        wanted[:, 0] = before[:, 0] if family != "bert" else wanted[:, 0]
        with clamped_patterns(subject, {HEAD: wanted}):
            after[factor] = logits(subject, INTACT)
        torch.testing.assert_close(found[1], after[factor][1], rtol=1e-4, atol=1e-4)


def test_the_first_token_is_that_of_the_text_and_not_of_the_padding():
    subject = subject_of("llama")
    prompts = [[1, 4, 7, 9, row] for row in range(10, 14)] + [[1, 5, 6, row] for row in range(4)]
    plan = sink(0.0, (0, 1), (1, 2))
    options = {"plans": [plan], "max_new_tokens": 5, "rows": 64}
    together = respond(subject, prompts, [3] * 8, padding=0.9, **options)
    alone = [respond(subject, [prompt], [3], **options).tokens[0] for prompt in prompts]
    assert [row.tolist() for row in together.tokens] == [row.tolist() for row in alone]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "olmoe", "mistral"])
def test_a_pattern_of_a_plan_is_that_of_a_clamp(family):
    subject = subject_of(family)
    with recorded_patterns(subject, [HEAD]) as patterns:
        intact = logits(subject, INTACT)
    own = patterns[HEAD][1].double()
    recorded = {HEAD: own.flatten().tolist()}
    # Clamped to its own pattern, through a list of numbers: nothing changes.
    found = logits(subject, INTACT, Plan.of("pattern", [HEAD], "head", recorded), rows=(0, 1, 0))
    torch.testing.assert_close(found, intact, rtol=0, atol=1e-6)
    previous = torch.zeros(14, 14)
    previous[0, 0] = previous[torch.arange(1, 14), torch.arange(13)] = 1.0
    with clamped_patterns(subject, {HEAD: previous.unsqueeze(0)}):
        wanted = logits(subject, INTACT)
    told = Plan.of("pattern", [HEAD], "head", {HEAD: previous.flatten().tolist()})
    torch.testing.assert_close(logits(subject, told), wanted, rtol=1e-5, atol=1e-5)
    assert (wanted - intact).abs().max() > 1e-3


def test_a_pattern_of_few_tokens_leaves_later_ones_alone_and_works_with_a_cache():
    subject = subject_of("llama")
    size = 6
    told = np.eye(size)
    plan = Plan.of("pattern", [(0, 1)], "head", {(0, 1): told.ravel().tolist()})
    last = Plan.of("pattern", [(1, 1)], "head", {(1, 1): told.ravel().tolist()})
    intact, found = logits(subject, INTACT), logits(subject, last)
    assert torch.equal(found[:, size:], intact[:, size:])
    assert not torch.equal(found[:, :size], intact[:, :size])
    prompts = [[1, 4, 7, row] for row in range(10, 14)]
    said = respond(subject, prompts, [3] * 4, plans=[plan], max_new_tokens=4, rows=8).tokens
    with intervened(subject, [plan]):
        for prompt, own in zip(prompts, said, strict=True):
            ids = torch.tensor([[*prompt, *own]])
            best = subject.model(input_ids=ids, use_cache=False).logits[0].argmax(-1)
            assert best[3:-1].tolist() == own.tolist()


@pytest.mark.parametrize(
    ("mode", "values", "words"),
    [
        ("sink", (-1.0,), "'sink' must be at least 0"),
        ("sink", (1.0, 2.0), "must be 1 numbers"),
        ("pattern", (1.0, 0.0, 0.5), "must be a square of weights"),
        ("pattern", (1.0, 0.0, 0.6, 0.6), "at most 1 in all"),
        ("pattern", (0.5, 0.5, 0.5, 0.5), "none on tokens to come"),
        ("pattern", (math.inf,), "must be finite"),
    ],
)
def test_what_is_no_pattern_is_refused(mode, values, words):
    anatomy = subject_of("llama").anatomy
    with pytest.raises(LmriError, match=words):
        check_plan(Plan(mode, ((0, 1),), "head", (values,)), anatomy)
