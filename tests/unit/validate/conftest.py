"""A subject whose refusals one neuron makes: 2 layers of 48 neurons, everything else is noise."""

import pandas as pd
import pytest
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


@pytest.fixture(scope="session")
def planted_subject() -> Subject:
    """Says "no" to sensitive places and "ok" to others; a test must leave it as it was."""
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=2,
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
        mlp, neuron = blocks(model)[PLANTED[0]].mlp, PLANTED[1]
        for weight in (mlp.gate_proj.weight, mlp.up_proj.weight):
            weight[neuron] = 0
            weight[neuron, IS_SENSITIVE] = 1.5
        mlp.down_proj.weight[:, neuron] = 0
        mlp.down_proj.weight[REFUSE, neuron] = 1
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    model = model.eval().requires_grad_(False)
    return Subject("planted", model, tokenizer, describe(model))


@pytest.fixture(scope="session")
def planted_trials() -> pd.DataFrame:
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


def planted_finding(kind: str, units: list, shams: list, mode: str = "zero", **changes) -> dict:
    """A testable finding about the planted subject with everything that validation reads."""
    names = {
        "neuron": ("layer", "neuron"),
        "head": ("layer", "head"),
        "residual": ("layer", "dimension"),
        "layer": ("layer",),
    }[kind]
    shared = {"mode": mode, "dose": len(units), "score": "refusal_onset", "max_new_tokens": 3}
    finding = {
        "stage": "localise",
        "subject": "planted",
        "task": "events",
        "contrast": "refusal",
        "phase": "prompt_last",
        "kind": kind,
        "method": "welch_t",
        "role": "hypothesis",
        "status": "testable",
        "reason": "",
        "units": [dict(zip(names, unit, strict=True)) for unit in units],
        "secondary": {
            **shared,
            "doses": [len(units)],
            "modes": [mode],
            "draws": 3,
            "target": ["sensitive"],
            "controls": ["benign"],
            "interaction": None,
        },
        "controls": {"sham": shams, "layer_matched": {}, "load_matched": {}},
        "primary_endpoint": {
            **shared,
            "units": units,
            "margin": 0.1,
            "alpha": 0.05,
            "claims": 1,
            "minimum_trials": 30,
            "shams": max(len(shams), 19),
            "bystanders": [{"task": "events", "condition": "benign", "score": "exact"}],
            "transfer": None,
            "coherence": {"log_probability": -100.0, "repeats": 3, "share": 0.9},
        },
        "provenance": {},
    }
    return {**finding, **changes}


@pytest.fixture(scope="session")
def make_finding():
    """The function that makes a finding."""
    return planted_finding
