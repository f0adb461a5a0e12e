"""Repeated tokens: pairs of a query and an earlier key with the same token, or one next to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch

PAIRS_KEPT = 64 * 2**20
"""Bytes of pairs that are kept for the next layer: of longer texts each layer finds them again."""

NOTHING = -2
"""No token, not even padding."""


@dataclass(frozen=True)
class Block:
    """Pairs among some rows, queries and keys of a batch.

    Attributes
    ----------
    duplicate : Tensor of shape (n_rows, n_queries, n_keys), bool
        The key's token is the query's token, seen before.
    induction : Tensor of shape (n_rows, n_queries, n_keys), bool
        The key follows an earlier occurrence of the query's token.
    copied : Tensor of shape (n_rows, n_queries, n_keys), bool
        The key lies in the content and its token is the one that follows the query.
    """

    duplicate: torch.Tensor
    induction: torch.Tensor
    copied: torch.Tensor


@dataclass(frozen=True)
class Pairs:
    """The few pairs of a block, found once for all layers.

    Attributes
    ----------
    duplicate, induction : tuple of Tensor
        Rows, queries and keys, each (n_pairs,), in order of row and query; and how many there are
        for each query of each row, (n_rows * n_queries,).
    copied : tuple of Tensor
        Rows and queries with any copied key, each (n_found,), and which keys, (n_found, n_keys).
    """

    duplicate: tuple[torch.Tensor, ...]
    induction: tuple[torch.Tensor, ...]
    copied: tuple[torch.Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return sum(part.nbytes for group in vars(self).values() for part in group)


@dataclass(frozen=True)
class Repeats:
    """Repeated tokens of a batch; no token × token matrix of it is made, but of a block at a time.

    Attributes
    ----------
    ids : Tensor of shape (batch, n_keys), int64
        Tokens; padding is negative.
    content : Tensor of shape (batch, n_keys), bool
        Tokens of the content: the needle of a retrieval task.
    start : int
        Position of the first query: of those before, a pass over a cache knows the keys only.
    """

    ids: torch.Tensor
    content: torch.Tensor
    start: int = 0
    _kept: dict[tuple[int, ...], Pairs] = field(default_factory=dict)
    _elsewhere: dict[torch.device, Repeats] = field(default_factory=dict)

    def on(self, device: torch.device) -> Repeats:
        """Return the same on another device: the layers of a model may lie on several.

        Parameters
        ----------
        device : device
            Where the attention is.

        Returns
        -------
        Repeats
            Made once for each device.
        """
        if device == self.ids.device:
            return self
        if device not in self._elsewhere:
            moved = Repeats(self.ids.to(device), self.content.to(device), self.start)
            self._elsewhere[device] = moved
        return self._elsewhere[device]

    @property
    def real(self) -> torch.Tensor:
        """Queries that are no padding: (batch, n_queries), bool."""
        return self.ids[:, self.start :] >= 0

    @cached_property
    def earlier(self) -> torch.Tensor:
        """Where the same token was before, (batch, n_keys), int32: the last time; -1 if never."""
        order = self.ids.argsort(dim=1, stable=True)
        ordered = self.ids.gather(1, order)
        again = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        earlier = torch.full_like(self.ids, -1)
        earlier.scatter_(1, order[:, 1:], order[:, :-1].where(again, -1))
        return earlier.int()

    def block(self, rows: slice, queries: slice, keys: slice) -> Block:
        """Find the pairs among some tokens.

        Parameters
        ----------
        rows, queries, keys : slice
            Of the batch; queries count from :attr:`start`.

        Returns
        -------
        Block
            Masks.
        """
        ids, device = self.ids[rows], self.ids.device
        asked = torch.arange(ids.shape[1], device=device)[self.start :][queries].unsqueeze(1)
        read = torch.arange(ids.shape[1], device=device)[keys]
        own = ids[:, self.start :][:, queries].unsqueeze(2)  # (n_rows, n_queries, 1)
        following = _shifted(ids, -1)[:, self.start :][:, queries].unsqueeze(2)
        before = _shifted(ids, 1)[:, keys].unsqueeze(1)
        key = ids[:, keys].unsqueeze(1)  # (n_rows, 1, n_keys)
        return Block(
            duplicate=(own == key) & (own >= 0) & (read < asked),
            induction=(own == before) & (own >= 0) & (read <= asked),
            copied=(following == key)
            & (following >= 0)
            & self.content[rows, keys].unsqueeze(1)
            & (read <= asked),
        )

    def pairs(self, rows: slice, queries: slice, keys: slice) -> Pairs:
        """Find the pairs among some tokens, or remember them.

        Parameters
        ----------
        rows, queries, keys : slice
            Of the batch, with both ends; queries count from :attr:`start`.

        Returns
        -------
        Pairs
            Their positions within the block.
        """
        key = tuple(end for part in (rows, queries, keys) for end in (part.start, part.stop))
        found = self._kept.get(key)
        if found is None:
            block = self.block(rows, queries, keys)
            row, query = block.copied.any(-1).nonzero(as_tuple=True)
            copied = row, query, block.copied[row, query]
            found = Pairs(_positions(block.duplicate), _positions(block.induction), copied)
            if found.nbytes + sum(kept.nbytes for kept in self._kept.values()) <= PAIRS_KEPT:
                self._kept[key] = found
        return found


def _shifted(ids: torch.Tensor, by: int) -> torch.Tensor:
    """Token that stands ``by`` before each, :data:`NOTHING` where there is none."""
    shifted = ids.roll(by, dims=1)
    shifted[:, 0 if by > 0 else -1] = NOTHING
    return shifted


def _positions(chosen: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return *chosen.nonzero(as_tuple=True), chosen.sum(-1).reshape(-1)
