"""A subject that looks answers up: what every neuron reads and writes is set by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lmri.anatomy import Subject, attention_outputs, attentions, blocks, describe
from lmri.config import EvidenceOptions, RecordOptions
from lmri.experiment.outcome import Ground
from lmri.record import record_task

RELATIONS = ("capital", "colour", "river")
PLACES = [f"p{number}" for number in range(48)]
SPECIAL = ["<pad>", "<bos>", "<eos>"]
WRONG = "wrong"
ANSWERS = [f"the_{relation}" for relation in RELATIONS]
WORDS = [*SPECIAL, WRONG, *ANSWERS, *RELATIONS, *PLACES]
HIDDEN, NEURONS, LAYER = 32, 160, 1

# Dimensions of the residual: a relation asked, its answer, that there is a word, that it is said,
# where a place is, and what attention brings of it.
ASKED = dict(zip(RELATIONS, range(3), strict=True))
ANSWER = dict(zip(RELATIONS, range(3, 6), strict=True))
ALWAYS, SAID, AT, BROUGHT = 6, 7, 8, 9
PLACE_NEURON = NEURONS - 1
ROOT = ((4**2 + 1) / HIDDEN) ** 0.5
"""What a layer divides the residual of a relation by, but for what attention brings."""


def lookup_subject(reads: dict, writes: dict, directly: float = 0.0) -> Subject:
    """Make it: ``reads[neuron]`` is {relation: strength}, ``writes[neuron]`` {relation: x}.

    Where a relation is asked, neurons that read it add x to its answer, and x at their strongest to
    the answers of relations that they do not read. What is asked adds to its own answer directly.
    With 2 in all an answer is as likely as a wrong one, with 4 it is nearly sure. One neuron tells
    places apart and writes nothing.
    """
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=HIDDEN,
        intermediate_size=NEURONS,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.no_grad():
        model = LlamaForCausalLM(config)
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        _embed(model.model.embed_tokens.weight)
        _bring_place(model)
        mlp = blocks(model)[LAYER].mlp
        for neuron, relations in reads.items():
            for relation, strength in relations.items():
                mlp.gate_proj.weight[neuron, ASKED[relation]] = strength
                mlp.up_proj.weight[neuron, ASKED[relation]] = strength
            for relation, x in writes[neuron].items():
                strength = relations.get(relation, max(relations.values()))
                read = torch.tensor(strength * 4 / ROOT)
                activity = torch.nn.functional.silu(read) * read
                mlp.down_proj.weight[ANSWER[relation], neuron] = x / activity
        mlp.gate_proj.weight[PLACE_NEURON, BROUGHT] = 1
        mlp.up_proj.weight[PLACE_NEURON, ALWAYS] = 1
        for relation, answer in zip(RELATIONS, ANSWERS, strict=True):
            model.lm_head.weight[WORDS.index(answer), ANSWER[relation]] = 6
            model.lm_head.weight[WORDS.index(answer), ASKED[relation]] = 6 * directly / 4
        model.lm_head.weight[WORDS.index(WRONG), ALWAYS] = 12
        model.lm_head.weight[WORDS.index("<eos>"), SAID] = 30
    model = model.eval().requires_grad_(False)
    return Subject("lookup", model, lookup_tokenizer(), describe(model))


def _embed(embeddings: torch.Tensor) -> None:
    embeddings[3:, ALWAYS] = 1
    for relation in RELATIONS:
        embeddings[WORDS.index(relation), ASKED[relation]] = 4
    for answer in ANSWERS:
        embeddings[WORDS.index(answer), SAID] = 4
    for number, place in enumerate(PLACES):
        embeddings[WORDS.index(place), AT] = 1 + number / len(PLACES)


def _bring_place(model: LlamaForCausalLM) -> None:
    # Without queries and keys every token is attended to alike: a third of the place.
    attentions(model)[0].v_proj.weight[0, AT] = 1
    attention_outputs(model)[0].weight[BROUGHT, 0] = 1


def lookup_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer: a word, a token."""
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def lookup_trials(shares: tuple[float, float, float]) -> pd.DataFrame:
    """Every place by every relation; shares of the places are for each split."""
    counts = [round(share * len(PLACES)) for share in shares]
    splits = np.repeat(["selection", "calibration", "evaluation"], counts)
    splits = np.random.default_rng(0).permutation(splits)  # places are in the order of their number
    rows = [
        {
            "trial": f"{place}:{relation}",
            "task": "relations",
            "condition": relation,
            "family": "ask",
            "split": str(splits[number]),
            "held_out": False,
            "prompt": f"<bos> {place} {relation}",
            "content": f"{place} {relation}",
            "messages": "",
            "template": "",
            "reference": f"the_{relation}",
            "fact": f"the_{relation}",
            "refusal": "",
            "entity": place,
            "pair": "",
            "license": "",
            "carrier_place": place,
            "class_place": "null",
        }
        for number, place in enumerate(PLACES)
        for relation in RELATIONS
    ]
    return pd.DataFrame(rows)


def lookup_ground(
    subject: Subject, root: Path | None = None, places: tuple = (1 / 3, 1 / 3, 1 / 3), **evidence
) -> Ground:
    """What an experiment may read; with a folder selection trials are recorded there."""
    trials = lookup_trials(places)
    if root is not None:
        subject.model.save_pretrained(root / "model")
        subject.tokenizer.save_pretrained(root / "model")
        trials.to_parquet(root / "relations.parquet")
        store = root / "recordings/relations/0.zarr"
        record_task(
            out=store,
            manifest=store.with_name("0.zarr.manifest.json"),
            task="relations",
            stimuli=root / "relations.parquet",
            shard=0,
            options=RecordOptions(
                splits=("selection",), max_new_tokens=3, quantities=("neuron",), full=()
            ),
            subject="lookup",
            model=root / "model",
            seed=0,
            provenance={},
        )
    return Ground(
        subject=subject,
        stimuli={"relations": trials},
        recordings=(root or Path()) / "recordings",
        findings=(root or Path()) / "findings",
        contrasts=(),
        evidence=EvidenceOptions(**{"neuron_doses": (1, 2), **evidence}),
        max_new_tokens=3,
        rows=64,
        seed=0,
    )
