"""Mixtures of experts whose refusals are known to the last weight, and a study of one of them.

A prompt is a year and a place. Attention brings the year to the place, the last token; a router
reads both and chooses certain experts where both are sensitive, and never else. In the circuit

- ``sole`` one such expert is the only writer of the refusal;
- ``backup`` there are two, and what either writes is enough;
- ``decoy`` there is one that writes nothing: the unembedding reads place and year itself.

The weights are those of an OLMoE of two layers; all that is not named here is noise.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast

from lmri.config import (
    ClaimOptions,
    ContrastOptions,
    EvidenceOptions,
    LocaliseOptions,
    RecordOptions,
    SplitOptions,
    TaskOptions,
    ValidateOptions,
    WorldOptions,
)
from lmri.localise import localise_subject
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import read_table
from lmri.validate import validate_subject

CIRCUITS = ("sole", "backup", "decoy")
LAYER, FIRST, SECOND = 1, 5, 11
"""Where the circuit is: its layer, its expert, and the back-up or nothing."""

SENSITIVE, OTHERS = 18, 24
"""Sensitive and other places, and as many years."""

SPECIAL = ["<pad>", "<bos>", "<eos>"]
PLACES, YEARS = ([f"{kind}{i}" for i in range(SENSITIVE + OTHERS)] for kind in "py")
WORDS = [*SPECIAL, "no", "ok", *PLACES, *YEARS]

HIDDEN, NOISE, EXPERTS, NEURONS = 64, 48, 16, 8
# Dimensions of the residual that mean something; the first are noise.
PLACE, YEAR, YEAR_READ, ALWAYS, REFUSE, ANSWERED = range(NOISE, NOISE + 6)

THRESHOLD = 1.5
"""In units of a sensitive carrier: one is below, two are above."""

TASK = "events"
CONTRAST = ContrastOptions.from_dict(
    {
        "name": "refusal",
        "role": "hypothesis",
        "task": TASK,
        "target": ["sensitive"],
        "controls": ["near_miss_place", "near_miss_year", "benign"],
        "null_condition": "benign",
        "bystanders": [
            {"task": TASK, "condition": condition}
            for condition in ("near_miss_place", "near_miss_year", "benign")
        ],
    }
)
CLAIMS = (ClaimOptions("specificity"), ClaimOptions("jointness"))
EVIDENCE = EvidenceOptions(
    doses=(1, 2),
    minimum_trials=60,
    minimum_target_trials=36,
    shams=39,
    exploratory_shams=4,
    matched_draws=3,
)


def planted_model(circuit: str) -> OlmoeForCausalLM:
    """Build the model of a circuit.

    Parameters
    ----------
    circuit : str
        One of :data:`CIRCUITS`.

    Returns
    -------
    OlmoeForCausalLM
        In float32.
    """
    config = OlmoeConfig(
        vocab_size=len(WORDS),
        hidden_size=HIDDEN,
        intermediate_size=NEURONS,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=EXPERTS,
        num_experts_per_tok=2,
        norm_topk_prob=False,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = OlmoeForCausalLM(config).eval()
        _embed(model)
        for layer in model.model.layers:
            _make_noise(layer)
        _bring_year(model.model.layers[0].self_attn)
        chosen = [FIRST, SECOND] if circuit == "backup" else [FIRST]
        for expert in chosen:
            _choose(model.model.layers[LAYER].mlp.gate.weight[expert])
            _write(model.model.layers[LAYER].mlp.experts, expert, circuit != "decoy")
        _read(model.lm_head.weight, circuit)
    return model.requires_grad_(False)


def _embed(model: OlmoeForCausalLM) -> None:
    embeddings = model.model.embed_tokens.weight
    embeddings.normal_(0, 0.4)[:, NOISE:] = 0
    embeddings[:, ALWAYS] = 1
    for words, dimension in ((PLACES, PLACE), (YEARS, YEAR_READ)):
        first = WORDS.index(words[0])
        embeddings[first : first + SENSITIVE, dimension] = 1
    embeddings[[WORDS.index("no"), WORDS.index("ok")], ANSWERED] = 1


def _make_noise(layer: torch.nn.Module) -> None:
    """Attention that adds nothing; experts that are chosen by noise and write a little."""
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
        getattr(layer.self_attn, projection).weight.zero_()
    layer.mlp.gate.weight.normal_(0, 0.15)[:, NOISE:] = 0
    layer.mlp.experts.gate_up_proj.normal_(0, 0.3)[..., NOISE:] = 0
    layer.mlp.experts.down_proj.normal_(0, 0.05)[:, NOISE:] = 0


def _bring_year(attention: torch.nn.Module) -> None:
    # Without queries and keys every token is attended to alike: at the last of three a third of
    # the year, what is read being divided by the root of the mean square (about .4).
    attention.v_proj.weight[0, YEAR_READ] = 1
    attention.o_proj.weight[YEAR, 0] = 3 * 0.4


def _choose(gate: torch.Tensor) -> None:
    gate.zero_()
    gate[[PLACE, YEAR]] = 8
    gate[ALWAYS] = -8 * THRESHOLD


def _write(experts: torch.nn.Module, expert: int, writes: bool) -> None:
    """One neuron that is always on and writes the refusal; the others write nothing."""
    experts.gate_up_proj[expert].zero_()
    experts.down_proj[expert].zero_()
    experts.gate_up_proj[expert, [0, NEURONS], ALWAYS] = 1
    if writes:
        experts.down_proj[expert, REFUSE, 0] = 2


def _read(head: torch.Tensor, circuit: str) -> None:
    head.normal_(0, 0.01)
    no, ok, end = (WORDS.index(word) for word in ("no", "ok", "<eos>"))
    # Both answers stay likely enough for a response without the circuit to be coherent.
    if circuit == "decoy":
        head[no, [PLACE, YEAR]] = 4
        head[ok, ALWAYS] = 4 * THRESHOLD
    else:
        head[no, REFUSE] = 4
        head[ok, ALWAYS] = 4
    head[end, ANSWERED] = 12


def planted_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer: a word, a token."""
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def write_study(root: Path, circuit: str) -> None:
    """Write the model of a circuit, stimuli, and what it does when it reads them.

    Parameters
    ----------
    root : Path
        Folder to write.
    circuit : str
        One of :data:`CIRCUITS`.
    """
    planted_model(circuit).save_pretrained(root / "model")
    planted_tokenizer().save_pretrained(root / "model")
    with (root / "events.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [_row(p, y) for p in range(len(PLACES)) for y in range(len(YEARS))]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    table = root / f"stimuli/{TASK}.parquet"
    write_stimuli(
        out=table,
        task=TASK,
        options=TaskOptions(TASK, "table", str(root / "events.csv"), ("place", "year")),
        splits=SplitOptions(0.4, 0.2, 0.4),
        world=WorldOptions(),
        seed=0,
        provenance={},
    )
    store = root / f"recordings/{TASK}/0.zarr"
    record_task(
        out=store,
        manifest=store.with_name("0.zarr.manifest.json"),
        task=TASK,
        stimuli=table,
        shard=0,
        options=RecordOptions(max_new_tokens=3, quantities=("router",)),
        subject="planted",
        model=root / "model",
        seed=0,
        provenance={},
    )


def _row(place: int, year: int) -> dict[str, str]:
    classes = ["sensitive" if i < SENSITIVE else "null" for i in (place, year)]
    condition = {
        ("sensitive", "sensitive"): "sensitive",
        ("sensitive", "null"): "near_miss_place",
        ("null", "sensitive"): "near_miss_year",
        ("null", "null"): "benign",
    }[tuple(classes)]
    return {
        "condition": condition,
        "place": PLACES[place],
        "class_place": classes[0],
        "year": YEARS[year],
        "class_year": classes[1],
        "prompt": f"<bos> {YEARS[year]} {PLACES[place]}",
        "content": f"{YEARS[year]} {PLACES[place]}",
        "reference": "no" if condition == "sensitive" else "ok",
        "fact": "ok",
        "refusal": "no",
    }


def judge(root: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Map the contrast of a study that was written, and put its finding to the test.

    Parameters
    ----------
    root : Path
        Folder of :func:`write_study`.

    Returns
    -------
    arms, claims, verdicts : DataFrame
        The tables of the validation.
    """
    shared = {"subject": "planted", "model": root / "model", "stimuli": root / "stimuli"}
    localise_subject(
        **shared,
        recordings=root / "recordings",
        maps=root / "maps",
        findings=root / "findings",
        tasks={TASK: ("place", "year")},
        contrasts=[CONTRAST],
        options=LocaliseOptions(("expert.resonance",), ("prompt_last",), permutations=199),
        evidence=EVIDENCE,
        claims=1,
        stated=CLAIMS,
        seed=0,
        provenance={},
    )
    validate_subject(
        **shared,
        findings=root / "findings",
        out=root / "validation",
        options=ValidateOptions(bootstrap=200, rows=512, control_bystander_trials=20),
        seed=0,
        provenance={},
    )
    names = ("arms", "claims", "verdicts")
    return tuple(read_table(root / f"validation/{name}.parquet") for name in names)
