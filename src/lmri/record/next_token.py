"""What a subject expects next: log-probability of the next token, and entropy."""

from __future__ import annotations

import torch
from torch import nn

from lmri.anatomy import vocabulary_logits
from lmri.record.reductions import load_reductions, reads

LOGITS_AT_ONCE = 32_000_000
"""Logits held at a time: 128 MB in float32."""

REDUCED_AT_ONCE = 131_072
"""Logits reduced at a time on a processor: 512 kB, which stays in its cache."""


def next_token_statistics(
    model: nn.Module, states: torch.Tensor, following: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of the token that follows, and entropy of the next token, per token.

    Parameters
    ----------
    model : torch.nn.Module
        Causal language model of transformers.
    states : Tensor of shape (n_tokens, hidden)
        Last hidden states, after the final normalisation.
    following : Tensor of shape (n_tokens,), int64
        The token after each.

    Returns
    -------
    log_probability, entropy : Tensor of shape (n_tokens,), float32
        Both in nats.
    """
    head = model.get_output_embeddings()
    step = max(1, LOGITS_AT_ONCE // model.config.vocab_size)
    parts = []
    for rows, targets in zip(states.split(step), following.split(step), strict=True):
        logits = vocabulary_logits(model, head(rows))
        parts.append(_reduce(logits, targets.to(logits.device)))
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def _reduce(logits: torch.Tensor, following: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if reads(logits) and (reductions := load_reductions()) is not None:
        return reductions.next_token(logits, following)
    on_processor = logits.device.type == "cpu"
    step = max(1, REDUCED_AT_ONCE // logits.shape[1]) if on_processor else len(logits)
    parts = [
        _reduce_rows(rows.float(), targets)
        for rows, targets in zip(logits.split(step), following.split(step), strict=True)
    ]
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def _reduce_rows(
    logits: torch.Tensor, following: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    shifted = logits - logits.amax(dim=1, keepdim=True)
    weights = shifted.softmax(dim=1)
    # The largest logit is now 0, and the logarithm of its probability -log Σ exp z.
    log_total = -weights.amax(dim=1).log()
    chosen = shifted.gather(1, following.unsqueeze(1)).squeeze(1)
    # -Σ p log p with log p = z - log Σ exp z
    entropy = log_total - weights.mul_(shifted).sum(dim=1)
    return chosen - log_total, entropy.clamp_min(0.0)
