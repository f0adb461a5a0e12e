"""Blocks in two calls: to the bit what their own code gives, where nobody looks."""

import copy
import functools
from collections import OrderedDict

import pytest
import torch
from families import configuration, random_model, tokens
from sparse_cases import DECODERS, plan_of
from torch import nn
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama import modeling_llama

from lmri.anatomy.linears import linears
from lmri.errors import SparseError
from lmri.intervene.sharing import _replaced
from lmri.sparse.kernels.cpu import Cpu
from lmri.sparse.rules import InputThreshold, KeptHeads, KeptNeurons, NeuronThreshold
from lmri.sparse.runtime import sparse

LIKE_LLAMA = {"llama", "qwen2_moe"}
"""Architectures whose blocks, attention and rotary embedding have the code of Llama's."""

PASSED_BY = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
PASSED_BY += tuple(f"self_attn.{name}_proj" for name in "qkvo")
"""Modules of a block that are not called as modules."""


@pytest.fixture
def called(monkeypatch):
    """Names of what was called, one after another."""
    found = []
    for name in ("attention_inputs", "attention_added"):
        own = getattr(Cpu, name)

        def noted(self, *given, own=own, name=name, **options):
            found.append(name)
            return own(self, *given, **options)

        monkeypatch.setattr(Cpu, name, noted)
    return found


def weighted(kind, dtype=torch.float32):
    """A model whose norms and biases have weights: those of a random model are 1 and 0."""
    model = random_model(configuration(kind))
    for index, weight in enumerate(model.parameters()):
        if weight.dim() == 1:
            generator = torch.Generator().manual_seed(index)
            weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    return model.to(dtype)


def thresholds(model):
    return plan_of(
        *(
            InputThreshold(layer, name, torch.tensor(0.2))
            for layer, found in linears(model).items()
            for name, part in found.items()
            if not part.experts
        )
    )


PLANS = {
    "nothing": lambda model: plan_of(),
    "inputs": thresholds,
    "neurons": lambda model: plan_of(NeuronThreshold(1, "dense", torch.tensor(0.1))),
    "kept": lambda model: plan_of(*(KeptNeurons(layer, "dense", (1, 5, 40)) for layer in (0, 1))),
}


def said(model, plan, *, batch=1, past=None, prompt=9, **options):
    """Logits of three tokens after a prompt, under a plan that counts nothing."""
    kind = model.config.model_type
    made = []
    with torch.inference_mode(), sparse(model, plan, "cpu", count=False):
        past = DynamicCache() if past is None else past
        model(tokens(kind, batch, prompt), past_key_values=past)
        for seed in range(3):
            one = tokens(kind, batch, 1) + seed
            made.append(model(one, past_key_values=past, **options).logits)
    return torch.stack(made)


def watched(module):
    """Let somebody look at a module, and change nothing."""
    seen = []
    handle = module.register_forward_hook(lambda *given: seen.append(None))
    return handle, seen


@pytest.mark.parametrize("kind", DECODERS)
def test_only_blocks_of_known_code_are_replaced(kind, called):
    said(random_model(configuration(kind)), plan_of())
    assert called == ["attention_inputs", "attention_added"] * (6 if kind in LIKE_LLAMA else 0)


@pytest.mark.parametrize("plan", sorted(PLANS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_block_says_to_the_bit_what_its_own_code_says(plan, dtype, batch, called):
    model = weighted("llama", dtype)
    got = said(model, PLANS[plan](model), batch=batch)
    assert len(called) == 12
    handles = [watched(block.self_attn)[0] for block in model.model.layers]
    assert said(model, PLANS[plan](model), batch=batch).equal(got)
    assert len(called) == 12
    for handle in handles:
        handle.remove()


def test_long_texts_go_on_in_a_cache_that_grows(called):
    """To the bit as in that of transformers, and after the session in that."""
    model, caches, ends = weighted("llama"), (DynamicCache(), DynamicCache()), []
    ids = tokens("llama", 1, 40)
    for past in caches:
        with torch.inference_mode():
            with sparse(model, plan_of(), "cpu", count=False):
                model(ids[:, :5], past_key_values=past)
                made = [model(one[None, None], past_key_values=past).logits for one in ids[0, 5:]]
            ends.append(torch.stack([*made, model(ids[:, :1], past_key_values=past).logits]))
        for block in model.model.layers:
            watched(block.self_attn)
    assert ends[0].equal(ends[1]) and len(called) == 2 * 2 * 35
    roomy, plain = (past.layers[0].keys for past in caches)
    assert roomy.equal(plain)


@pytest.mark.parametrize("kind", sorted(LIKE_LLAMA))
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_texts_go_on_as_they_did(kind, cache, called):
    """Biases of queries, keys and values (Qwen2-MoE) among them."""
    model, ids = weighted(kind), tokens(kind, 1, 9)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    options |= {"return_dict_in_generate": True, "output_logits": True, "disable_compile": True}
    options |= {} if cache == "dynamic" else {"cache_implementation": cache}
    with torch.inference_mode():
        expected = model.generate(ids, **options)
        with sparse(model, plan_of(), "cpu", count=False):
            got = model.generate(ids, **options)
    for one, other in zip(got.logits, expected.logits, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert bool(called) == (cache == "dynamic")  # a static one needs a mask


@pytest.mark.parametrize("name", PASSED_BY)
@pytest.mark.parametrize("way", ["after", "before", "everywhere"])
def test_whoever_looks_at_a_module_finds_it_run(name, way, called):
    model = weighted("llama")
    expected, seen = said(model, plan_of()), []
    called.clear()
    module = model.model.layers[0].get_submodule(name)

    def note(found, *given):
        seen.extend([None] * (found is module))

    register = {
        "after": module.register_forward_hook,
        "before": module.register_forward_pre_hook,
        "everywhere": nn.modules.module.register_module_forward_hook,
    }[way]
    handle = register(note)
    try:
        assert said(model, plan_of()).equal(expected)
    finally:
        handle.remove()
    assert len(seen) == 4
    assert len(called) == (0 if way == "everywhere" else 6)  # the other block goes on


@pytest.mark.parametrize("name", PASSED_BY)
@pytest.mark.parametrize("way", ["forward", "module"])
def test_what_somebody_puts_in_the_place_of_a_module_is_run(name, way):
    model = weighted("llama")
    block = model.model.layers[0]
    owner, _, attribute = name.rpartition(".")
    module, ran = block.get_submodule(name), []

    class Other(nn.Module):
        def forward(self, *given, **options):
            ran.append(None)
            return module(*given, **options)

    def other(*given, own=module.forward, **options):
        ran.append(None)
        return type(module).forward(module, *given, **options)

    one = tokens("llama", 1, 1)
    with torch.inference_mode(), sparse(model, plan_of(), "cpu", count=False):
        past = model(tokens("llama", 1, 9)).past_key_values
        if way == "forward":
            with _replaced(module, other):
                model(one, past_key_values=past)
        else:
            setattr(block.get_submodule(owner), attribute, Other())
            model(one, past_key_values=past)
            setattr(block.get_submodule(owner), attribute, module)
    assert len(ran) == 1


def test_interventions_on_what_is_passed_by_change_what_follows():
    model = weighted("llama")
    expected = said(model, plan_of())
    projection = model.model.layers[1].self_attn.o_proj
    projection.register_forward_pre_hook(lambda module, given: (0 * given[0],))
    changed = said(model, plan_of())
    assert (changed - expected).abs().max() > 1e-3


@pytest.mark.parametrize("what", ["mask", "option", "dropout", "eager", "counts", "cache"])
def test_other_passes_run_the_code_of_the_block(what, called):
    model = weighted("llama")
    attention = model.model.layers[0].self_attn
    if what == "eager":
        model.set_attn_implementation("eager")
    one, options = tokens("llama", 1, 1), {}
    with torch.inference_mode(), sparse(model, plan_of(), "cpu", count=what == "counts"):
        past = None if what == "cache" else model(tokens("llama", 1, 9)).past_key_values
        if what == "mask":
            options["attention_mask"] = torch.zeros(1, 1, 1, 10)
        if what == "option":
            options["unknown"] = 1
        if what == "dropout":
            attention.train()
        model(one, past_key_values=past, use_cache=what != "cache", **options)
    assert len(called) == (2 if what == "dropout" else 0)


def test_attention_that_somebody_registered_is_run(monkeypatch, called):
    def silent(module, query, key, value, *others, **options):
        return torch.zeros_like(query).transpose(1, 2), None

    model = weighted("llama")
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", silent)
    said(model, plan_of())
    assert not called


@pytest.mark.parametrize(
    ("name", "other"),
    [("apply_rotary_pos_emb", lambda q, k, *angles: (q, k)), ("rotate_half", lambda x: x)],
)
def test_functions_that_somebody_replaced_are_run(name, other, monkeypatch, called):
    monkeypatch.setattr(modeling_llama, name, other)
    said(weighted("llama"), plan_of())
    assert not called


def test_products_that_are_not_one_call_are_left_to_their_modules(called):
    said(weighted("llama"), plan_of(KeptHeads(0, (1, 2))))
    assert called == ["attention_inputs", "attention_added"] * 3  # of the other block


@pytest.mark.parametrize("name", ["input_layernorm", "post_attention_layernorm"])
def test_dtypes_that_the_kernel_refuses_are_left_to_the_modules(name, called):
    """Norms in float32, as in models that keep some modules wide."""
    model = weighted("llama", torch.bfloat16)
    for block in model.model.layers:
        block.get_submodule(name).float()
    got = said(model, plan_of(), prompt=5)
    assert "attention_added" not in called
    called.clear()
    for block in model.model.layers:
        watched(block.self_attn)
    assert said(model, plan_of(), prompt=5).equal(got) and not called


def test_angles_of_another_size_are_left_to_the_modules(called):
    model = weighted("llama")
    rotary = model.model.rotary_emb
    rotary.register_forward_hook(lambda module, given, angles: tuple(x[..., :4] for x in angles))
    one = tokens("llama", 1, 1)
    with (
        torch.inference_mode(),
        sparse(model, plan_of(), "cpu", count=False),
        pytest.raises(SparseError, match="'cos' of a rotary embedding"),
    ):
        model(one, past_key_values=DynamicCache())
    assert not called


@pytest.mark.parametrize("whose", ["all", "one"])
def test_another_attention_from_some_token_on_is_run(whose, called):
    model = weighted("llama")
    one = tokens("llama", 1, 1)
    with torch.inference_mode(), sparse(model, plan_of(), "cpu", count=False):
        past = model(tokens("llama", 1, 9)).past_key_values
        model(one, past_key_values=past)
        assert len(called) == 4
        attention = model.model.layers[1].self_attn
        if whose == "one":
            attention.config = copy.copy(attention.config)
        attention.config._attn_implementation = "eager"
        model(one, past_key_values=past)
    assert len(called) == (4 if whose == "all" else 6)


@pytest.mark.parametrize("name", ["LlamaDecoderLayer", "LlamaAttention"])
def test_code_that_somebody_put_around_that_of_llama_is_run(name, monkeypatch, called):
    cls = getattr(modeling_llama, name)
    own, ran = cls.forward, []

    @functools.wraps(own)
    def wrapped(*given, **options):
        ran.append(None)
        return own(*given, **options)

    monkeypatch.setattr(cls, "forward", wrapped)
    said(weighted("llama"), plan_of())
    assert len(ran) == 8 and not called


@pytest.mark.parametrize("name", ["LlamaDecoderLayer", "LlamaAttention"])
def test_classes_that_are_changed_while_it_runs_are_not_passed_by(name, monkeypatch, called):
    """Attention has its own forward in a session; a block runs that of its class."""
    cls = getattr(modeling_llama, name)
    own, ran = cls.forward, []
    model = weighted("llama")
    with torch.inference_mode(), sparse(model, plan_of(), "cpu", count=False):
        past = model(tokens("llama", 1, 9)).past_key_values
        monkeypatch.setattr(
            cls, "forward", lambda *given, **named: ran.append(0) or own(*given, **named)
        )
        model(tokens("llama", 1, 1), past_key_values=past)
    assert not called and len(ran) == (2 if name == "LlamaDecoderLayer" else 0)


def test_modules_that_are_none_are_no_obstacle(called):
    model = weighted("llama")
    expected = said(model, plan_of())
    model.model.layers[0].adapter = nn.Linear(1, 1)
    model.model.layers[0].adapter = None
    assert said(model, plan_of()).equal(expected) and len(called) == 24


def test_hooks_are_seen_where_somebody_made_their_list_anew(called):
    model = weighted("llama")
    module = model.model.layers[0].mlp
    with torch.inference_mode(), sparse(model, plan_of(), "cpu", count=False):
        past = model(tokens("llama", 1, 9)).past_key_values
        module._forward_hooks = OrderedDict()
        seen = watched(module)[1]
        model(tokens("llama", 1, 1), past_key_values=past)
    assert len(seen) == 1 and len(called) == 2


def test_a_forward_that_somebody_took_away_is_the_models_own_afterwards():
    model = weighted("llama")
    block = model.model.layers[0]
    with sparse(model, plan_of(), "cpu", count=False):
        block.forward = lambda *given: None
        del block.forward
    assert "forward" not in vars(block)


def test_a_cache_that_gives_back_others_than_it_took_is_left_to_torch(called):
    """Sequences that share what they have seen: torch spreads the keys of one over all."""

    class Shared(DynamicCache):
        def update(self, keys, values, *others, **options):
            keys, values = super().update(keys, values, *others, **options)
            return keys[:1], values[:1]

    model = weighted("llama")
    got = said(model, plan_of(), batch=2, past=Shared())
    assert called == ["attention_inputs", "attention_added"] * 6
    for block in model.model.layers:
        watched(block.self_attn)
    torch.testing.assert_close(got, said(model, plan_of(), batch=2, past=Shared()))
    assert len(called) == 12


def test_forwards_are_the_models_own_afterwards():
    model = weighted("llama")
    said(model, plan_of())
    assert not any("forward" in vars(module) for module in model.modules())
