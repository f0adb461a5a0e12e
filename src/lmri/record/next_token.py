"""What a subject expects next: log-probability of the next token, and entropy."""

from __future__ import annotations

import torch
from torch import nn

LOGITS_AT_ONCE = 32_000_000
"""Logits held at a time: 128 MB in float32."""

ROWS_AT_ONCE = 16
"""Rows of logits reduced at a time: few enough to stay in a processor's cache."""


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
    parts = [
        _reduce(vocabulary_logits(model, head(rows)), targets)
        for rows, targets in zip(states.split(step), following.split(step), strict=True)
    ]
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def vocabulary_logits(model: nn.Module, products: torch.Tensor) -> torch.Tensor:
    """Apply what some families do to the output of their last projection.

    Parameters
    ----------
    model : torch.nn.Module
        Causal language model of transformers.
    products : Tensor of shape (n_tokens, vocabulary)
        Output of its projection to the vocabulary.

    Returns
    -------
    Tensor of shape (n_tokens, vocabulary)
        Logits: capped in Gemma, scaled in Granite.
    """
    cap = getattr(model.config, "final_logit_softcapping", None)
    if cap is not None:
        products = cap * torch.tanh(products / cap)
    return products / getattr(model.config, "logits_scaling", 1.0)


def _reduce(logits: torch.Tensor, following: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = logits.gather(1, following.unsqueeze(1)).squeeze(1).float()
    totals, means = [], []
    for rows in logits.split(ROWS_AT_ONCE):
        values = rows.float()
        top = values.max(dim=1, keepdim=True).values
        shifted = values - top
        weights = shifted.exp()
        total = weights.sum(1)
        means.append((weights * shifted).sum(1) / total + top.squeeze(1))
        totals.append(total.log() + top.squeeze(1))
    log_total = torch.cat(totals)
    # -Σ p log p with log p = z - log Σ exp z
    return chosen - log_total, (log_total - torch.cat(means)).clamp_min(0.0)
