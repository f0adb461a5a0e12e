"""Where heads look under plans: alike, less or more at the first token, or as they are told."""

from __future__ import annotations

import math

import torch

from lmri.intervene.patterns import uniform_pattern
from lmri.intervene.session import Session
from lmri.intervene.tables import ExpertTable


def changed_looking(
    session: Session, layer: int, weights: torch.Tensor, seen: torch.Tensor
) -> torch.Tensor:
    """Change the patterns of a layer's heads, each row of the batch by its own plan.

    Parameters
    ----------
    session : Session
        Plans, and which of them each row follows.
    layer : int
        The layer.
    weights : Tensor of shape (batch, heads, tokens, keys)
        Attention weights.
    seen : Tensor of shape (batch or 1, 1, tokens, keys), bool
        Keys that may be seen.

    Returns
    -------
    Tensor of shape (batch, heads, tokens, keys)
        The weights that are used instead; the same bits where no plan acts.
    """
    positions = session.positions(weights.device, weights.shape[2])  # (batch or 1, tokens)
    for table in session.plans.looking:
        if table.layer == layer:
            named = table.chosen.to(weights.device)[session.rows.to(weights.device)]
            acts = named[:, :, None, None]  # (batch, heads, 1, 1)
            if table.phase != "both":
                acts = acts & session.acts(table.phase, positions)[:, None, :, None]
            weights = torch.where(acts, _pattern(session, table, weights, seen, positions), weights)
    return weights


def _pattern(
    session: Session,
    table: ExpertTable,
    weights: torch.Tensor,
    seen: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    if table.mode == "uniform":
        return uniform_pattern(weights, seen)
    values = table.values.to(weights)[session.rows.to(weights.device)]  # (batch, heads, depth)
    if table.mode == "sink":
        return reweighted_sink(weights, values[..., 0], positions)
    return told_pattern(weights, values, positions)


def reweighted_sink(
    weights: torch.Tensor, factors: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Multiply the attention to the first token, and scale all of it so that its sum stays.

    ``A_0 <- f A_0 / (1 + (f - 1) A_0 / s)``, the others ``A_k / (1 + (f - 1) A_0 / s)`` with ``s``
    the sum of the row. A token that can see nothing but the first is left alone.

    Parameters
    ----------
    weights : Tensor of shape (batch, heads, tokens, keys)
        Attention weights.
    factors : Tensor of shape (batch or 1, heads)
        The factor f of every head.
    positions : Tensor of shape (batch or 1, tokens), int64
        Positions of the tokens in their texts; the keys end with them.

    Returns
    -------
    Tensor of shape (batch, heads, tokens, keys)
        The new weights; the same bits where f is 1 or the first token is not seen.
    """
    is_first = _positions_of_keys(weights, positions) == 0  # (batch or 1, keys)
    first = is_first[:, None, None, :]
    factors = factors[:, :, None, None]
    at_first = weights.masked_fill(~first, 0.0).sum(-1, keepdim=True)
    total = weights.sum(-1, keepdim=True)
    scale = 1 + (factors - 1) * at_first / total.clamp_min(torch.finfo(weights.dtype).tiny)
    changed = torch.where(first, weights * factors, weights) / scale
    # With a factor of 0 nothing may be left to look at.
    alone = at_first >= total * (1 - torch.finfo(weights.dtype).eps)
    return torch.where(alone, weights, changed)


def told_pattern(
    weights: torch.Tensor, values: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Replace the patterns of the first T tokens by given ones.

    Parameters
    ----------
    weights : Tensor of shape (batch, heads, tokens, keys)
        Attention weights.
    values : Tensor of shape (batch or 1, heads, T * T)
        Weights of tokens over tokens, by their positions in the text.
    positions : Tensor of shape (batch or 1, tokens), int64
        Positions of the tokens in their texts; the keys end with them.

    Returns
    -------
    Tensor of shape (batch, heads, tokens, keys)
        The new weights; those of tokens from T on stay.
    """
    size = math.isqrt(values.shape[-1])
    batch = weights.shape[0]
    keys = _positions_of_keys(weights, positions).expand(batch, -1)  # (batch, keys)
    queries = positions.expand(batch, -1)  # (batch, tokens)
    square = values.view(*values.shape[:2], size, size).expand(batch, -1, -1, -1)
    rows = queries.clamp(0, size - 1)[:, None, :, None].expand(-1, square.shape[1], -1, size)
    columns = keys.clamp(0, size - 1)[:, None, None, :]
    told = square.gather(2, rows)  # (batch, heads, tokens, T)
    told = told.gather(3, columns.expand(-1, told.shape[1], told.shape[2], -1))
    there = ((keys >= 0) & (keys < size))[:, None, None, :]
    inside = ((queries >= 0) & (queries < size))[:, None, :, None]
    return torch.where(inside, told * there, weights)


def _positions_of_keys(weights: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Positions of the keys, (batch or 1, keys): they end with the last token of the pass."""
    keys = torch.arange(weights.shape[-1], device=weights.device)
    return positions[:, -1:] + 1 - weights.shape[-1] + keys
