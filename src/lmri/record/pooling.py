"""Pooling: activity of the tokens of each phase of a trial, reduced to a few statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch

STATISTICS = ("mean", "last", "sum", "sum_squares", "count")


def pool(values: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Pool activity over the tokens of each phase.

    Parameters
    ----------
    values : Tensor of shape (batch, tokens, ...)
        Activity.
    masks : Tensor of shape (batch, n_phases, tokens), bool
        Tokens of each phase.

    Returns
    -------
    Tensor of shape (batch, n_phases, n_statistics, ...), float32
        In the order of the phases and of :data:`STATISTICS`. A phase without a token (a prompt
        that is all content has no ``system``) has the mean and last NaN and the sums and count 0.
        A value that is not finite shows in the phases of its token only.
    """
    flat = values.double().reshape(*values.shape[:2], -1)  # (batch, tokens, features)
    weights = masks.double()  # sums in float64: their order then does not show in float32
    total = weights @ flat  # (batch, n_phases, features)
    squares = weights @ flat.square()
    if not torch.isfinite(total).all():
        total, squares = _sums_of_own_tokens(flat, masks)
    count = weights.sum(-1, keepdim=True)  # (batch, n_phases, 1)
    positions = torch.arange(masks.shape[-1], device=masks.device)
    last = (masks * positions).amax(-1)  # (batch, n_phases)
    final = flat.gather(1, last.unsqueeze(-1).expand(-1, -1, flat.shape[-1]))
    final = final.where(count > 0, torch.nan)
    pooled = torch.stack([total / count, final, total, squares, count.expand_as(total)], dim=2)
    return pooled.float().view(*pooled.shape[:3], *values.shape[2:])


@dataclass(frozen=True)
class ExpertPools:
    """Neurons of one layer's experts, pooled over the tokens that were routed to them.

    Attributes
    ----------
    row : Tensor of shape (n_pools,), int64
        Row of the batch.
    phase : Tensor of shape (n_pools,), int64
        Position of the phase.
    expert : Tensor of shape (n_pools,), int64
        The expert.
    count : Tensor of shape (n_pools,), int64
        Tokens of the phase that were routed to it.
    total, squares : Tensor of shape (n_pools, expert_size), float32
        Sums of the neurons and of their squares over these tokens.
    """

    row: torch.Tensor
    phase: torch.Tensor
    expert: torch.Tensor
    count: torch.Tensor
    total: torch.Tensor
    squares: torch.Tensor


def pool_experts(
    neurons: torch.Tensor, ids: torch.Tensor, masks: torch.Tensor, experts: int
) -> ExpertPools:
    """Pool the neurons of chosen experts by row, phase and expert; only pools with a token exist.

    With the count of tokens of a phase both means follow: ``total / count`` over the tokens that
    were routed to the expert, ``total / tokens`` with 0 for the others.

    Parameters
    ----------
    neurons : Tensor of shape (batch * tokens, top_k, expert_size)
        In the order of the router's slots.
    ids : Tensor of shape (batch * tokens, top_k)
        The chosen experts.
    masks : Tensor of shape (batch, n_phases, tokens), bool
        Tokens of each phase.
    experts : int
        Experts of the layer; an id equal to it is an empty slot.

    Returns
    -------
    ExpertPools
        In order of row, phase and expert.
    """
    _, phases, tokens = masks.shape
    row, phase, position = masks.nonzero(as_tuple=True)
    token = row * tokens + position  # (members,)
    chosen = ids[token]  # (members, top_k)
    keys = ((row * phases + phase).unsqueeze(1) * (experts + 1) + chosen).reshape(-1)
    pools, member_of = keys.unique(return_inverse=True)
    # Pools one after another, members in order: each is a sum over a run, the same on any device.
    order = member_of.argsort(stable=True)
    counts = torch.bincount(member_of, minlength=len(pools))
    slots = torch.arange(ids.shape[1], device=ids.device).expand_as(chosen).reshape(-1)[order]
    members = token.repeat_interleave(ids.shape[1])[order]
    values = neurons[members, slots].double()  # (pairs, expert_size)
    total = torch.segment_reduce(values, "sum", lengths=counts, axis=0, unsafe=True)
    squares = torch.segment_reduce(values.square(), "sum", lengths=counts, axis=0, unsafe=True)
    used = pools % (experts + 1) < experts
    return ExpertPools(
        row=(pools // (phases * (experts + 1)))[used].cpu(),
        phase=(pools // (experts + 1) % phases)[used].cpu(),
        expert=(pools % (experts + 1))[used].cpu(),
        count=counts[used].cpu(),
        total=total[used].float().cpu(),
        squares=squares[used].float().cpu(),
    )


def _sums_of_own_tokens(
    flat: torch.Tensor, masks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    # 0 × inf is not 0: a product with the mask would spread a value to every phase.
    sums = [flat.where(mask.unsqueeze(-1), 0.0) for mask in masks.unbind(1)]
    return (
        torch.stack([part.sum(1) for part in sums], 1),
        torch.stack([part.square().sum(1) for part in sums], 1),
    )
