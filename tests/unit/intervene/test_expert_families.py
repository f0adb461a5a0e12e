"""Running chosen experts in every family: the library's bits, true neurons, experts left out."""

import copy

import pytest
import torch
from families import FAMILIES, MIXTURES, configuration, random_model, tiny_model, tokens

from lmri.anatomy import (
    Subject,
    architecture_of,
    describe,
    expert_groups,
    output_of_router,
    routers,
)
from lmri.errors import LmriError
from lmri.intervene import (
    MODES,
    Plan,
    intervened,
    runs_grouped,
    skipping_experts,
    tapped_experts,
)

REROUTED = tuple(kind for kind in MIXTURES if kind != "llama4_text")


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_are_those_of_the_library_to_the_bit(kind, dtype):
    model = tiny_model(kind)
    if dtype != torch.float32:
        model = copy.deepcopy(model).to(dtype)
    ids = tokens(kind)
    before = model(input_ids=ids).logits
    with skipping_experts(model):
        assert torch.equal(model(input_ids=ids).logits, before)
    with tapped_experts(model, lambda layer, neurons, experts: None):
        assert torch.equal(model(input_ids=ids).logits, before)
    assert torch.equal(model(input_ids=ids).logits, before)


@pytest.mark.parametrize("piece", [1, 300, 2**18], ids=["alone", "some", "all"])
@pytest.mark.parametrize("kind", REROUTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_are_the_same_however_experts_are_divided(kind, dtype, piece, monkeypatch):
    monkeypatch.setattr("lmri.intervene.experts.PIECE_BYTES", piece)
    config = configuration(kind)
    own = hasattr(config, "moe_intermediate_size")
    setattr(config, "moe_intermediate_size" if own else "intermediate_size", 64)
    model, ids, sizes = random_model(config).to(dtype), tokens(kind), []
    before = model(input_ids=ids).logits
    group = expert_groups(model)[1]
    gate = group._apply_gate

    def seen(products):
        sizes.append(len(products))
        return gate(products)

    group._apply_gate = seen
    with skipping_experts(model):
        assert torch.equal(model(input_ids=ids).logits, before)
    # 42 tokens choose 2 of 8 experts.
    assert sum(sizes) == 84
    assert (len(sizes) > 3) == (piece < 2**18)
    assert max(sizes) == 84 or piece < 2**18


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_the_library_runs_grouped_is_known(kind):
    model = tiny_model(kind)
    assert runs_grouped(model) == (kind in REROUTED)
    with skipping_experts(model):
        assert not runs_grouped(model)


@pytest.mark.parametrize("kind", MIXTURES)
def test_neurons_times_down_projection_are_the_experts_output(kind):
    model, seen = tiny_model(kind), {}
    rule, top = architecture_of(model).routing, describe(model).top_k

    def keep_output(module, arguments, output):
        seen["output"] = output

    def keep_choice(module, arguments, output):
        seen["weights"] = output_of_router(rule, output, top)[1]

    group, router = expert_groups(model)[1], routers(model)[1]
    hooks = [group.register_forward_hook(keep_output), router.register_forward_hook(keep_choice)]
    try:
        with tapped_experts(model, lambda layer, *got: seen.update({layer: got})):
            model(input_ids=tokens(kind))
    finally:
        for hook in hooks:
            hook.remove()
    neurons, ids = seen[1]
    assert neurons.shape == (42, 2, 16)
    down = group.down_proj[ids]  # (n_tokens, top_k, hidden, size) or transposed
    transposed = kind in {"gpt_oss", "llama4_text"}
    outputs = torch.einsum("tsn,tsnd->tsd" if transposed else "tsn,tsdn->tsd", neurons, down)
    if kind == "gpt_oss":
        outputs = outputs + group.down_proj_bias[ids]
    weights = torch.ones_like(seen["weights"]) if kind == "llama4_text" else seen["weights"]
    combined = (weights.unsqueeze(-1) * outputs).sum(1)
    output = seen["output"]
    if kind == "llama4_text":  # one output per expert and token
        output = output.reshape(8, -1, 32).sum(0)
    torch.testing.assert_close(combined, output, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", REROUTED)
@pytest.mark.parametrize("mode", MODES)
def test_plans_hold_in_every_family(kind, mode):
    model, ids, executed = tiny_model(kind), tokens(kind), []
    subject = Subject(kind, model, None, describe(model))
    with tapped_experts(model, lambda layer, _, chosen: executed.append(chosen)):
        intact = model(input_ids=ids).logits
    usual = int(executed[-1].mode().values.mode().values)  # the expert most tokens pass
    executed.clear()
    plans = (Plan(), Plan(mode, ((1, usual),)))
    with (
        intervened(subject, plans) as session,
        tapped_experts(model, lambda *a: executed.append(a)),
    ):
        session.rows = torch.tensor([0, 1, 0])
        changed = model(input_ids=ids).logits
    torch.testing.assert_close(changed[[0, 2]], intact[[0, 2]], rtol=1e-4, atol=1e-5)
    chosen = {layer: choice for layer, _, choice in executed}[1].view(3, 14, 2)
    has_it = (chosen[1] == usual).any(dim=-1)
    assert has_it.all() if mode == "force" else not has_it.any()
    if mode != "force":
        assert not torch.allclose(changed[1], intact[1], atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "llama4_text"])
def test_a_subject_whose_experts_cannot_be_left_out_is_refused(kind):
    model = tiny_model(kind)
    subject = Subject(kind, model, None, describe(model))
    with (
        pytest.raises(LmriError, match=f"Got the architecture '{kind}', which has none"),
        intervened(subject, [Plan("mask", ((1, 0),))]),
    ):
        pass
