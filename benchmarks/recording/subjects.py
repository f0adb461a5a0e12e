"""Random models of two architectures and the batches of tokens that every side reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    OlmoeConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from lmri.anatomy import pad, similar_length_batches

BATCHES = "batches.npz"
FIRST_WORD = 3
"""Ids below it are the padding, the beginning and the end."""


def configuration(architecture: str) -> PretrainedConfig:
    """Return the configuration of a model.

    Parameters
    ----------
    architecture : {"olmoe", "gpt2"}
        ``olmoe`` has 8 layers of hidden size 256, 32 experts of 128 neurons of which 4 are chosen,
        and 4096 words; ``gpt2`` is as large as GPT-2 small.
    """
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if architecture == "gpt2":
        return GPT2Config(**ids)
    return OlmoeConfig(
        hidden_size=256,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        num_experts=32,
        num_experts_per_tok=4,
        intermediate_size=128,
        vocab_size=4096,
        max_position_embeddings=1024,
        **ids,
    )


def save_model(folder: Path, architecture: str, seed: int = 0, **changes: int) -> None:
    """Save a random model with a tokenizer of as many words.

    Parameters
    ----------
    folder : Path
        Where to.
    architecture : str
        See :func:`configuration`.
    seed : int
        Seed of the weights.
    **changes
        Of the configuration.
    """
    config = configuration(architecture)
    config.update(changes)
    make_model(config, seed).save_pretrained(folder)
    make_tokenizer(config.vocab_size).save_pretrained(folder)


def make_model(
    config: PretrainedConfig, seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> PreTrainedModel:
    """Make a random model.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        Its configuration.
    seed : int
        Seed of the weights.
    dtype : torch.dtype
        Of the weights.
    device : str
        Where they are made.

    Returns
    -------
    transformers.PreTrainedModel
        With routers that choose clearly.
    """
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                weight.mul_(20)  # random routers choose by near-ties otherwise
    return model


def make_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """Make a tokenizer of the words w3, w4 and so on, beside padding, beginning and end.

    Parameters
    ----------
    size : int
        Tokens in all.

    Returns
    -------
    transformers.PreTrainedTokenizerFast
        The tokenizer.
    """
    words = {"<pad>": 0, "<begin>": 1, "<end>": 2}
    words |= {f"w{i}": i for i in range(FIRST_WORD, size)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<begin>",
        eos_token="<end>",
        unk_token="<pad>",
    )


def save_batches(
    folder: Path, trials: int, shortest: int, longest: int, rows: int, padding: float = 0.1
) -> int:
    """Save batches of random tokens, made as the recorder makes its own.

    Parameters
    ----------
    folder : Path
        That of a saved model.
    trials : int
        How many rows in all.
    shortest, longest : int
        Tokens of a row, drawn between them.
    rows : int
        Rows of a batch, at most.
    padding : float
        Share of a batch that may be padding.

    Returns
    -------
    int
        Tokens in all, without padding.
    """
    rng = np.random.default_rng(trials)
    words = AutoConfig.from_pretrained(folder).vocab_size
    lengths = rng.integers(shortest, longest + 1, trials)
    texts = [rng.integers(FIRST_WORD, words, length) for length in lengths]
    saved = {}
    for number, batch in enumerate(similar_length_batches(lengths, rows, padding)):
        ids, real = pad([texts[row] for row in batch], 0, left=False)
        saved |= {f"{number:05d}.ids": ids.numpy(), f"{number:05d}.lengths": real.sum(1).numpy()}
    np.savez(folder / BATCHES, **saved)
    return int(lengths.sum())


def read_batches(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read what :func:`save_batches` saved.

    Parameters
    ----------
    folder : Path
        That of the model.

    Returns
    -------
    list of (ndarray of shape (rows, tokens), ndarray of shape (rows,))
        Token ids padded on the right, and the lengths of the rows, batch after batch.
    """
    with np.load(folder / BATCHES) as saved:
        numbers = sorted({name.partition(".")[0] for name in saved})
        return [(saved[f"{n}.ids"], saved[f"{n}.lengths"]) for n in numbers]
