"""Counts and modules of a known model; a model that is built otherwise is refused."""

import copy

import pytest
from torch import nn

from lmri.anatomy import (
    Anatomy,
    after_attention,
    attention_outputs,
    attentions,
    blocks,
    describe,
    equal_length_batches,
    expert_groups,
    routers,
)
from lmri.errors import SubjectError


@pytest.fixture
def model(tiny_subject):
    """A copy of the model that a test may take apart."""
    return copy.deepcopy(tiny_subject.model)


def test_counts_of_the_tiny_model(tiny_subject):
    assert tiny_subject.anatomy == Anatomy(
        architecture="olmoe",
        layers=2,
        hidden=32,
        heads=4,
        head_size=8,
        moe_layers=(0, 1),
        experts=8,
        top_k=2,
        expert_size=16,
        normalised=False,
    )


def test_sites_are_the_modules_of_each_layer(tiny_subject):
    layers = tiny_subject.model.model.layers
    assert blocks(tiny_subject.model) == list(layers)
    for find, name in (
        (routers, "mlp.gate"),
        (expert_groups, "mlp.experts"),
        (attentions, "self_attn"),
        (attention_outputs, "self_attn.o_proj"),
        (after_attention, "post_attention_layernorm"),
    ):
        wanted = {i: layer.get_submodule(name) for i, layer in enumerate(layers)}
        assert find(tiny_subject.model) == wanted


def test_layers_without_experts_are_left_out(model):
    model.model.layers[0].mlp = nn.Linear(32, 32)
    assert describe(model).moe_layers == (1,)
    assert list(routers(model)) == list(expert_groups(model)) == [1]


def test_a_normalising_router_is_noticed(model):
    model.config.norm_topk_prob = True
    assert describe(model).normalised


def test_a_model_without_experts_is_refused(model):
    for layer in model.model.layers:
        layer.mlp = nn.Linear(32, 32)
    with pytest.raises(SubjectError, match="Found 0 routers and 0 groups of experts"):
        describe(model)


def test_experts_without_a_router_are_refused(model):
    del model.model.layers[1].mlp.gate
    with pytest.raises(SubjectError, match="Found 1 routers and 2 groups of experts"):
        describe(model)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("post_attention_layernorm", "2 normalisations after attention. Found 1"),
        ("self_attn", "2 attentions. Found 1"),
    ],
)
def test_a_module_that_is_elsewhere_is_named(model, module, words):
    delattr(model.model.layers[0], module)
    with pytest.raises(SubjectError, match=words):
        describe(model)


def test_a_count_of_experts_that_differs_is_named(model):
    model.model.layers[1].mlp.experts.num_experts = 7
    with pytest.raises(SubjectError, match=r"Layer 1 must have 8 experts\. Found 7"):
        describe(model)


def test_an_unknown_architecture_is_named(model):
    model.config.model_type = "mystery"
    with pytest.raises(SubjectError, match=r"Got 'mystery' \(OlmoeForCausalLM\)\. Add a row"):
        describe(model)


def test_batches_hold_rows_of_one_length_in_their_order():
    batches = [b.tolist() for b in equal_length_batches([5, 3, 5, 3, 3, 9], 2)]
    assert batches == [[1, 3], [4], [0, 2], [5]]


def test_no_rows_no_batches():
    assert list(equal_length_batches([], 4)) == []
