"""Plans that act on prompts or responses only, teacher-forced and with a cache."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import FAMILIES, MIXTURES, tiny_model, tokens

from lmri.anatomy import Subject, describe
from lmri.errors import LmriError
from lmri.intervene import (
    INTACT,
    PHASES,
    Plan,
    can_reroute,
    check_plan,
    continuation_log_probabilities,
    intervened,
    respond,
)

LENGTH = 9
"""Tokens of the prompt, of 14."""


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
        session.rows, session.prompts = torch.tensor(rows), torch.tensor([LENGTH] * 3)
        return subject.model(input_ids=tokens(subject.name)).logits


def some_plans(anatomy, phase):
    """A plan of every mechanism that the architecture has, acting in the last layer."""
    layer, width = anatomy.layers - 1, anatomy.hidden
    vector = {(layer, len(anatomy.places) - 1): np.linspace(-1, 2, width)}
    plans = [
        Plan("zero", ((layer, 0), (layer, 2)), "head", phase=phase),
        Plan("uniform", ((layer, 1),), "head", phase=phase),
        Plan("zero", ((layer, 5),), "residual", phase=phase),
        Plan("flip", ((layer,),), "layer", phase=phase),
        Plan("zero", ((layer,),), "layer", phase=phase),
    ]
    if not anatomy.encoder:
        plans.append(Plan.of("add", list(vector), "residual_site", vector, phase))
    if can_reroute(anatomy):
        moe = anatomy.moe_layers[-1]
        for mode, off in (("mask", range(2, 8)), ("zero", range(8)), ("force", range(1))):
            plans.append(Plan(mode, tuple((moe, expert) for expert in off), phase=phase))
        units = [(moe, e) for e in range(8)]
        plans.append(Plan.of("gain", units, "expert", {key: [3.0] for key in units}, phase))
        neurons = tuple((moe, e, n) for e in range(8) for n in range(4))
        plans.append(Plan("zero", neurons, "expert_neuron", phase=phase))
    return plans


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "bert"])
def test_response_plans_keep_every_bit_of_the_prompt_and_prompt_plans_reach_further(family):
    subject = subject_of(family)
    intact = logits(subject, INTACT)
    both = some_plans(subject.anatomy, "both")
    for plan, always in zip(some_plans(subject.anatomy, "response"), both, strict=True):
        found = logits(subject, INTACT, plan, rows=(0, 1, 0))
        # How many tokens an expert is run on together decides its last bits.
        rounding = 1e-5 if subject.anatomy.moe_layers else 0
        for same in ((1, slice(0, LENGTH)), ([0, 2],)):
            torch.testing.assert_close(found[same], intact[same], rtol=rounding, atol=rounding)
        assert (found[1, LENGTH:] - intact[1, LENGTH:]).abs().max() > 1e-4, plan
        assert (logits(subject, always)[1, :LENGTH] - intact[1, :LENGTH]).abs().max() > 1e-4, plan


@pytest.mark.parametrize("family", ["llama", "gpt2", "olmoe", "deepseek_v3", "gpt_oss"])
def test_phases_tile_the_text(family):
    # In the last layer nothing of another token is read: what is not in the phase is intact.
    subject = subject_of(family)
    intact = logits(subject, INTACT)
    modes = ("zero", "flip", "add")
    plans = {
        phase: [
            p for p in some_plans(subject.anatomy, phase) if p.mode in modes and p.kind != "head"
        ]
        for phase in PHASES
    }
    for n, always in enumerate(plans["both"]):
        whole = logits(subject, always)
        for phase, part in (
            ("prompt", slice(0, LENGTH)),
            ("prompt_last", slice(LENGTH - 1, LENGTH)),
            ("response", slice(LENGTH, None)),
        ):
            wanted = intact.clone()
            wanted[:, part] = whole[:, part]
            found = logits(subject, plans[phase][n])
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "olmoe", "qwen2_moe", "gpt_oss"])
@pytest.mark.parametrize("phase", PHASES)
def test_responses_are_the_same_with_a_cache_and_padding(family, phase):
    subject = subject_of(family)
    prompts = [[1, 4, 7, 9, row] for row in range(10, 14)] + [[1, 5, 6, row] for row in range(4)]
    for plan in some_plans(subject.anatomy, phase):
        options = {"plans": [INTACT, plan], "plan_of_row": [1] * 8}
        found = respond(
            subject, prompts, [3] * 8, max_new_tokens=4, rows=64, padding=0.9, **options
        )
        said = [list(row) for row in found.tokens]
        # Teacher-forced on what was said, every token that was said is the most likely one.
        with intervened(subject, [plan]) as session:
            for prompt, own in zip(prompts, said, strict=True):
                session.rows = torch.zeros(1, dtype=torch.int64)
                session.prompts = torch.tensor([len(prompt)])
                ids = torch.tensor([[*prompt, *own]])
                best = subject.model(input_ids=ids, use_cache=False).logits[0].argmax(-1)
                assert best[len(prompt) - 1 : -1].tolist() == own, plan


def test_the_first_decision_under_a_response_plan_is_that_of_the_intact_subject(
    tiny_subject, prompts
):
    plan = Plan("flip", ((0,), (1,)), "layer", phase="response")
    watched = [20] * len(prompts)
    options = {"max_new_tokens": 4, "rows": 4}
    intact = respond(tiny_subject, prompts, watched, **options)
    found = respond(tiny_subject, prompts, watched, plans=[plan], **options)
    assert (found.onset_margin == intact.onset_margin).all()
    assert [row[0] for row in found.tokens] == [row[0] for row in intact.tokens]
    assert any(
        (a[: len(b)] != b[: len(a)]).any()
        for a, b in zip(found.tokens, intact.tokens, strict=False)
    )


def test_log_probabilities_of_continuations_know_where_the_response_begins(tiny_subject, prompts):
    said = [[20, 30, 40], [7, 8], [9]] * 5
    options = {"rows": 4}
    intact = continuation_log_probabilities(tiny_subject, prompts, said, **options)
    plan = Plan("flip", ((1,),), "layer", phase="response")
    found = continuation_log_probabilities(tiny_subject, prompts, said, plans=[plan], **options)
    for own, before in zip(found, intact, strict=True):
        assert own[0] == before[0]
        assert (own[1:] != before[1:]).all()
    for row in (0, 1, 14):
        ids = torch.tensor([[*prompts[row], *said[row]]])
        log = tiny_subject.model(input_ids=ids).logits[0].double().log_softmax(-1)
        start = len(prompts[row]) - 1
        wanted = [log[start + i, token].item() for i, token in enumerate(said[row])]
        np.testing.assert_allclose(intact[row], wanted, atol=1e-5)


def test_what_cannot_be_told_apart_is_refused(tiny_subject):
    plan = Plan("zero", ((0,),), "layer", phase="response")
    with (
        intervened(tiny_subject, [plan]),
        pytest.raises(LmriError, match="'response' must know how long the prompts are"),
    ):
        tiny_subject.model(input_ids=torch.tensor([[1, 2]]))
    with pytest.raises(LmriError, match=r"'phase' of an intervention .* 'both', 'prompt', .*'all'"):
        check_plan(Plan("zero", ((0,),), "layer", phase="all"), tiny_subject.anatomy)
    with pytest.raises(LmriError, match="at least one token to go on from"):
        continuation_log_probabilities(tiny_subject, [[]], [[1]], rows=1)
    with pytest.raises(LmriError, match="continuation must have at least one token"):
        continuation_log_probabilities(tiny_subject, [[1]], [[]], rows=1)


@pytest.mark.parametrize("family", [f for f in MIXTURES if f != "llama4_text"])
def test_masks_of_a_phase_choose_as_masks_of_all_tokens(family):
    subject = subject_of(family)
    layer = subject.anatomy.moe_layers[-1]
    for mode in ("mask", "force"):
        units = tuple((layer, expert) for expert in range(2))
        both = logits(subject, Plan(mode, units))
        for phase in ("prompt", "response"):
            found = logits(subject, Plan(mode, units, phase=phase))
            part = slice(0, LENGTH) if phase == "prompt" else slice(LENGTH, None)
            torch.testing.assert_close(found[:, part], both[:, part], rtol=1e-4, atol=1e-4)
