"""Norms, turned queries and attention are replaced only where they are known, and for few rows."""

import pytest
import torch
from families import FAMILIES, configuration, random_model, tokens
from sparse_cases import plan_of
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama import modeling_llama

from lmri.anatomy import STANDS_FOR
from lmri.intervene.patterns import changed_patterns
from lmri.intervene.sharing import _replaced
from lmri.record.attention import observed_attention
from lmri.sparse.kernels.cpu import Cpu
from lmri.sparse.runtime import sparse

NORMS = {"qwen3", "qwen3_moe", "qwen2_moe", "llama", "mistral", "mixtral", "olmoe", "phi3"}
NORMS |= {"deepseek_v2", "deepseek_v3", "glm4_moe", "granitemoe", "ernie4_5_moe"}
"""Architectures whose norms have the code of Llama's."""

TURNED = {"llama", "mistral", "mixtral", "qwen3", "qwen3_moe", "qwen2_moe", "olmoe", "granitemoe"}
TURNED |= {"gemma2", "gemma3_text", "phi"}
"""Those whose queries and keys are turned by the code of Llama's."""

OTHER_ATTENTION = {"gemma2", "gpt_oss"}
"""Those whose attention is not ``sdpa``: it has soft caps or sinks."""

FULL_WINDOW = {"mistral"}
"""Those that have a mask after some tokens, for what has left their windows."""


@pytest.fixture
def called(monkeypatch):
    """How often each was called."""
    found = {"rms_norm": 0, "rotary": 0, "attend": 0}
    for name in found:
        own = getattr(Cpu, name)

        def noted(self, *given, own=own, name=name):
            found[name] += 1
            return own(self, *given)

        monkeypatch.setattr(Cpu, name, noted)
    return found


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_only_known_code_is_replaced_and_only_for_few_rows(kind, called):
    model = random_model(configuration(kind))
    forwards = {module: module.forward for module in model.modules()}
    with torch.inference_mode(), sparse(model, plan_of(), "cpu"):
        model(tokens(kind, 3, 14))
        model(tokens(kind, 9, 1))
        assert not any(called.values())
        model(tokens(kind, 1, 5))
        assert not called["attend"]
        model(tokens(kind, 1, 1))
    assert (called["rms_norm"] > 0) == (kind in NORMS)
    assert (called["rotary"] > 0) == (kind in TURNED)
    assert (called["attend"] > 0) == (kind not in OTHER_ATTENTION)
    assert all(module.forward == own for module, own in forwards.items())


def test_hooks_and_interventions_on_norms_stay():
    model, ids, seen = random_model(configuration("llama")), tokens("llama", 1, 5), []

    def silence(module, given, output):
        seen.append(output)
        return 0 * output

    model.model.norm.register_forward_hook(silence)
    with torch.inference_mode(), sparse(model, plan_of(), "cpu"):
        assert not model(ids).logits.any()
    assert len(seen) == 1


@pytest.mark.parametrize("kind", sorted(NORMS | TURNED))
def test_models_say_what_they_said(kind):
    """With norms that have weights: those of a random model are all 1."""
    model, ids = random_model(configuration(kind)), tokens(kind, 1, 6)
    for name, weight in model.named_parameters():
        if "norm" in name and weight.dim() == 1:
            weight.data += 0.3 * torch.randn(
                weight.shape, generator=torch.Generator().manual_seed(3)
            )
    with torch.inference_mode():
        expected = model(ids).logits
        with sparse(model, plan_of(), "cpu"):
            torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("kind", sorted(set(FAMILIES) - {"bert"}))
def test_tokens_that_follow_say_what_they_said(kind, cache, called):
    """Alone, and after texts of two lengths, where a mask hides what was padded."""
    attends = kind not in OTHER_ATTENTION | FULL_WINDOW
    model, ids = random_model(configuration(kind)), tokens(kind, 2, 9)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    options |= {"return_dict_in_generate": True, "output_logits": True, "disable_compile": True}
    padded = torch.ones_like(ids)
    padded[0, :4] = 0
    for given in ({"input_ids": ids[:1]}, {"input_ids": ids, "attention_mask": padded}):
        named = options if cache == "dynamic" else options | {"cache_implementation": cache}
        with torch.inference_mode():
            expected = model.generate(**given, **named)
            with sparse(model, plan_of(), "cpu"):
                got = model.generate(**given, **named)
        for one, other in zip(got.logits, expected.logits, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        alone = "attention_mask" not in given
        assert (called["attend"] > 0) == (attends and alone and cache == "dynamic")
        called["attend"] = 0


@pytest.mark.parametrize("what", ["mask", "dropout", "option", "eager"])
def test_other_attention_of_one_token_is_left_to_torch(what, called):
    model, ids = random_model(configuration("llama")), tokens("llama", 1, 1)
    options = {"mask": {"attention_mask": torch.zeros(1, 1, 1, 1)}, "option": {"unknown": 1}}
    if what == "dropout":
        for block in model.model.layers:
            block.self_attn.attention_dropout = 0.5
            block.self_attn.train()
    if what == "eager":
        model.set_attn_implementation("eager")
    with torch.inference_mode(), sparse(model, plan_of(), "cpu"):
        model(ids, **options.get(what, {}))
    assert not called["attend"]


def test_attention_that_the_kernel_refuses_is_left_to_torch():
    model, ids = random_model(configuration("llama")), tokens("llama", 1, 1)
    projection = model.model.layers[0].self_attn.v_proj
    projection.register_forward_hook(lambda module, given, output: output.double())
    with (
        torch.inference_mode(),
        sparse(model, plan_of(), "cpu"),
        pytest.raises(RuntimeError, match="query, key, and value to have the same dtype"),
    ):
        model(ids, use_cache=False)  # a cache would make them alike


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_who_looks_at_attention_changes_no_bit(dtype, called):
    model = random_model(configuration("llama")).to(dtype)
    first, then = tokens("llama", 1, 7), tokens("llama", 1, 1)

    def said():
        past = model(first, use_cache=True).past_key_values
        return model(then, past_key_values=past).logits

    with torch.inference_mode(), sparse(model, plan_of(), "cpu"):
        expected = said()
        layers = len(model.model.layers)
        with observed_attention(model, lambda layer, attention: None):
            assert said().equal(expected)
        with changed_patterns(model, {0: lambda weights, seen: weights}):
            assert said().equal(expected)
    assert called["attend"] == 3 * layers
    assert not any(hasattr(module, STANDS_FOR) for module in model.modules())


def test_attention_that_somebody_registered_is_run(monkeypatch):
    def silent(module, query, key, value, *others, **options):
        return torch.zeros_like(query).transpose(1, 2), None

    model, ids = random_model(configuration("llama")), tokens("llama", 1, 1)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", silent)
    with torch.inference_mode():
        expected = model(ids).logits
        with sparse(model, plan_of(), "cpu"):
            torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-5)


def test_norms_of_many_heads_are_one_call_each(monkeypatch):
    rows = []
    own = Cpu.rms_norm

    def noted(self, x, *others):
        rows.append(x.shape[:-1].numel())
        return own(self, x, *others)

    monkeypatch.setattr(Cpu, "rms_norm", noted)
    sizes = {"num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 8}
    model, ids = random_model(configuration("qwen3", **sizes)), tokens("qwen3", 1, 2)
    with torch.inference_mode():
        expected = model(ids).logits
        with sparse(model, plan_of(), "cpu"):
            torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-5)
    layer = [2, 32, 8, 2]  # before attention, of queries and keys, before the MLP
    assert rows == layer * len(model.model.layers) + [2]


def interleaved(x):
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


@pytest.mark.parametrize("name", ["rotate_half", "apply_rotary_pos_emb"])
def test_functions_that_somebody_replaced_are_run(name, monkeypatch):
    """One that turns other pairs (Blt), and one that is no function (of the package kernels)."""

    class Turn(torch.nn.Module):
        def forward(self, q, k, cos, sin):
            return llama_turn(q, k, -cos, sin)

    llama_turn = modeling_llama.apply_rotary_pos_emb
    model, ids = random_model(configuration("llama")), tokens("llama", 1, 5)
    with torch.inference_mode():
        untouched = model(ids).logits
        other = interleaved if name == "rotate_half" else Turn()
        monkeypatch.setattr(modeling_llama, name, other)
        expected = model(ids).logits
        with sparse(model, plan_of(), "cpu"):
            got = model(ids).logits
        phi = random_model(configuration("phi3"))  # its function is its own
        with sparse(phi, plan_of(), "cpu"):
            phi(tokens("phi3", 1, 5))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert (expected - untouched).abs().max() > 1e-3


def test_onsets_are_found_inside_a_session():
    """They replace forwards of attention too, and put back what was there."""
    model = random_model(configuration("llama"))
    module, other = model.model.layers[1].self_attn, lambda *given, **named: None
    with sparse(model, plan_of(), "cpu"):
        ours = module.forward
        with _replaced(module, other):
            assert module.forward is other
        assert module.forward == ours
    assert "forward" not in vars(module)
