"""Linear projections by name, in every architecture."""

import pytest
import torch
from families import FAMILIES, MIXTURES, configuration, random_model, tiny_model

from lmri.anatomy import attention_outputs, attentions, describe, value_weights
from lmri.anatomy.linears import Mlp, linears, mlps
from lmri.errors import SubjectError

LATENT = ("deepseek_v2", "deepseek_v3")
UNGATED = ("bert", "gpt2", "gpt_neox", "phi")


def test_every_block_has_what_its_family_has():
    for kind in FAMILIES:
        for layer, found in linears(tiny_model(kind)).items():
            attention = {"query", "key", "value", "attention_output"}
            if kind in LATENT:
                attention -= {"key", "value"}
            assert attention <= set(found), (kind, layer)
            names = {"up", "down"} if kind in UNGATED else {"gate", "up", "down"}
            groups = ("", "expert_", "shared_")
            held = [p for p in groups if {p + n for n in names} <= set(found)]
            assert held in ([""], ["expert_"], ["expert_", "shared_"]), (kind, layer)


@pytest.mark.parametrize("kind", FAMILIES)
def test_products_are_those_of_the_model(kind):
    """Queries, keys and values as they leave their modules, head by head."""
    model = tiny_model(kind)
    anatomy, seen = describe(model), {}
    with torch.inference_mode():
        values = value_weights(model)
        for layer, found in linears(model).items():
            if "value" in found:
                of_values = found["value"].weight.double()
                heads = of_values.unflatten(0, (-1, values[layer].shape[1]))
                torch.testing.assert_close(heads, values[layer], rtol=0, atol=0)
            part = found["attention_output"]
            assert (part.inputs, part.outputs) == (
                anatomy.heads * anatomy.head_size,
                anatomy.hidden,
            )
            module = attention_outputs(model)[layer]
            x = torch.randn(3, part.inputs)
            bias = 0 if part.bias is None else part.bias
            torch.testing.assert_close(x @ part.weight.T + bias, module(x))
            seen[layer] = attentions(model)[layer]
    assert len(seen) == anatomy.layers


@pytest.mark.parametrize("kind", FAMILIES)
def test_fused_parts_together_are_the_matrix(kind):
    for found in linears(tiny_model(kind)).values():
        by_matrix = {}
        for part in found.values():
            by_matrix.setdefault(id(part.matrix), []).append(part)
        for parts in by_matrix.values():
            matrix = parts[0].matrix
            everything = matrix.mT if parts[0].transposed else matrix
            rows = torch.arange(everything.shape[-2])
            covered = torch.cat([rows[part.rows] for part in parts])
            assert sorted(covered.tolist()) == rows.tolist()
            for part in parts:
                assert part.weight.shape[-2:] == (part.outputs, part.inputs)
                torch.testing.assert_close(part.weight, everything[..., rows[part.rows], :])


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_mlp_is_what_its_parts_make(kind):
    """The formula with the parts found gives what the module gives."""
    model = tiny_model(kind)
    for groups in mlps(model).values():
        for group, mlp in groups.items():
            x = torch.randn(2, mlp.up.inputs)
            if group != "expert":
                got = mlp.module(x)
                made = _neurons(mlp, x)
                if not mlp.split:
                    made = _product(made, mlp.down)
                torch.testing.assert_close(got, made)


@pytest.mark.parametrize("kind", MIXTURES)
def test_experts_are_what_their_parts_make(kind):
    model = tiny_model(kind)
    for groups in mlps(model).values():
        if "expert" not in groups:
            continue
        mlp = groups["expert"]
        x = torch.randn(2, mlp.up.inputs)
        outputs = torch.stack(
            [_product(_neurons(mlp, x, e), mlp.down, e) for e in range(mlp.up.experts)]
        )
        if kind == "llama4_text":
            expected = mlp.module(x.repeat(mlp.up.experts, 1)).view_as(outputs)
            torch.testing.assert_close(expected, outputs)
            continue
        for expert in range(mlp.up.experts):
            chosen = torch.full((2, 1), expert)
            got = mlp.module(x, chosen, torch.ones(2, 1))
            torch.testing.assert_close(got, outputs[expert])


def test_interleaved_heads_keep_their_order():
    """The queries of GPT-NeoX, head by head, as its attention reads them."""
    model = tiny_model("gpt_neox")
    found = linears(model)[0]
    x = torch.randn(5, 32)
    fused = attentions(model)[0].query_key_value(x).view(5, 4, 3, 8)
    for index, name in enumerate(("query", "key", "value")):
        own = _product(x, found[name]).view(5, 4, 8)
        torch.testing.assert_close(own, fused[:, :, index])


def test_one_stage_of_latent_attention():
    model = random_model(configuration("deepseek_v2", q_lora_rank=None))
    part = linears(model)[0]["query"]
    assert part.module is attentions(model)[0].q_proj
    assert linears(tiny_model("deepseek_v2"))[0]["query"].module.weight.shape == (64, 16)


def test_meta_models_are_described():
    from lmri.anatomy import empty_model

    assert set(linears(empty_model(configuration("gpt_oss")))[0]) >= {"query", "expert_gate"}


def test_other_shapes_are_refused():
    model = random_model(configuration("llama"))
    mlp = model.model.layers[1].mlp
    mlp.up_proj = torch.nn.Linear(32, 40, bias=False)
    with pytest.raises(SubjectError, match=r"layer 1.*up_proj 40, neurons 48"):
        linears(model)


def test_unknown_attention_is_refused():
    model = random_model(configuration("llama"))
    model.model.layers[0].self_attn.other = model.model.layers[0].self_attn.q_proj
    del model.model.layers[0].self_attn.q_proj
    with pytest.raises(SubjectError, match="LlamaAttention"):
        linears(model)


def _neurons(mlp: Mlp, x: torch.Tensor, expert: int | None = None) -> torch.Tensor:
    up = _product(x, mlp.up, expert)
    if mlp.gate is None:
        return mlp.activation(up)
    return mlp.combine(mlp.activation(_product(x, mlp.gate, expert)), up)


def _product(x: torch.Tensor, part, expert: int | None = None) -> torch.Tensor:
    weight, bias = part.weight, part.bias
    if expert is not None:
        weight, bias = weight[expert], None if bias is None else bias[expert]
    return torch.nn.functional.linear(x, weight, bias)
