"""Hooks read what a forward pass does and change nothing of it."""

import pytest
import torch

from lmri.anatomy import blocks
from lmri.intervene import route
from lmri.record import attention_summaries, capturing


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def ids(small_world, tiny_subject):
    """Three questions of ten tokens."""
    prompts = [small_world.event(place, "1900").prompt for place in small_world.places[:3]]
    return torch.tensor(tiny_subject.tokenizer(prompts, add_special_tokens=False)["input_ids"])


def logits(subject, ids):
    return subject.model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("neuron", [False, True])
def test_logits_stay_the_same_to_the_bit(tiny_subject, ids, neuron):
    before = logits(tiny_subject, ids)
    with capturing(tiny_subject, head=False, neuron=neuron) as capture:
        during = logits(tiny_subject, ids)
    assert torch.equal(during, before)
    assert torch.equal(logits(tiny_subject, ids), before)
    assert len(capture.neurons) == (2 if neuron else 0)
    assert not capture.heads


def test_heads_are_read_from_eager_attention_to_the_bit(tiny_subject, ids):
    model = tiny_subject.model
    original = model.config._attn_implementation
    with capturing(tiny_subject, head=True, neuron=True):
        during = logits(tiny_subject, ids)
    assert model.config._attn_implementation == original != "eager"
    torch.testing.assert_close(during, logits(tiny_subject, ids), atol=1e-5, rtol=0)
    model.set_attn_implementation("eager")
    try:
        assert torch.equal(logits(tiny_subject, ids), during)
    finally:
        model.set_attn_implementation(original)


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_restored(tiny_subject, ids, fails):
    model = tiny_subject.model
    before = model.config._attn_implementation, model.get_experts_implementation()
    try:
        with capturing(tiny_subject, head=True, neuron=True):
            assert model.config._attn_implementation == "eager"
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert (model.config._attn_implementation, model.get_experts_implementation()) == before
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert not hasattr(module, "lmri_tap")


def test_neurons_weights_and_ids_recombine_to_the_output_of_the_block(tiny_subject, ids):
    with capturing(tiny_subject, head=False, neuron=True) as capture:
        logits(tiny_subject, ids)
    for layer, block in enumerate(blocks(tiny_subject.model)):
        down = block.mlp.experts.down_proj[capture.experts[layer]]  # (tokens, slot, hidden, size)
        parts = (down @ capture.neurons[layer].unsqueeze(-1)).squeeze(-1)
        output = (capture.weights[layer].unsqueeze(-1) * parts).sum(1).view(3, 10, 32)
        residual = capture.residual[layer, "after"] - capture.residual[layer, "mid"]
        torch.testing.assert_close(residual, output, atol=1e-5, rtol=0)
        assert output.abs().max() > 0.1


def test_router_logits_give_the_weights_and_ids(tiny_subject, ids):
    with capturing(tiny_subject, head=False, neuron=False) as capture:
        logits(tiny_subject, ids)
    for layer in (0, 1):
        weights, experts = route(capture.logits[layer], tiny_subject.anatomy)
        assert capture.logits[layer].shape == (30, 8)
        assert torch.equal(weights, capture.weights[layer])
        assert torch.equal(experts, capture.experts[layer])


def test_residual_before_mid_and_after(tiny_subject, ids):
    model, outputs = tiny_subject.model, {}
    hooks = [
        block.self_attn.register_forward_hook(
            lambda module, arguments, output, layer=layer: outputs.update({layer: output[0]})
        )
        for layer, block in enumerate(blocks(model))
    ]
    with capturing(tiny_subject, head=False, neuron=False) as capture:
        states = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    for hook in hooks:
        hook.remove()
    residual = capture.residual
    assert torch.equal(residual[0, "before"], model.model.embed_tokens(ids))
    assert torch.equal(residual[1, "before"], residual[0, "after"])
    assert torch.equal(residual[1, "before"], states[1])
    assert torch.equal(model.model.norm(residual[1, "after"]), states[2])
    for layer in (0, 1):
        assert torch.equal(residual[layer, "mid"], residual[layer, "before"] + outputs[layer])


def test_head_summaries_are_those_of_the_attention_weights(tiny_subject, ids):
    with capturing(tiny_subject, head=True, neuron=False) as capture:
        output = tiny_subject.model(input_ids=ids, output_attentions=True, use_cache=False)
    for layer, weights in enumerate(output.attentions):
        assert weights.shape == (3, 4, 10, 10)
        for name, values in attention_summaries(weights).items():
            assert torch.equal(capture.heads[layer, name], values)
            assert values.shape == (3, 10, 4)
    norms, [batch, token, head] = capture.heads[1, "norm"], (2, 7, 3)
    values = tiny_subject.model.model.layers[1]
    hidden = values.input_layernorm(capture.residual[1, "before"])
    heads = values.self_attn.v_proj(hidden)[batch, :, 8 * head : 8 * head + 8]
    mixed = output.attentions[1][batch, head, token] @ heads
    assert norms[batch, token, head].item() == pytest.approx(mixed.norm().item(), rel=1e-4)


def test_a_capture_can_be_cleared(tiny_subject, ids):
    with capturing(tiny_subject, head=True, neuron=True) as capture:
        logits(tiny_subject, ids)
        assert all(vars(capture).values())
        capture.clear()
        assert not any(vars(capture).values())
        logits(tiny_subject, ids[:1])
    assert capture.experts[0].shape == (10, 2)


def test_summaries_of_uniform_causal_attention():
    tokens = 5
    weights = torch.ones(tokens, tokens).tril() / torch.arange(1, tokens + 1).unsqueeze(1)
    got = attention_summaries(weights.expand(2, 3, tokens, tokens))
    share = 1 / torch.arange(1, tokens + 1)
    for name, wanted in (
        ("entropy", torch.arange(1, tokens + 1).log()),
        ("sink", share),
        ("previous", torch.cat([torch.zeros(1), share[1:]])),
    ):
        assert got[name].shape == (2, tokens, 3)
        torch.testing.assert_close(got[name], wanted[:, None].expand(2, -1, 3))


@pytest.mark.parametrize(("offset", "previous"), [(0, [0, 0, 0, 0]), (1, [0, 1, 1, 1])])
def test_summaries_of_attention_to_one_token(offset, previous):
    weights = torch.zeros(1, 1, 4, 4)
    for query in range(4):
        weights[0, 0, query, max(0, query - offset)] = 1
    got = {name: values[0, :, 0].tolist() for name, values in attention_summaries(weights).items()}
    assert got["entropy"] == [0, 0, 0, 0]
    assert got["previous"] == previous
    assert got["sink"] == [1, offset, 0, 0]
