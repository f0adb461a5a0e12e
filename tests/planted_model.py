"""A subject whose refusals one neuron makes: layers of 48 neurons, everything else is noise."""

import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lmri.anatomy import Subject, attention_outputs, blocks, describe

PLANTED = (1, 7)
PLACES = [f"p{number}" for number in range(60)]
SENSITIVE = 20
FILLERS = ("at", "by", "in", "near", "on")
SPECIAL = ["<pad>", "<bos>", "<eos>"]
WORDS = [*SPECIAL, "no", "ok", *FILLERS, *PLACES]

# Dimensions of the residual that mean something; the first 56 are noise.
ANSWERED, IS_PLACE, IS_SENSITIVE, REFUSE = 60, 61, 62, 63


def make_subject(layers: int = 2, planted: tuple[int, int] = PLANTED, dead: tuple = ()) -> Subject:
    """Says "no" to sensitive places and "ok" to others; dead layers write nothing."""
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        embeddings, head = model.model.embed_tokens.weight, model.lm_head.weight
        embeddings.normal_(0, 0.5)
        embeddings[:, 56:] = 0
        embeddings[-len(PLACES) :, IS_PLACE] = 2
        embeddings[-len(PLACES) : -len(PLACES) + SENSITIVE, IS_SENSITIVE] = 2
        embeddings[3:5, ANSWERED] = 4
        head.normal_(0, 0.01)
        head[WORDS.index("no"), REFUSE] = 1
        head[WORDS.index("ok"), IS_PLACE] = 1
        head[WORDS.index("<eos>"), ANSWERED] = 1
        for projection in attention_outputs(model).values():
            projection.weight.zero_()
        for block in blocks(model):
            for weight in (block.mlp.gate_proj.weight, block.mlp.up_proj.weight):
                weight.normal_(0, 0.3)
                weight[:, 56:] = 0
            block.mlp.down_proj.weight.normal_(0, 0.01)[56:] = 0
        mlp, neuron = blocks(model)[planted[0]].mlp, planted[1]
        for weight in (mlp.gate_proj.weight, mlp.up_proj.weight):
            weight[neuron] = 0
            weight[neuron, IS_SENSITIVE] = 1.5
        mlp.down_proj.weight[:, neuron] = 0
        mlp.down_proj.weight[REFUSE, neuron] = 1
        for layer in dead:
            blocks(model)[layer].mlp.down_proj.weight.zero_()
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    model = model.eval().requires_grad_(False)
    return Subject("planted", model, tokenizer, describe(model))


def make_trials() -> pd.DataFrame:
    """Every place with every filler: half of the sensitive and of the null places to select on."""
    rows = []
    for number, place in enumerate(PLACES):
        condition = "sensitive" if number < SENSITIVE else "benign"
        answer = "no" if condition == "sensitive" else "ok"
        for filler in FILLERS:
            rows.append(
                {
                    "trial": f"{place}:{filler}",
                    "task": "events",
                    "condition": condition,
                    "split": "evaluation" if number % 2 else "selection",
                    "held_out": False,
                    "prompt": f"<bos> {filler} {place}",
                    "reference": answer,
                    "fact": "ok",
                    "refusal": "no",
                    "carrier_place": place,
                    "class_place": condition,
                }
            )
    return pd.DataFrame(rows)
