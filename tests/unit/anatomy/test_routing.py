"""Our routing rules against each family's own router; what is off is never chosen."""

import pytest
import torch
from families import MIXTURES, configuration, random_model, tiny_model

from lmri.anatomy import (
    architecture_of,
    expert_groups,
    output_of_router,
    route,
    routers,
    selection_scores,
)

STATES = torch.randn(200, 32, generator=torch.Generator().manual_seed(0))


def router_of(kind, **changes):
    model = random_model(configuration(kind, **changes)) if changes else tiny_model(kind)
    return routers(model)[1], architecture_of(model).routing


def by_expert(weights, ids):
    """Slots of some routers come in no order: put them in that of their ids."""
    ids, order = ids.sort(dim=-1)
    return weights.gather(1, order), ids


@pytest.mark.parametrize("kind", MIXTURES)
def test_route_is_the_routers_own_choice_to_the_bit(kind):
    router, rule = router_of(kind)
    logits, weights, ids = output_of_router(rule, router(STATES), 2)
    ours = by_expert(*route(router, rule, logits))
    theirs = by_expert(weights, ids)
    assert torch.equal(ours[1], theirs[1])
    assert torch.equal(ours[0].to(weights.dtype), theirs[0])
    assert ids.unique().numel() > 2  # not always the same experts


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("olmoe", {"norm_topk_prob": True}),
        ("deepseek_v2", {"topk_method": "greedy"}),
        ("deepseek_v3", {"norm_topk_prob": False, "routed_scaling_factor": 1.5}),
    ],
)
def test_options_of_a_router_are_followed(kind, changes):
    router, rule = router_of(kind, **changes)
    logits, weights, ids = router(STATES)
    ours, theirs = by_expert(*route(router, rule, logits)), by_expert(weights, ids)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("kind", MIXTURES)
def test_an_expert_that_is_off_is_never_chosen(kind):
    router, rule = router_of(kind)
    logits, _, ids = output_of_router(rule, router(STATES), 2)
    off = torch.zeros_like(logits, dtype=torch.bool)
    off[:, ids[0]] = True  # the two experts of the first token
    weights, chosen = route(router, rule, logits, off=off)
    assert not torch.isin(chosen, ids[0]).any()
    assert torch.isfinite(weights).all()
    untouched = ~torch.isin(ids, ids[0]).any(dim=1)
    before, after = by_expert(ids, ids)[1], by_expert(chosen, chosen)[1]
    if rule in {"softmax_top_k", "top_k_softmax", "biased_softmax", "sigmoid_input"}:
        # Without groups, who is not chosen has no say in the order of the others.
        assert torch.equal(before[untouched], after[untouched])


@pytest.mark.parametrize("kind", MIXTURES)
def test_an_expert_that_is_forced_is_always_chosen(kind):
    router, rule = router_of(kind)
    logits = output_of_router(rule, router(STATES), 2)[0]
    on = torch.zeros_like(logits, dtype=torch.bool)
    on[:, 5] = True
    assert (route(router, rule, logits, on=on)[1] == 5).any(dim=1).all()


def test_slots_stay_empty_where_the_groups_left_hold_too_few():
    router, rule = router_of("deepseek_v3")  # one group of four, two experts per token
    logits = router(STATES)[0]
    off = torch.zeros_like(logits, dtype=torch.bool)
    off[:, [0, 1, 2, 4, 5, 6]] = True  # one expert is left in each group
    weights, chosen = route(router, rule, logits, off=off)
    assert (weights[:, 1] == 0).all()
    assert (chosen[:, 1] == 8).all()
    assert torch.isin(chosen[:, 0], torch.tensor([3, 7])).all()


@pytest.mark.parametrize("kind", MIXTURES)
def test_selection_scores_rank_as_the_router_chooses(kind):
    router, rule = router_of(kind)
    logits, _, ids = output_of_router(rule, router(STATES), 2)
    scores = selection_scores(router, rule, logits)
    differs = {"deepseek_v2", "deepseek_v3", "glm4_moe", "ernie4_5_moe"}
    assert (scores is not None) == (kind in differs)
    if scores is not None:
        assert torch.equal(scores.topk(2).indices.sort().values, ids.sort().values)
        assert not torch.equal(logits.topk(2).indices.sort().values, ids.sort().values)


@pytest.mark.parametrize("kind", MIXTURES)
def test_logits_weights_and_ids_make_up_the_blocks_output(kind):
    model = tiny_model(kind)
    router, rule = router_of(kind)
    group = expert_groups(model)[1]
    _, weights, ids = output_of_router(rule, router(STATES), 2)
    expected = torch.zeros_like(STATES)
    for token in range(len(STATES)):
        for weight, expert in zip(weights[token], ids[token].tolist(), strict=True):
            scale = (weight, 1.0) if rule == "sigmoid_input" else (1.0, weight)
            expected[token] += scale[1] * one_expert(kind, group, expert, scale[0] * STATES[token])
    if rule == "sigmoid_input":
        dense = router(STATES)[0]  # the input of every expert is scaled, most by 0
        inputs = STATES.repeat(8, 1) * dense.transpose(0, 1).reshape(-1, 1)
        got = group(inputs).reshape(8, -1, 32).sum(0)
    else:
        got = group(STATES, ids, weights)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def one_expert(kind, group, expert, state):
    """One expert's output for one token, written out."""
    up, down = group.gate_up_proj[expert], group.down_proj[expert]
    if kind in {"gpt_oss", "llama4_text"}:
        up, down = up.T, down.T
    products = up @ state
    if kind == "gpt_oss":
        products = products + group.gate_up_proj_bias[expert]
        gate, linear = products[::2].clamp(max=7.0), products[1::2].clamp(-7.0, 7.0)
        neurons = (linear + 1) * gate * torch.sigmoid(1.702 * gate)
        return down @ neurons + group.down_proj_bias[expert]
    gate, linear = products.chunk(2)
    return down @ (torch.nn.functional.silu(gate) * linear)
