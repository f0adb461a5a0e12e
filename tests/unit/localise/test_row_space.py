"""Directions taken apart by what reads them: a dormant path is an illusion, the writer is none."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lmri.anatomy import Dictionary, Subject, describe, with_dictionary
from lmri.localise.row_space import row_space_of

WORDS = ["<pad>", "<bos>", "<eos>", "no", "ok", "go", *(f"s{i}" for i in range(8))]
WORDS += [f"b{i}" for i in range(8)]
UNREAD, IDLE, REFUSE, ANSWER = 12, 13, 14, 15


@pytest.fixture(scope="module")
def subject():
    """One block that adds nothing: "no" is read off dimension 14, 12 goes along and is not read."""
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).double()
        for name, weight in model.named_parameters():
            if "proj" in name:
                weight.zero_()
        embeddings, head = model.model.embed_tokens.weight, model.lm_head.weight
        embeddings.normal_(0, 0.3)
        embeddings[:, 12:] = 0
        embeddings[6:, ANSWER] = 2
        embeddings[6:14, REFUSE] = embeddings[6:14, UNREAD] = 3
        head.normal_(0, 0.01)
        head[:, UNREAD] = 0
        head[3, REFUSE] = head[3, IDLE] = 2
        head[4, ANSWER] = 1
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    return Subject("toy", model.eval().requires_grad_(False), tokenizer, describe(model))


def trials(first):
    rows = [
        {"trial": f"{first}{i}", "prompt": f"<bos> {first}{i}", "refusal": "no", "reference": "no"}
        for i in range(8)
    ]
    return pd.DataFrame(rows)


def checked(subject, *directions):
    decoder = torch.zeros(len(directions), 16, dtype=torch.float64)
    for row, dimensions in enumerate(directions):
        decoder[row, list(dimensions)] = 1.0
    bias = torch.zeros(len(directions), dtype=torch.float64)
    own = Dictionary(Path("d"), 0, "after", decoder.T.contiguous(), bias, decoder)
    units = [(0, row) for row in range(len(directions))]
    sides = trials("s"), trials("b")
    return row_space_of(with_dictionary(subject, own), "feature", units, *sides, "refusal_onset", 2)


def test_a_dormant_path_is_flagged(subject):
    found = checked(subject, (UNREAD, IDLE))
    assert found["effect"] > 1, "looks like the mechanism"
    assert found["row_effect"] == pytest.approx(0, abs=1e-6)
    assert (found["rank"], found["width"]) == (15, 16)
    assert (found["row_norm"], found["null_norm"]) == pytest.approx((0.5**0.5, 0.5**0.5))
    assert found["illusory"] is True


def test_the_direction_that_is_read_is_not(subject):
    found = checked(subject, (REFUSE,))
    assert found["effect"] == pytest.approx(found["row_effect"])
    assert found["null_effect"] == 0
    assert (found["kept"], found["illusory"]) == (pytest.approx(1), False)


def test_directions_are_taken_apart_together(subject):
    found = checked(subject, (REFUSE,), (UNREAD, IDLE))
    alone = checked(subject, (REFUSE,))
    assert found["row_effect"] == pytest.approx(alone["row_effect"], rel=0.05)
    assert found["null_norm"] == pytest.approx(0.5)


def test_without_an_effect_nothing_is_told(subject):
    found = checked(subject, (3,))
    assert abs(found["effect"]) < 0.1
    assert (found["kept"], found["illusory"]) == (None, None)


def test_dimensions_are_directions_too(subject):
    sides = trials("s"), trials("b")
    found = row_space_of(subject, "residual", [(0, REFUSE)], *sides, "refusal_onset", 2)
    assert found["kept"] == pytest.approx(1)
