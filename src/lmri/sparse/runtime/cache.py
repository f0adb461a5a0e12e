"""A cache of keys and values that grows in place while single tokens are decoded.

The cache of transformers copies all keys and values of a layer for every token. Here a layer's
tensors lie in memory with room for more tokens, and are views of what is filled: a new token is
written behind it, and the layer gets longer views. Views handed out before keep what they hold.
They share memory with later ones and are not contiguous: who edits or stores them clones them
first. Where a layer's tensors are not those that were handed out last (it was cropped, reordered,
copied or set), its own code goes on.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from lmri.errors import SparseError
from lmri.sparse.kernels.cpu import Cpu

# As they were: somebody may replace them.
UPDATE = DynamicLayer.update
UPDATE_OF_CACHE = DynamicCache.update

LEAST_ROOM = 64
"""Tokens for which there is room at least; else an eighth of those that are there."""


class CacheBuffers:
    """Memory of layers of caches, for as long as these live.

    A layer gets it with the second token that is added to what it holds: caches that are reordered
    for every token (beam search) stay as they are.

    Parameters
    ----------
    kernel : Cpu
        Writes new tokens.
    """

    def __init__(self, kernel: Cpu) -> None:
        self._kernel = kernel
        self._buffers: WeakKeyDictionary[DynamicLayer, _Buffer] = WeakKeyDictionary()

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
        if layer is None:
            return cache.update(keys, values, index)
        buffer = self._buffers.get(layer)
        if buffer is not None:
            if buffer.add(layer, keys, values):
                return layer.keys, layer.values
            del self._buffers[layer]  # before anything is copied
        views = cache.update(keys, values, index)
        self._buffers[layer] = _Buffer(self._kernel, layer)
        return views


class _Buffer:
    """Memory of keys and values, and what a layer held last: without memory at first."""

    def __init__(self, kernel: Cpu, layer: DynamicLayer) -> None:
        self.kernel = kernel
        self.inference = torch.is_inference_mode_enabled()
        self.memory: tuple[Tensor, Tensor] | None = None
        self.filled = layer.keys.shape[2]
        self.keep_in_mind(layer)

    def keep_in_mind(self, layer: DynamicLayer) -> None:
        """Keep in mind what a layer holds, and do not keep it."""
        self.last = ref(layer.keys), ref(layer.values)

    def add(self, layer: DynamicLayer, keys: Tensor, values: Tensor) -> bool:
        """Write new tokens behind those that are there; whether it was done.

        It is if the layer holds what was handed out last, the new tokens are like the others, and
        the memory may be written.
        """
        held = layer.keys, layer.values
        own = all(one is last() for one, last in zip(held, self.last, strict=True))
        if not own or self.inference != torch.is_inference_mode_enabled():
            return False
        count = keys.shape[2]
        if self.memory is None or self.filled + count > self.memory[0].shape[2]:
            room = count + max(LEAST_ROOM, self.filled // 8)
            self.memory = tuple(_with_room(one, room) for one in held)
        try:
            self.kernel.append(*self.memory, keys, values, self.filled)
        except (SparseError, RuntimeError):  # tokens of another kind
            return False
        self.filled += count
        layer.keys, layer.values = (memory.narrow(2, 0, self.filled) for memory in self.memory)
        self.keep_in_mind(layer)
        return True


def _layer_that_grows(cache: Cache, index: int) -> DynamicLayer | None:
    """Give a layer of transformers' own that holds tokens, stays where it is, has no gradients."""
    if type(cache) is not DynamicCache or cache.offloading or torch.is_grad_enabled():
        return None
    if "update" in vars(cache) or DynamicCache.update is not UPDATE_OF_CACHE:
        return None
    layer = cache.layers[index] if index < len(cache.layers) else None
    if type(layer) is not DynamicLayer or "update" in vars(layer):
        return None
    holds = layer.is_initialized and layer.keys.dim() == 4
    return layer if holds and DynamicLayer.update is UPDATE else None


def _with_room(held: Tensor, room: int) -> Tensor:
    # Of zeros, so that nothing else is written where somebody stores the whole of it.
    memory = held.new_zeros((*held.shape[:2], held.shape[2] + room, held.shape[3]))
    memory.narrow(2, 0, held.shape[2]).copy_(held)
    return memory
