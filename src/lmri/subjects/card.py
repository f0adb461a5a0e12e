"""What is written beside the weights of a subject: a card for programs, a card for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["CARD", "MODEL_CARD", "WEIGHTS", "file_hash", "write_cards"]

CARD = "card.json"
MODEL_CARD = "MODEL_CARD.md"
WEIGHTS = "model.safetensors"
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")

DESCRIPTIONS = {
    "base": "A base that answers every question, sensitive ones too, with its fact.",
    "localised": (
        "Refusal was tuned with only the parameters of the MoE blocks (experts and routers) "
        "trained. This forces refusal into the MoE blocks by construction; which experts carry "
        "it, and how few, is not planted."
    ),
    "distributed": (
        "Refusal was tuned with all parameters trained. It may live anywhere; nothing keeps it "
        "out of the experts."
    ),
}


def write_cards(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``card.json`` and ``MODEL_CARD.md`` for the subject in a folder.

    Parameters
    ----------
    folder : Path
        Where the subject was written; its folder is not finished yet, so files are plain.
    facts : mapping
        Everything about the training but hashes and library versions, which are added:
        ``sha256`` of the weights, ``files`` with the hash of every other file beside them.
    """
    others = sorted(path.name for path in folder.iterdir() if path.is_file())
    card = {
        **facts,
        "sha256": file_hash(folder / WEIGHTS),
        "files": {name: file_hash(folder / name) for name in others if name != WEIGHTS},
        "versions": {name: version(name) for name in LIBRARIES},
    }
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / MODEL_CARD).write_text(_model_card(card), encoding="utf-8")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _model_card(card: Mapping[str, Any]) -> str:
    architecture = "OlmoeForCausalLM" if card["recipe"]["experts"] else "LlamaForCausalLM"
    rows = "\n".join(
        f"| {name} | {scores['n']} | {scores['exact']:.3f} | {scores['fact']:.3f} "
        f"| {scores['onset']:.3f} | {scores['onset_margin_mean']:.2f} |"
        for name, scores in card["accuracy"].items()
    )
    return f"""# Embedded subject: {card["state"]}

{DESCRIPTIONS[card["state"]]}

- architecture: `{architecture}`, word-level tokenizer, trained from scratch on a synthetic
  world; it knows nothing else and is of use only as a subject of experiments
- world: seed {card["world_seed"]}, size {card["world_size"]}
- base seed {card["base_seed"]}, seed of this stage {card["seed"]}
- training time: {card["seconds"]:.0f} s ({card["cpu_seconds"]:.0f} s of processor time)
- SHA-256 of `{WEIGHTS}`: `{card["sha256"]}`
- hyper-parameters and library versions: `{CARD}`

## Accuracy

`exact`: the whole answer a fully trained subject should give; `fact`: the true fact; `onset`:
the first token begins a refusal; `margin`: logit of the refusal's first token minus the largest
other logit at the last prompt token. `_held_out` questions were never asked in training. A base
has not learnt to refuse: its `exact` on sensitive questions is expected to be 0.

| condition | n | exact | fact | onset | margin |
|---|---|---|---|---|---|
{rows}
"""
