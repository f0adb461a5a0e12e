"""Pooling: activity of the tokens of each phase of a trial, reduced to a few statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

STATISTICS = ("mean", "last", "sum", "sum_squares", "count")

CONVERTED_AT_ONCE = 1_048_576
"""Values in float64 at a time: 8 MB, which stays in a processor's cache."""

CONVERTED_ON_DEVICE = 33_554_432
"""The same on other devices, 256 MB: few large products are faster there."""


def pool(values: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Pool one variable over the tokens of each phase, see :class:`Pooling`.

    Parameters
    ----------
    values : Tensor of shape (batch, tokens, ...)
        Activity.
    masks : Tensor of shape (batch, n_phases, tokens), bool
        Tokens of each phase.

    Returns
    -------
    Tensor of shape (batch, n_phases, n_statistics, ...), float32
        In the order of the phases and of :data:`STATISTICS`.
    """
    return Pooling(masks)(values)


class Pooling:
    """Pools activity over the tokens of each phase of the rows of a batch.

    Sums are made in float64, so that their order does not show in float32, of some rows and
    features at a time: what is converted then stays in a processor's cache, and its memory is used
    again. New memory costs more than the arithmetic.

    Parameters
    ----------
    masks : Tensor of shape (batch, n_phases, tokens), bool
        Tokens of each phase.
    """

    def __init__(self, masks: torch.Tensor) -> None:
        count = masks.sum(-1, keepdim=True)  # (batch, n_phases, 1)
        positions = torch.arange(masks.shape[-1], device=masks.device)
        self._count = count.double()
        self._last = (masks * positions).amax(-1, keepdim=True)  # (batch, n_phases, 1)
        self._none = count == 0 if bool((count == 0).any()) else None
        # What is said of one token needs no sum: only the other phases do.
        self._summed = (count > 1).any(0).flatten().nonzero().flatten()
        self._masks = masks[:, self._summed]
        self._weights = self._masks.double()
        self._at_once = CONVERTED_AT_ONCE if masks.device.type == "cpu" else CONVERTED_ON_DEVICE
        self._scratch = self._weights.new_empty(0)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Pool one variable.

        Parameters
        ----------
        values : Tensor of shape (batch, tokens, ...)
            Activity.

        Returns
        -------
        Tensor of shape (batch, n_phases, n_statistics, ...), float32
            In the order of the phases and of :data:`STATISTICS`. A phase without a token (a prompt
            that is all content has no ``system``) has the mean and last NaN and the sums and count
            0. A value that is not finite shows in the phases of its token only.
        """
        flat = values.reshape(*values.shape[:2], -1)  # (batch, tokens, features)
        shape = (*self._count.shape[:2], len(STATISTICS), flat.shape[-1])
        pooled = torch.empty(shape, dtype=torch.float32, device=flat.device)
        mean, last, total, squares, count = pooled.unbind(2)
        last.copy_(flat.gather(1, self._last.expand(-1, -1, flat.shape[-1])))
        if self._none is not None:
            last.masked_fill_(self._none, torch.nan)
        mean.copy_(last)
        total.copy_(last if self._none is None else last.masked_fill(self._none, 0.0))
        torch.mul(total, total, out=squares)
        count.copy_(self._count.expand_as(count))
        sums = self._sums(flat)  # (batch, n_summed, 2 * features)
        if not math.isfinite(sums.sum()):
            sums = self._sums_of_own_tokens(flat)
        once, squared = sums.split(flat.shape[-1], dim=-1)
        mean.index_copy_(1, self._summed, (once / self._count[:, self._summed]).float())
        total.index_copy_(1, self._summed, once.float())
        squares.index_copy_(1, self._summed, squared.float())
        return pooled.view(*shape[:3], *values.shape[2:])

    def _sums(self, flat: torch.Tensor) -> torch.Tensor:
        """Sums of the values, and after them of their squares."""
        batch, tokens, features = flat.shape
        pair = 2 * tokens
        columns = min(features, max(1, self._at_once // pair))
        rows = min(batch, max(1, self._at_once // (pair * columns)))
        parts = []
        for values, weights in zip(flat.split(rows), self._weights.split(rows), strict=True):
            sums = [weights @ self._with_squares(part) for part in values.split(columns, -1)]
            parts.append(sums[0] if len(sums) == 1 else _by_kind(sums))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _with_squares(self, values: torch.Tensor) -> torch.Tensor:
        rows, tokens, features = values.shape
        size = 2 * values.numel()
        if size > len(self._scratch):
            self._scratch = self._scratch.new_empty(size)
        both = self._scratch[:size].view(rows, tokens, 2 * features)
        once, squared = both.split(features, dim=-1)
        once.copy_(values)
        torch.mul(once, once, out=squared)
        return both

    def _sums_of_own_tokens(self, flat: torch.Tensor) -> torch.Tensor:
        # 0 × inf is not 0: a product with the mask would spread a value to every phase.
        own = [flat.double().where(mask.unsqueeze(-1), 0.0) for mask in self._masks.unbind(1)]
        sums = [torch.cat([part.sum(1), part.square().sum(1)], dim=-1) for part in own]
        return torch.stack(sums, dim=1)


def _by_kind(parts: list[torch.Tensor]) -> torch.Tensor:
    """Put the features of all parts before their squares."""
    halves = [part.chunk(2, dim=-1) for part in parts]
    return torch.cat([half for kind in zip(*halves, strict=True) for half in kind], dim=-1)


def all_finite(values: torch.Tensor) -> bool:
    """Tell whether every value is finite.

    Parameters
    ----------
    values : Tensor, float32 or narrower
        The sum of finite ones is finite in float64; it is made ten times faster than one test
        for each.
    """
    return math.isfinite(values.sum(dtype=torch.float64))


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
