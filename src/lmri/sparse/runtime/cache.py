"""A cache of keys and values that grows in place while single tokens are decoded.

The cache of transformers copies all keys and values of a layer for every token. Here a layer's
tensors lie in memory with room for more tokens, and are views of what is filled: a new token is
written behind it, and the layer gets longer views. Views handed out before keep what they hold.
Where a layer's tensors are not those that were handed out last (it was cropped, reordered, copied
or set), they are copied to memory of their own first.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from lmri.errors import SparseError
from lmri.sparse.kernels.cpu import Cpu

UPDATE = DynamicLayer.update  # as it was: somebody may replace it

LEAST_ROOM = 64
"""Tokens for which there is room at least; else an eighth of those that are there."""


class Rooms:
    """Memory of layers of caches, for as long as these live.

    Parameters
    ----------
    kernel : Cpu
        Writes new tokens.
    """

    def __init__(self, kernel: Cpu) -> None:
        self._kernel = kernel
        self._rooms: WeakKeyDictionary[DynamicLayer, _Room] = WeakKeyDictionary()

    def update(
        self, cache: Cache, keys: Tensor, values: Tensor, index: int
    ) -> tuple[Tensor, Tensor]:
        """Add keys and values of new tokens to a layer.

        Parameters
        ----------
        cache : Cache
            The cache; one of another kind than grows is updated by its own code.
        keys, values : Tensor of shape (batch, key_heads, new, size)
            Of the new tokens.
        index : int
            The layer.

        Returns
        -------
        keys, values : Tensor of shape (batch, key_heads, tokens, size)
            Of all tokens.
        """
        layer = _layer_that_grows(cache, index)
        if layer is not None:
            room = self._rooms.get(layer)
            if room is not None and room.add(layer, keys, values):
                return room.held
            room = _Room(self._kernel, layer, keys.shape[2])
            if room.add(layer, keys, values):
                self._rooms[layer] = room
                return room.held
        return cache.update(keys, values, index)


class _Room:
    """Memory of keys and values, and the views of it that a layer holds."""

    def __init__(self, kernel: Cpu, layer: DynamicLayer, count: int) -> None:
        self.kernel = kernel
        self.inference = torch.is_inference_mode_enabled()
        self.held = layer.keys, layer.values
        self.filled = layer.keys.shape[2]
        self.capacity = self.filled + count + max(LEAST_ROOM, self.filled // 8)
        self.keys, self.values = (_copied(held, self.capacity) for held in self.held)

    def add(self, layer: DynamicLayer, keys: Tensor, values: Tensor) -> bool:
        """Write new tokens behind those that are there; whether it was done.

        It is if the layer holds what was handed out last, there is room, the new tokens are like
        the others, and the memory may be written.
        """
        own = layer.keys is self.held[0] and layer.values is self.held[1]
        if not own or self.inference != torch.is_inference_mode_enabled():
            return False
        try:
            self.kernel.append(self.keys, self.values, keys, values, self.filled)
        except (SparseError, RuntimeError):  # full, or tokens of another kind
            return False
        self.filled += keys.shape[2]
        self.held = self.keys.narrow(2, 0, self.filled), self.values.narrow(2, 0, self.filled)
        layer.keys, layer.values = self.held
        return True


def _layer_that_grows(cache: Cache, index: int) -> DynamicLayer | None:
    """Give a layer of transformers' own that holds tokens, stays where it is, has no gradients."""
    if type(cache) is not DynamicCache or cache.offloading or torch.is_grad_enabled():
        return None
    layer = cache.layers[index] if index < len(cache.layers) else None
    plain = type(layer) is DynamicLayer and DynamicLayer.update is UPDATE
    return layer if plain and layer.is_initialized and "update" not in vars(layer) else None


def _copied(held: Tensor, capacity: int) -> Tensor:
    memory = held.new_zeros((*held.shape[:2], capacity, held.shape[3]))
    memory.narrow(2, 0, held.shape[2]).copy_(held)
    return memory
