"""Counts and modules of a known model; a model that is built otherwise is refused."""

import copy

import pytest
import torch
from families import FAMILIES, MIXTURES, configuration, random_model, tiny_model
from torch import nn
from transformers import AutoModelForCausalLM

from lmri.anatomy import (
    ARCHITECTURES,
    Anatomy,
    after_attention,
    attention_outputs,
    attentions,
    blocks,
    dense_activations,
    dense_outputs,
    describe,
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
        vocabulary=tiny_subject.model.config.vocab_size,
        context=128,
        routing="softmax_top_k",
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


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_architecture_has_its_sites(kind):
    anatomy = describe(tiny_model(kind))
    assert (anatomy.architecture, anatomy.layers, anatomy.heads) == (kind, 2, 4)
    wide = {"qwen3": 16, "qwen3_moe": 16, "gemma2": 16, "gemma3_text": 16}
    latent = {"deepseek_v2": 12, "deepseek_v3": 12}
    assert anatomy.head_size == {**wide, **latent}.get(kind, 8)
    assert sorted(anatomy.dense_layers + anatomy.moe_layers) == [0, 1]
    assert anatomy.neurons == {"gpt2": 128}.get(kind, 48 if anatomy.dense_layers else 0)
    assert bool(anatomy.moe_layers) == (kind in MIXTURES)
    if kind in MIXTURES:
        assert (anatomy.experts, anatomy.top_k, anatomy.expert_size) == (8, 2, 16)
    shares = {"qwen2_moe": 24, "llama4_text": 16, "ernie4_5_moe": 16, "glm4_moe": 16}
    assert anatomy.shared_size == {**shares, "deepseek_v2": 16, "deepseek_v3": 16}.get(kind, 0)
    assert ("mid" in anatomy.places) == (kind not in {"phi", "gpt_neox"})
    assert anatomy.encoder == (kind == "bert")


def test_the_table_and_the_tests_know_the_same_architectures():
    assert list(FAMILIES) == list(ARCHITECTURES)


def test_anatomy_needs_no_weights():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(configuration("qwen2_moe"))
    assert describe(model) == describe(tiny_model("qwen2_moe"))


def test_gpt_neox_without_parallel_residual_has_a_state_between():
    model = random_model(configuration("gpt_neox", use_parallel_residual=False))
    assert describe(model).places == ("before", "mid", "after")


def refused(model, words):
    with pytest.raises(SubjectError) as caught:
        describe(model)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert "docs/architectures.md" in message


def test_a_layer_without_mlp_is_refused(model):
    model.model.layers[0].mlp = nn.Linear(32, 32)
    refused(
        model,
        "(OlmoeForCausalLM) must have 'mlp.gate' and 'mlp.experts' in block 0. Found none of them",
    )


def test_experts_without_a_router_are_refused(model):
    del model.model.layers[1].mlp.gate
    refused(model, "'mlp.gate' and 'mlp.experts' in block 1. Found 'mlp.experts'")


def test_a_router_beside_a_dense_mlp_is_refused():
    model = copy.deepcopy(tiny_model("qwen3_moe"))
    model.model.layers[1].mlp.down_proj = nn.Linear(48, 32)
    refused(model, "either 'mlp.down_proj' or 'mlp.gate' and 'mlp.experts' in block 1")


@pytest.mark.parametrize("module", ["post_attention_layernorm", "self_attn"])
def test_a_module_that_is_elsewhere_is_named(model, module):
    delattr(model.model.layers[0], module)
    refused(model, f"'{module}")


def test_blocks_that_are_elsewhere_are_named(model):
    model.model.blocks = model.model.layers
    del model.model.layers
    refused(model, "2 blocks at 'model.layers'. Found 0")


def test_a_count_of_experts_that_differs_is_named(model):
    model.model.layers[1].mlp.experts.num_experts = 7
    refused(model, "as many experts in every layer that has any. Found 7 to 8")


SHARED = [kind for kind in MIXTURES if ARCHITECTURES[kind].shared]


@pytest.mark.parametrize("kind", SHARED)
def test_a_shared_expert_that_is_elsewhere_is_named(kind):
    model = copy.deepcopy(tiny_model(kind))
    path = ARCHITECTURES[kind].shared
    block = blocks(model)[1]
    parent, name = path.rsplit(".", 1)
    block.get_submodule(parent).renamed = block.get_submodule(path)
    delattr(block.get_submodule(parent), name)
    refused(model, f"'{path}' in layers {', '.join(map(str, expert_groups(model)))}. Found it in")


def test_a_gate_of_shared_experts_that_is_elsewhere_is_named():
    model = copy.deepcopy(tiny_model("qwen2_moe"))
    del model.model.layers[1].mlp.shared_expert_gate
    refused(model, "'mlp.shared_expert_gate' in layers 1. Found it in none")


def test_a_model_may_be_without_shared_experts():
    model = random_model(configuration("ernie4_5_moe", moe_num_shared_experts=0))
    assert describe(model).shared_layers == ()


@pytest.mark.parametrize(
    ("kind", "entry", "value", "words"),
    [
        ("deepseek_v3", "first_k_dense_replace", 0, "layers 0, 1 (first_k_dense_replace)"),
        ("qwen3_moe", "mlp_only_layers", [], "layers 0, 1 (mlp_only_layers, decoder_sparse_step)"),
        ("qwen2_moe", "decoder_sparse_step", 3, "layers none (mlp_only_layers"),
        ("ernie4_5_moe", "moe_layer_start_index", 0, "layers 0, 1 (moe_layer_start_index"),
        ("llama4_text", "moe_layers", [0, 1], "layers 0, 1 (moe_layers). Found them in 1"),
        ("glm4_moe", "n_routed_experts", 16, "16 experts in a layer (n_routed_experts). Found 8"),
        ("mixtral", "num_local_experts", 4, "4 experts in a layer (num_local_experts). Found 8"),
        ("ernie4_5_moe", "moe_k", 3, "3 experts for a token (moe_k). Found 2"),
        ("gpt_oss", "num_experts_per_tok", 4, "4 experts for a token (num_experts_per_tok)"),
    ],
)
def test_experts_that_contradict_the_configuration_are_named(kind, entry, value, words):
    model = copy.deepcopy(tiny_model(kind))
    setattr(model.config, entry, value)
    refused(model, words)


@pytest.mark.parametrize(
    ("kind", "sizes", "layers"),
    [
        ("deepseek_v2", {"first_k_dense_replace": 3}, (3, 4, 5)),
        ("qwen2_moe", {"decoder_sparse_step": 2, "mlp_only_layers": [3]}, (1, 5)),
        ("qwen3_moe", {"num_experts": 0, "mlp_only_layers": []}, ()),
        ("ernie4_5_moe", {"moe_layer_interval": 2, "moe_layer_end_index": 4}, (1, 3)),
        ("llama4_text", {"interleave_moe_layer_step": 3, "moe_layers": None}, (2, 5)),
        ("olmoe", {}, (0, 1, 2, 3, 4, 5)),
    ],
)
def test_experts_are_in_the_layers_that_the_configuration_says(kind, sizes, layers):
    config = configuration(kind, num_hidden_layers=6, **sizes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert describe(model).moe_layers == layers


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_dense_layer_has_an_activation_of_its_own(kind):
    model = tiny_model(kind)
    found = dense_activations(model)
    assert list(found) == list(dense_outputs(model))
    assert len({id(module) for module in found.values()}) == len(found)


@pytest.mark.parametrize("several", [False, True])
def test_a_layer_without_one_activation_module_is_named(several):
    model = copy.deepcopy(tiny_model("gpt_neox"))
    mlp = model.gpt_neox.layers[1].mlp
    if several:
        mlp.second = nn.ReLU()
    else:  # as code that calls a function of torch
        del mlp.act
        mlp.act = nn.functional.gelu
    with pytest.raises(SubjectError) as caught:
        dense_activations(model)
    message = str(caught.value)
    assert "'gpt_neox' (GPTNeoXForCausalLM) must have one activation function" in message
    assert "block 1 (GPTNeoXLayer)" in message
    assert f"Found {chr(39)}mlp.act', 'mlp.second'." in message if several else "none." in message
    assert "\n" not in message
    assert describe(model).neurons == 48  # all else can be recorded


def test_an_unknown_architecture_is_named(model):
    model.config.model_type = "mystery"
    refused(
        model,
        "Got 'mystery' (OlmoeForCausalLM). Found by its structure: blocks='model.layers', "
        "attention='self_attn', router='mlp.gate', experts='mlp.experts', "
        "attention_output='self_attn.o_proj'; missing: nothing. "
        "Add a row to lmri.anatomy.architectures",
    )
