"""What is looked at is what the subject's own modules are given, in every architecture."""

import pytest
import torch
from families import FAMILIES, MIXTURES, tiny_model, tokens

from lmri.anatomy import attention_outputs, dense_outputs, describe, routers, shared_outputs
from lmri.anatomy.linears import linears
from lmri.intervene import tapped_experts
from lmri.sparse.calibration import observed, sites_of

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def look_at(kind, sites, counted, run=None):
    model, found = tiny_model(kind), {}
    with observed(model, describe(model), sites, found.__setitem__) as observer:
        observer.counted = counted
        with torch.inference_mode():
            model(tokens(kind)) if run is None else run(model)
    return found


def inputs_of(modules, counted, found):
    def keep(layer):
        def hook(module, given):
            rows = given[0].reshape(-1, given[0].shape[-1])
            found[layer] = rows[counted.flatten()]

        return hook

    return [m.register_forward_pre_hook(keep(layer)) for layer, m in modules.items()]


@pytest.mark.parametrize("kind", FAMILIES)
def test_inputs_and_neurons_are_what_the_projections_read(kind):
    model = tiny_model(kind)
    counted = torch.rand(3, 14, generator=torch.Generator().manual_seed(0)) < 0.6
    expected = {name: {} for name in ("query", "attention_output", "dense", "shared")}
    queries = {layer: found["query"].module for layer, found in linears(model).items()}
    hooks = inputs_of(queries, counted, expected["query"])
    hooks += inputs_of(attention_outputs(model), counted, expected["attention_output"])
    hooks += inputs_of(dense_outputs(model), counted, expected["dense"])
    hooks += inputs_of(shared_outputs(model), counted, expected["shared"])
    try:
        found = look_at(kind, sites_of(model), counted)
    finally:
        for hook in hooks:
            hook.remove()
    for (layer, site), look in found.items():
        if site in ("expert", "router"):
            continue
        own = expected["query" if site == "attention" else site][layer]
        shown = look.neurons if site in ("dense", "shared") else look.input
        torch.testing.assert_close(shown, own, **CLOSE)


@pytest.mark.parametrize("kind", MIXTURES)
def test_neurons_of_experts_are_those_of_the_pairs_that_are_run(kind):
    model, rows = tiny_model(kind), {}
    counted = torch.rand(3, 14, generator=torch.Generator().manual_seed(0)) < 0.6

    def tap(layer, neurons, ids):
        rows[layer] = neurons[counted.flatten()].flatten(0, 1), ids[counted.flatten()].flatten()

    with tapped_experts(model, tap):
        found = look_at(kind, [s for s in sites_of(model) if s[1] == "expert"], counted)
    assert found
    for (layer, _), look in found.items():
        neurons, ids = rows[layer]
        for expert in range(8):
            own, shown = neurons[ids == expert], look.neurons[look.experts == expert]
            # Llama 4 lists them by expert: in both the order within an expert is that of tokens.
            torch.testing.assert_close(shown, own, **CLOSE)


@pytest.mark.parametrize("kind", MIXTURES)
def test_weights_of_the_router_are_those_of_the_chosen_experts(kind):
    counted = torch.ones(3, 14, dtype=torch.bool)
    model = tiny_model(kind)
    for (layer, _), look in look_at(kind, [(i, "router") for i in routers(model)], counted).items():
        assert look.input.shape == look.experts.shape == (42, describe(model).top_k), layer
        assert look.experts.max() < 8


def test_a_pass_is_left_as_it_was():
    model, ids = tiny_model("qwen2_moe"), tokens("qwen2_moe")
    # transformers leaves hooks where another test asked for hidden states.
    hooks = [dict(own) for m in model.modules() for own in (m._forward_pre_hooks, m._forward_hooks)]
    with torch.inference_mode():
        before = model(ids).logits
        counted = torch.ones(3, 14, dtype=torch.bool)
        seen = []
        look_at("qwen2_moe", sites_of(model), counted, run=lambda m: seen.append(m(ids).logits))
        assert torch.equal(seen[0], before) and torch.equal(model(ids).logits, before)
    now = [dict(own) for m in model.modules() for own in (m._forward_pre_hooks, m._forward_hooks)]
    assert now == hooks
