"""Steering vectors: known answers, identity at scale 0, and what they do to the output."""

import copy

import numpy as np
import pytest
import torch
from families import FAMILIES, tiny_model, tokens
from toys import Toy

from lmri.anatomy import Subject, blocks, describe, final_norm, vocabulary_logits
from lmri.errors import LmriError
from lmri.intervene import (
    INTACT,
    Plan,
    ablation_plan,
    check_plan,
    control_vector,
    early_exit,
    entropy_weighted,
    intervened,
    last_states,
    mean_difference,
    output_shift,
    respond,
    search_scale,
    steering_plan,
)

DECODERS = [family for family in FAMILIES if family != "bert"]
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def subject_of(family):
    model = tiny_model(family)
    return Subject(family, model, None, describe(model))


def logits(subject, *plans, rows=(0, 0, 0)):
    with intervened(subject, plans) as session:
        session.rows = torch.tensor(rows)
        return subject.model(input_ids=tokens(subject.name)).logits


def states_after(subject, layer, *plans, rows):
    kept = []
    hook = blocks(subject.model)[layer].register_forward_hook(lambda *call: kept.append(call[2]))
    logits(subject, *plans, rows=rows)
    hook.remove()
    return kept[0][0] if isinstance(kept[0], tuple) else kept[0]


@pytest.mark.parametrize("family", DECODERS)
def test_a_vector_is_added_at_every_place_and_scale_0_keeps_every_bit(family):
    subject = subject_of(family)
    anatomy, vector = subject.anatomy, RNG.normal(size=subject.anatomy.hidden)
    intact = logits(subject, INTACT)
    for place in anatomy.places:
        assert torch.equal(
            logits(subject, steering_plan(anatomy, {0: vector}, 0, place=place)), intact
        )
        plan = steering_plan(anatomy, {0: vector, 1: -vector}, 0.5, place=place)
        found = logits(subject, INTACT, plan, rows=(0, 1, 0))
        rounding = 1e-5 if anatomy.moe_layers else 0
        torch.testing.assert_close(found[[0, 2]], intact[[0, 2]], rtol=rounding, atol=rounding)
        assert (found[1] - intact[1]).abs().max() > 1e-3
    before = states_after(subject, 1, INTACT, rows=(0, 0, 0))
    after = states_after(
        subject, 1, INTACT, steering_plan(anatomy, {1: vector}, 2.0), rows=(0, 1, 0)
    )
    wanted = before.clone()
    wanted[1] += 2 * torch.from_numpy(vector).float()
    torch.testing.assert_close(after, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", DECODERS)
def test_along_ablated_directions_the_state_is_that_of_the_origin(family):
    subject = subject_of(family)
    directions = RNG.normal(size=(3, subject.anatomy.hidden))
    directions[2] = directions[0] - 2 * directions[1]  # adds nothing
    origin = RNG.normal(size=subject.anatomy.hidden)
    plan = ablation_plan(subject.anatomy, {1: directions}, {1: origin})
    before = states_after(subject, 1, INTACT, rows=(0, 0, 0)).double()
    after = states_after(subject, 1, INTACT, plan, rows=(0, 1, 0)).double()
    basis = torch.from_numpy(np.linalg.qr(directions[:2].T)[0])
    along = (after[1] - torch.from_numpy(origin)) @ basis
    assert along.abs().max() < 1e-4
    rest = torch.eye(len(origin), dtype=torch.float64) - basis @ basis.T
    torch.testing.assert_close(after[1] @ rest, before[1] @ rest, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_early_exit_is_the_logit_lens(family):
    subject, kept = subject_of(family), []
    assert early_exit(subject.anatomy, 1).units == ()
    found = logits(subject, early_exit(subject.anatomy, 0))
    hook = blocks(subject.model)[0].register_forward_hook(lambda *call: kept.append(call[2]))
    intact = logits(subject, INTACT)
    hook.remove()
    assert torch.equal(logits(subject, early_exit(subject.anatomy, 1)), intact)
    assert (found - intact).abs().max() > 1e-3
    if (
        family == "bert"
    ):  # its head is more than a normalisation: the model without its second layer
        shorter = copy.deepcopy(subject.model)
        del shorter.bert.encoder.layer[1]
        torch.testing.assert_close(found, shorter(input_ids=tokens(family)).logits)
        return
    state = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
    head = subject.model.get_output_embeddings()
    lens = vocabulary_logits(subject.model, head(final_norm(subject.model)(state)).flatten(0, 1))
    torch.testing.assert_close(found.flatten(0, 1), lens, rtol=1e-5, atol=1e-5)


def test_a_skipped_layer_and_an_early_exit_work_during_generation(tiny_subject, prompts):
    plan = early_exit(tiny_subject.anatomy, 0)
    said = respond(
        tiny_subject, prompts, [20] * len(prompts), plans=[plan], max_new_tokens=3, rows=4
    ).tokens
    for prompt, own in zip(prompts, said, strict=True):
        with intervened(tiny_subject, [plan]):
            best = (
                tiny_subject.model(input_ids=torch.tensor([[*prompt, *own]])).logits[0].argmax(-1)
            )
        assert best[len(prompt) - 1 : -1].tolist() == own.tolist()


def test_steering_is_monotone_in_scale_where_the_model_is_linear():
    model = Toy(linear=True, layers=2)
    subject = Subject("toy", model, None, describe(model))
    prompts = [[3, 4, 5], [6, 7, 8, 9]]
    # Towards the word that the last layer's state is read for.
    vector = model.lm_head.weight[11].numpy()
    margins = []
    for scale in (-2.0, -1.0, 0.0, 1.0, 2.0):
        plan = steering_plan(subject.anatomy, {1: vector}, scale)
        margins.append([])
        for prompt in prompts:
            with intervened(subject, [plan]) as session:
                session.rows = torch.zeros(1, dtype=torch.int64)
                margins[-1].append(model(torch.tensor([prompt])).logits[0, -1, 11].item())
    steps = np.diff(margins, axis=0)
    np.testing.assert_allclose(steps, (vector**2).sum(), rtol=1e-5)


def test_a_mean_difference_and_a_control_vector_find_what_was_planted():
    planted = np.zeros((2, 5))
    planted[0, 1], planted[1, 3] = 3.0, -4.0
    noise = 0.01 * RNG.normal(size=(40, 2, 5))
    base = RNG.normal(size=(40, 2, 5))
    strength = RNG.uniform(0.5, 1.5, size=(40, 1, 1))
    found = control_vector(base + strength * planted + noise, base)
    np.testing.assert_allclose(found, strength.mean() * planted, atol=0.02)
    np.testing.assert_allclose(
        control_vector(base, base + strength * planted), -strength.mean() * planted
    )
    wanted = strength.mean() * planted
    np.testing.assert_allclose(mean_difference(base + strength * planted, base), wanted)


def test_an_entropy_weighted_vector_leads_to_uncertain_states():
    states = RNG.normal(size=(6, 2, 4))
    entropies = np.array([0.0, 0, 0, 1, 1, 1])
    found = entropy_weighted(states, entropies)
    np.testing.assert_allclose(found, states[3:].mean(0) - states.mean(0))
    np.testing.assert_allclose(entropy_weighted(states, np.ones(6)), 0, atol=1e-12)
    for wrong in (np.zeros(6), np.ones(5), -np.ones(6)):
        with pytest.raises(LmriError, match="one for each of 6 states, at least 0 and not all 0"):
            entropy_weighted(states, wrong)


def test_last_states_are_those_of_the_last_token(tiny_subject, prompts):
    for place in tiny_subject.anatomy.places:
        found = last_states(tiny_subject, prompts, rows=4, place=place)
        assert found.shape == (15, 2, 32)
        assert (found == last_states(tiny_subject, prompts, rows=4, place=place)).all()
    hidden = tiny_subject.model(
        input_ids=torch.tensor(prompts[:3]), output_hidden_states=True
    ).hidden_states
    found = last_states(tiny_subject, prompts[:3], rows=4, place="before")
    for layer in range(2):
        torch.testing.assert_close(torch.from_numpy(found[:, layer]), hidden[layer][:, -1])
    with pytest.raises(LmriError, match="'place' of a residual must be one of 'after', 'before'"):
        last_states(tiny_subject, prompts, rows=4, place="inside")


def test_the_shift_of_the_output_is_that_of_the_distributions_by_hand(tiny_subject, prompts):
    vector = RNG.normal(size=32)
    plan = steering_plan(tiny_subject.anatomy, {0: vector}, 1.0)
    found = output_shift(tiny_subject, prompts, plan, rows=3)
    for row in (0, 9, 14):
        ids = torch.tensor([prompts[row]])
        p = tiny_subject.model(input_ids=ids).logits[0, -1].double().log_softmax(-1)
        with intervened(tiny_subject, [plan]):
            q = tiny_subject.model(input_ids=ids).logits[0, -1].double().log_softmax(-1)
        assert found.divergence[row] == pytest.approx((p.exp() * (p - q)).sum().item(), rel=1e-3)
        assert found.entropy[row] == pytest.approx(-(q.exp() * q).sum().item(), rel=1e-3)
        assert found.intact_entropy[row] == pytest.approx(-(p.exp() * p).sum().item(), rel=1e-3)
    none = output_shift(tiny_subject, prompts, INTACT, rows=3)
    assert (none.divergence == 0).all()
    assert (none.entropy == none.intact_entropy).all()
    larger = output_shift(
        tiny_subject, prompts, steering_plan(tiny_subject.anatomy, {0: vector}, 4.0), rows=3
    )
    assert larger.divergence.mean() > found.divergence.mean() > 0


def test_a_search_stops_at_the_smallest_scale_that_works():
    effects = {0.5: (0.1, True), -1.0: (0.9, False), 1.0: (0.3, True), 2.0: (0.8, True)}
    found = search_scale(effects.__getitem__, [4.0, 2.0, 1.0, -1.0, 0.5], target=0.5)
    assert found.scale == 2.0
    assert [own["scale"] for own in found.tried] == [0.5, -1.0, 1.0, 2.0]
    assert search_scale(lambda scale: (0.0, True), [1.0, 2.0], target=0.5).scale is None
    with pytest.raises(LmriError, match=r"at least one\. Got none"):
        search_scale(lambda scale: (1.0, True), [], target=0.5)


def test_what_cannot_be_steered_is_refused():
    bert, llama = subject_of("bert").anatomy, subject_of("llama").anatomy
    vector = np.ones(32)
    for plan, anatomy, words in (
        (steering_plan(bert, {0: vector}), bert, "must be sites of the residual .* which has none"),
        (steering_plan(llama, {0: vector[:5]}), llama, "must be 32 numbers for each of 1 units"),
        (
            ablation_plan(llama, {0: vector[:5]}),
            llama,
            "32 numbers of the origin and of directions",
        ),
        (steering_plan(llama, {9: vector}), llama, "Got layer 9, place 2"),
        (Plan("ablate", ((0, 1),), "residual_site", ((1.0,) * 32,)), llama, "origin and of dir"),
    ):
        with pytest.raises(LmriError, match=words):
            check_plan(plan, anatomy)
    with pytest.raises(LmriError, match="'place' of a residual"):
        steering_plan(llama, {0: vector}, place="nowhere")
    with pytest.raises(LmriError, match="'layer' of an early exit"):
        early_exit(llama, 2)
    states = np.ones((3, 2, 4))
    with pytest.raises(LmriError, match=r"must be pairs\. Got 3 and 2"):
        control_vector(states, states[:2])
    with pytest.raises(LmriError, match="of at least one prompt"):
        mean_difference(states, states[:0])
