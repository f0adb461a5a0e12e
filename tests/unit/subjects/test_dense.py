"""A base without experts: the same training, another architecture."""

import json
from dataclasses import replace

import numpy as np
import torch
from tiny_recipe import TINY
from transformers import AutoModelForCausalLM

from lmri.subjects import train_base
from lmri.subjects.corpus import Corpus
from lmri.subjects.model import build_model, forward
from lmri.world import build_tokenizer, make_world

DENSE = replace(TINY, experts=0, intermediate=24, base_checkpoints=(0,))


def batch(masked):
    """Packed documents, and the number of words."""
    world = make_world(0, "small")
    tokenizer = build_tokenizer(world)
    corpus = Corpus(world, tokenizer, DENSE.base_mix, False, DENSE.prompt_weight)
    return corpus.batch(np.random.default_rng(0), 2, 40, masked), len(tokenizer)


def test_a_dense_base_is_a_llama_and_its_card_says_so(tmp_path):
    train_base(tmp_path / "base", base_seed=1, world_seed=0, recipe=DENSE, world_size="small")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert model.config.model_type == "llama"
    assert model.config.intermediate_size == 24
    assert "LlamaForCausalLM" in (tmp_path / "base/MODEL_CARD.md").read_text()
    assert json.loads((tmp_path / "base/card.json").read_text())["recipe"]["experts"] == 0


def test_without_a_router_the_loss_is_that_of_the_text():
    packed, words = batch(masked=True)
    losses = forward(build_model(DENSE, words, 0), packed, balance=1.0, z=1.0)
    assert losses.total.item() == losses.text.item() > 0
    assert losses.balance.item() == losses.z.item() == 0


@torch.no_grad()
def test_packed_documents_do_not_see_each_other():
    packed, words = batch(masked=True)
    model = build_model(DENSE, words, 0).eval()
    start = int((packed.position_ids[0] == 0).nonzero()[1])
    stop = int([*(packed.position_ids[0] == 0).nonzero()[2:], torch.tensor(40)][0])
    # As in training: documents are told apart where no cache is asked for.
    together = model(
        input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False
    ).logits[0]
    alone = model(input_ids=packed.input_ids[:1, start:stop]).logits[0]
    assert torch.allclose(together[start:stop], alone, atol=1e-5)
