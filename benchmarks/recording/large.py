"""What recording OLMoE-1B-7B costs on a GPU: tokens a second, memory, and the size of the store.

The model is built from its configuration with random bfloat16 weights, nothing is fetched. It
answers conversations of random words under a chat template, and is recorded as
``config/studies/olmoe-1b-7b.yaml`` says: generation, then one pass over prompt and response, files
and hashes included. One batch before is not counted. ``--tiny`` shows on a CPU that it works.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import OlmoeConfig

from benchmarks.memory import peak_memory
from benchmarks.recording.subjects import FIRST_WORD, make_model, make_tokenizer
from benchmarks.rows import Row, parser, printed, report
from lmri.anatomy import Subject, describe, parameter_counts, read_template, render_trials
from lmri.config import (
    RecordOptions,
    SplitOptions,
    TaskOptions,
    TemplateOptions,
    WorldOptions,
    load_study,
)
from lmri.record.generation import respond_to_trials
from lmri.record.phases import phase_names
from lmri.record.scan import scan
from lmri.stimuli import make_stimuli
from lmri.store import RecordingWriter, manifest_path, write_manifest

STUDY = Path(__file__).parents[2] / "config/studies/olmoe-1b-7b.yaml"
CHAT = (
    "{% for m in messages %}<begin> w3 {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<begin> w4{% endif %}"
)
"""Template whose marks are words of the tokenizer."""

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@dataclass(frozen=True)
class Size:
    """What is recorded.

    Attributes
    ----------
    config : OlmoeConfig
        Of the model.
    trials : int
        Conversations.
    shortest, longest : int
        Words of a message, drawn between them.
    response : int
        Tokens of a response, at most; a random model hardly ever ends one.
    device : str
        Where.
    """

    config: OlmoeConfig
    trials: int
    shortest: int
    longest: int
    response: int
    device: str


def large(trials: int) -> Size:
    """Return OLMoE-1B-7B and conversations of usual lengths."""
    config = OlmoeConfig(intermediate_size=1024, **IDS)
    return Size(config, trials, shortest=64, longest=512, response=128, device="cuda")


def tiny() -> Size:
    """Return a size that shows on a CPU that the benchmark works."""
    config = OlmoeConfig(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=128,
        **IDS,
    )
    return Size(config, trials=6, shortest=8, longest=24, response=8, device="cpu")


def make_subject(size: Size) -> Subject:
    """Build the model with random weights.

    Parameters
    ----------
    size : Size
        With its configuration.

    Returns
    -------
    Subject
        In bfloat16, on its device.
    """
    model = make_model(size.config, dtype=torch.bfloat16, device=size.device)
    tokenizer = make_tokenizer(size.config.vocab_size)
    tokenizer.chat_template = CHAT
    model = model.eval().requires_grad_(False)
    return Subject("olmoe-1b-7b", model, tokenizer, describe(model))


def conversations(folder: Path, size: Size) -> pd.DataFrame:
    """Make trials of random words.

    Parameters
    ----------
    folder : Path
        Where their table is written.
    size : Size
        How many, and how long.

    Returns
    -------
    DataFrame
        As the stage ``stimuli`` makes them.
    """
    rng = np.random.default_rng(0)
    lengths = rng.integers(size.shortest, size.longest + 1, size.trials)
    rows = []
    for number, length in enumerate(lengths):
        words = rng.integers(FIRST_WORD, size.config.vocab_size, length)
        prompt = " ".join(f"w{word}" for word in words)
        said = {"trial": f"t{number}", "condition": "chat", "reference": f"w{words[0]}"}
        rows.append({**said, "prompt": prompt, "entity": f"e{number}"})
    path = folder / "conversations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    chat = TemplateOptions(kind="chat")
    return make_stimuli(
        task="conversations",
        options=TaskOptions(
            "conversations", "table", path=str(path), carriers=("entity",), template=chat
        ),
        splits=SplitOptions(0.4, 0.3, 0.3),
        world=WorldOptions(),
        seed=0,
    )


def record(
    subject: Subject, trials: pd.DataFrame, options: RecordOptions, folder: Path
) -> dict[str, float]:
    """Answer and record trials.

    Parameters
    ----------
    subject : Subject
        The subject.
    trials : DataFrame
        The trials.
    options : RecordOptions
        What is recorded.
    folder : Path
        An empty folder.

    Returns
    -------
    dict
        Seconds of ``answering`` and ``recording``, ``generated`` and ``recorded`` tokens,
        ``bytes`` of the store.
    """
    template = read_template(trials["template"].iloc[0])
    phases = phase_names(subject.tokenizer, template, trials["prompt"].iloc[0])
    prompts = render_trials(subject.tokenizer, trials)
    began = time.perf_counter()
    scored, texts = respond_to_trials(subject, trials, prompts, options, 0)
    answered = time.perf_counter()
    store = folder / "0.zarr"
    with RecordingWriter(store, {}, compression=options.compression) as writer:
        found = scan(subject, scored, texts, phases, options, writer)
        arrays = writer.close()
    write_manifest(
        store, manifest_path(store), hashes=writer.hashes, arrays=arrays, **found.to_dict()
    )
    return {
        "answering": answered - began,
        "recording": time.perf_counter() - answered,
        "generated": sum(len(text.response) for text in texts),
        "recorded": found.tokens,
        "bytes": sum(path.stat().st_size for path in store.rglob("*") if path.is_file()),
    }


def measure(size: Size) -> Iterator[Row]:
    """Build the model, record, and count.

    Parameters
    ----------
    size : Size
        How much.

    Yields
    ------
    Row
        One for each figure; none has a bar.
    """
    subject = make_subject(size)
    weights, _ = parameter_counts(subject.model, subject.anatomy)
    options = replace(load_study(STUDY).record, max_new_tokens=size.response)
    on_gpu = size.device == "cuda"
    with tempfile.TemporaryDirectory() as name:
        trials = conversations(Path(name), size)
        record(subject, trials.head(options.rows), options, Path(name) / "before")
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        found = record(subject, trials, options, Path(name) / "measured")
    what = f"{size.trials} trials, {found['recorded']} tokens"
    yield printed("parameters", weights / 1e9, "G")
    yield printed("answering", found["generated"] / found["answering"], "tokens/s")
    yield printed(f"recording {what}", found["recorded"] / found["recording"], "tokens/s")
    whole = found["answering"] + found["recording"]
    yield printed("both", found["recorded"] / whole, "tokens/s")
    if on_gpu:
        name = torch.cuda.get_device_name()
        yield printed(f"peak memory of {name}", torch.cuda.max_memory_allocated() / 1e9, "GB")
    yield printed("peak memory of the process", peak_memory() / 1e3, "GB")
    yield printed("store", found["bytes"] / 1e6, "MB")


def main() -> int:
    """Measure and report."""
    made = parser("recording.large", "What recording OLMoE-1B-7B costs on a GPU.")
    made.add_argument("--trials", type=int, default=100, help="conversations")
    made.add_argument("--tiny", action="store_true", help="a small model on a CPU")
    arguments = made.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        print(
            "benchmarks.recording.large must run where torch finds a CUDA device. Found none: "
            "--tiny shows on a CPU that it works.",
            file=sys.stderr,
        )
        return 2
    size = tiny() if arguments.tiny else large(arguments.trials)
    return report(list(measure(size)), arguments)


if __name__ == "__main__":
    sys.exit(main())
