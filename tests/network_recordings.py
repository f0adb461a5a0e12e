"""Random subjects of any size, recorded on events of the world: enough places to be exchanged."""

import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

from lmri.config import RecordOptions, SplitOptions, TaskOptions, WorldOptions
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.world import build_tokenizer, make_world


def random_subject(folder, *, seed=0, size=32, layers=2, experts=8):
    """A random mixture of experts that knows the words of the world, in Hugging Face layout."""
    tokenizer = build_tokenizer(make_world(0, "default"))
    configuration = OlmoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=size,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=experts,
        num_experts_per_tok=2,
        initializer_range=0.2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OlmoeForCausalLM(configuration)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_events(path):
    """Events of 15 places in 14 years to be selected on, of as many to be calibrated on."""
    write_stimuli(
        out=path,
        task="events",
        options=TaskOptions("events", "world"),
        splits=SplitOptions(0.25, 0.25, 0.5),
        world=WorldOptions(),
        seed=0,
        provenance={},
    )
    return path


def record_events(stimuli, model, folder, subject, quantities, shards=1):
    """Record both splits: ``<folder>/events/<shard>.zarr``."""
    for shard in range(shards):
        store = folder / f"events/{shard}.zarr"
        record_task(
            out=store,
            manifest=store.with_name(f"{shard}.zarr.manifest.json"),
            subject=subject,
            model=model,
            task="events",
            stimuli=stimuli,
            shard=shard,
            options=RecordOptions(
                max_new_tokens=1, shards=shards, quantities=quantities, full=("router",)
            ),
            seed=0,
            provenance={},
        )
