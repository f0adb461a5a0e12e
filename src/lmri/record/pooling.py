"""Pooling: activity of the tokens of each phase of a trial, reduced to a few statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lmri.record.reductions import load_reductions, reads

STATISTICS = ("mean", "last", "sum", "sum_squares", "count")

SUM = STATISTICS.index("sum")

POOLED_AT_ONCE = 524_288
"""Values converted at a time on a processor: 4 MB in float64."""


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

    On a processor by :meth:`lmri.record.reductions.Reductions.pool`, all sums in float64. Else, and
    where that is not to be had, sums are products with the masks, in float64: large values that
    cancel leave the small ones. Squares do not cancel, and float32 is twice as fast. Both are made
    of some rows at a time, in memory that is used again.

    Parameters
    ----------
    masks : Tensor of shape (batch, n_phases, tokens), bool
        Tokens of each phase.

    Attributes
    ----------
    shape : Size
        (batch, n_phases, n_statistics): what comes before a variable's own dimensions.
    """

    def __init__(self, masks: torch.Tensor) -> None:
        count = masks.sum(-1, keepdim=True)  # (batch, n_phases, 1)
        positions = torch.arange(masks.shape[-1], device=masks.device)
        self.shape = torch.Size((*masks.shape[:2], len(STATISTICS)))
        self._reductions = load_reductions() if masks.device.type == "cpu" else None
        if self._reductions is not None:
            self._starts = torch.nn.functional.pad(count.flatten().cumsum(0), (1, 0))
            self._tokens = masks.nonzero()[:, 2].int()
        self._count = count.float()
        last = (masks * positions).amax(-1)  # (batch, n_phases)
        rows = torch.arange(len(masks), device=masks.device).unsqueeze(1)
        self._last = (rows * masks.shape[-1] + last).flatten()  # in rows one after another
        self._none = count == 0 if bool((count == 0).any()) else None
        # What is said of one token needs no sum: only the other phases do.
        self._summed = (count > 1).any(0).flatten().nonzero().flatten()
        self._masks = masks[:, self._summed]
        self._weights = self._masks.float()
        self._weights64 = self._masks.double()
        self._scratch = self._weights64.new_empty(0)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Pool one variable.

        Parameters
        ----------
        values : Tensor of shape (batch, tokens, ...)
            Activity.

        Returns
        -------
        Tensor of shape (batch, n_phases, n_statistics, ...), float32
            See :meth:`fill`.
        """
        shape = (*self.shape, *values.shape[2:])
        out = torch.empty(shape, dtype=torch.float32, device=values.device)
        self.fill(values, out)
        return out

    def fill(self, values: torch.Tensor, out: torch.Tensor) -> bool:
        """Pool one variable into memory that is there.

        Parameters
        ----------
        values : Tensor of shape (batch, tokens, ...)
            Activity.
        out : Tensor of shape (batch, n_phases, n_statistics, ...), float32
            Where to, in the order of the phases and of :data:`STATISTICS`; its last dimensions lie
            in memory as those of the values do. A phase without a token (a prompt that is all
            content has no ``system``) has the mean and last NaN and the sums and count 0. A value
            that is not finite shows in the phases of its token only.

        Returns
        -------
        bool
            Whether all sums are finite. False also where finite ones add up to what is not: then
            look at each.
        """
        flat = values.float().reshape(*values.shape[:2], -1)  # (batch, tokens, features)
        statistics = out.view(*self.shape, -1)
        if self._reductions is not None and reads(flat, statistics):
            return self._reductions.pool(flat, self._starts, self._tokens, statistics)
        self._fill_by_products(flat, statistics)
        return all_finite(statistics[:, :, SUM])

    def _fill_by_products(self, flat: torch.Tensor, statistics: torch.Tensor) -> None:
        mean, last, total, squares, count = statistics.unbind(2)
        last.copy_(flat.flatten(0, 1).index_select(0, self._last).view(last.shape))
        if self._none is not None:
            last.masked_fill_(self._none, torch.nan)
        mean.copy_(last)
        total.copy_(last if self._none is None else last.masked_fill(self._none, 0.0))
        torch.mul(total, total, out=squares)
        count.copy_(self._count.expand_as(count))
        if len(self._summed):
            sums, sums_of_squares = self._sums(flat)
            if not all_finite(sums):
                sums, sums_of_squares = self._sums_of_own_tokens(flat)
            total.index_copy_(1, self._summed, sums)
            squares.index_copy_(1, self._summed, sums_of_squares)
            mean.index_copy_(1, self._summed, sums / self._count[:, self._summed])

    def _sums(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of the values and of their squares, each (batch, n_summed, features)."""
        rows = max(1, POOLED_AT_ONCE // flat[0].numel())
        rows = rows if flat.device.type == "cpu" else len(flat)
        sums, squares = [], []
        for start in range(0, len(flat), rows):
            own = slice(start, start + rows)
            values = flat[own]
            sums.append((self._weights64[own] @ self._converted(values)).float())
            squares.append(self._weights[own] @ values.square())
        if len(sums) == 1:
            return sums[0], squares[0]
        return torch.cat(sums), torch.cat(squares)

    def _converted(self, values: torch.Tensor) -> torch.Tensor:
        if values.numel() > len(self._scratch):
            self._scratch = self._scratch.new_empty(values.numel())
        return self._scratch[: values.numel()].view_as(values).copy_(values)

    def _sums_of_own_tokens(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # 0 × inf is not 0: a product with the mask would spread a value to every phase.
        own = [flat.double().where(mask.unsqueeze(-1), 0.0) for mask in self._masks.unbind(1)]
        sums = torch.stack([part.sum(1) for part in own], dim=1)
        squares = torch.stack([part.square().sum(1) for part in own], dim=1)
        return sums.float(), squares.float()


def all_finite(values: torch.Tensor) -> bool:
    """Tell by their sum whether all values are finite: ten times faster than one test for each.

    Parameters
    ----------
    values : Tensor, floating point
        The values.

    Returns
    -------
    bool
        False also where finite values have a sum that is not: then look at each.
    """
    # Ordinary activity adds up to more than half precision holds.
    return math.isfinite(values.sum(dtype=torch.float32))


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
