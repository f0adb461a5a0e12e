"""How massive dimensions get: the largest ratio to the median of the state, over all tokens."""

import copy

import numpy as np
import torch
from families import tiny_model, tokens

from lmri.anatomy import Subject, blocks, describe
from lmri.localise.massive import massive_ratios


def test_the_ratio_is_that_of_the_most_massive_token():
    model = copy.deepcopy(tiny_model("llama"))
    subject = Subject("llama", model, None, describe(model))
    prompts = tokens("llama").tolist()
    seen = []

    def spike(module, arguments, output):
        output[0, 3, 5] = 2000.0

    def watch(module, arguments, output):
        seen.append(output.clone())

    hooks = [blocks(model)[0].mlp.register_forward_hook(spike)]
    hooks.append(blocks(model)[0].register_forward_hook(watch))
    with torch.inference_mode():
        found = massive_ratios(subject, prompts, rows=8)
    for hook in hooks:
        hook.remove()
    assert found.shape == (2, 32)
    (state,) = seen
    sizes = state.abs().double()
    expected = (sizes / sizes.median(-1, keepdim=True).values).amax((0, 1))
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert found[0].argmax() == 5 and found[0, 5] > 1000
    # What is nothing but zeros is not massive.
    with torch.inference_mode():
        subject.model.model.embed_tokens.weight.zero_()
        assert not massive_ratios(subject, prompts, rows=8)[0].any()
