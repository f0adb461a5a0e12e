"""Fixtures that more than one part of the tests uses."""

import os
from collections import Counter
from pathlib import Path

import pytest

# Before anything imports torch: bits are compared, and they depend on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first, and those of the workflow: the last one keeps a single core busy."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[item.path], "workflow" not in item.path.parts))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the working copy the tests belong to."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def small_world():
    """The small world of seed 0."""
    from lmri.world import make_world

    return make_world(0, "small")


@pytest.fixture(scope="session")
def tiny_model_folder(small_world, tmp_path_factory) -> Path:
    """A random two-layer mixture of experts in Hugging Face layout; copy it before changing it."""
    import torch
    from transformers import OlmoeConfig, OlmoeForCausalLM

    from lmri.world import build_tokenizer

    tokenizer = build_tokenizer(small_world)
    configuration = OlmoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=8,
        num_experts_per_tok=2,
        norm_topk_prob=False,
        initializer_range=0.2,  # ten times the default: every part shows in the logits
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = OlmoeForCausalLM(configuration)
        for layer in model.model.layers:
            # Far apart, so that rounding never changes which experts are chosen.
            layer.mlp.gate.weight.mul_(2)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_subject(tiny_model_folder):
    """That model, loaded as a subject; a test must leave it as it was."""
    from lmri.anatomy import load_subject

    return load_subject(tiny_model_folder, "tiny")
