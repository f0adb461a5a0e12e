"""Bounds of attention logits: no text exceeds them, in any family that has them."""

import copy

import numpy as np
import pytest
import torch
from families import FAMILIES, random_model, tokens
from families import configuration as family

from lmri.anatomy import Subject, attentions, describe
from lmri.errors import SubjectError
from lmri.information.attention_entropy import entropy_bound
from lmri.information.attention_logits import logit_ceilings, query_key_weights
from lmri.record.attention import observed_attention

REFUSED = ("bert", "deepseek_v2", "deepseek_v3", "gpt_oss", "llama4_text")
BOUNDED = [kind for kind in FAMILIES if kind not in REFUSED]


def observed(kind, model):
    """Calls of the attention functions, and what the modules read, by layer."""
    calls, read, hooks = {}, {}, []
    for layer, module in attentions(model).items():

        def keep(_module, args, kwargs, layer=layer):
            read[layer] = args[0] if args else kwargs["hidden_states"]

        hooks.append(module.register_forward_pre_hook(keep, with_kwargs=True))
    with torch.inference_mode(), observed_attention(model, calls.__setitem__):
        model(input_ids=tokens(kind))
    for hook in hooks:
        hook.remove()
    return calls, read


@pytest.mark.parametrize("kind", BOUNDED)
def test_no_query_key_or_logit_is_larger(kind, subject_of):
    subject = subject_of(kind)
    found = logit_ceilings(subject, keys=(1, 14))
    calls, _ = observed(kind, subject.model)
    for layer, call in calls.items():
        own = found.sel(layer=layer)
        groups = call.query.shape[1] // call.key.shape[1]
        keys = call.key.double().repeat_interleave(groups, dim=1)
        queries = call.query.double()
        logits = (queries @ keys.mT * call.scaling).abs().amax(dim=(0, 2, 3)).numpy()
        if call.softcap is not None:
            logits = call.softcap * np.tanh(logits / call.softcap)
        slack = 1 + 1e-5
        longest = queries.norm(dim=-1).amax(dim=(0, 2)).numpy()
        assert (longest <= slack * own["largest_query"].values).all()
        assert (keys.norm(dim=-1).amax(dim=(0, 2)).numpy() <= slack * own["largest_key"]).all()
        assert (logits <= slack * own["largest_logit"].values).all()
        assert (longest > 0.05 * own["largest_query"].values).all()  # not far above either
    assert (found["least_entropy"].sel(keys=1) == 0).all()


@pytest.mark.parametrize("kind", BOUNDED)
def test_matrices_are_those_of_each_head(kind, subject_of):
    model = subject_of(kind).model
    calls, read = observed(kind, model)
    size = describe(model).head_size
    for layer, module in attentions(model).items():
        if hasattr(module, "q_norm"):
            continue
        both = query_key_weights(module, size)
        given = read[layer].double()
        for (weight, bias), seen in zip(both, (calls[layer].query, calls[layer].key), strict=True):
            made = torch.einsum("btd,hkd->bhtk", given, weight) + bias[:, None]
            # Rotary positions keep the length.
            expected = seen.double().norm(dim=-1)
            torch.testing.assert_close(made.norm(dim=-1), expected, rtol=1e-4, atol=1e-5)


def test_known_weights_and_the_entropy_that_follows():
    model = copy.deepcopy(random_model(family("llama")))
    module = model.model.layers[0].self_attn
    with torch.no_grad():
        model.model.layers[0].input_layernorm.weight.fill_(2.0)
        module.q_proj.weight.zero_()
        module.k_proj.weight.zero_()
        module.q_proj.weight[0, 0] = 3.0  # the first of four heads of width 8
        module.k_proj.weight[0, 1] = 0.5
    found = logit_ceilings(Subject("tiny", model, None, describe(model)), keys=[16])
    first = found.sel(layer=0)
    root = np.sqrt(32)
    np.testing.assert_allclose(first["largest_query"], [6 * root, 0, 0, 0], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(first["largest_key"][:2], [root, root], rtol=1e-5)  # one for two
    assert float(first["largest_logit"][0]) == pytest.approx(6 * 32 / np.sqrt(8), rel=1e-5)
    # Heads whose logits are all 0 can only spread evenly.
    np.testing.assert_allclose(first["least_entropy"].sel(keys=16)[1:], np.log(16))
    least = entropy_bound(4 * 6 * 32 / np.sqrt(8), 16)
    assert float(first["least_entropy"].sel(keys=16)[0]) == pytest.approx(float(least), abs=1e-9)


@pytest.mark.parametrize("kind", REFUSED)
def test_families_without_a_bound(kind, subject_of):
    with pytest.raises(SubjectError, match=r"encoder|known modules|learned sinks or another norm"):
        logit_ceilings(subject_of(kind))
