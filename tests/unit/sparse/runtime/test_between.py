"""Norms and turned queries are replaced only where they are known, and for few rows."""

import pytest
import torch
from families import FAMILIES, configuration, random_model, tokens
from sparse_cases import plan_of

from lmri.sparse.kernels.cpu import Cpu
from lmri.sparse.runtime import sparse

NORMS = {"qwen3", "qwen3_moe", "qwen2_moe", "llama", "mistral", "mixtral", "olmoe", "phi3"}
NORMS |= {"deepseek_v2", "deepseek_v3", "glm4_moe", "granitemoe", "ernie4_5_moe"}
"""Architectures whose norms have the code of Llama's."""

TURNED = {"llama", "mistral", "mixtral", "qwen3", "qwen3_moe", "qwen2_moe", "olmoe", "granitemoe"}
"""Some whose queries and keys are turned by the code of Llama's."""


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_only_known_code_is_replaced_and_only_for_few_rows(kind, monkeypatch):
    called = {"rms_norm": 0, "rotary": 0}
    for name in called:
        own = getattr(Cpu, name)

        def noted(self, *given, own=own, name=name):
            called[name] += 1
            return own(self, *given)

        monkeypatch.setattr(Cpu, name, noted)
    model = random_model(configuration(kind))
    forwards = {module: module.forward for module in model.modules()}
    with torch.inference_mode(), sparse(model, plan_of(), "cpu"):
        model(tokens(kind, 3, 14))
        assert not any(called.values())
        model(tokens(kind, 1, 5))
    assert (called["rms_norm"] > 0) == (kind in NORMS)
    assert called["rotary"] > 0 or kind not in TURNED
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
