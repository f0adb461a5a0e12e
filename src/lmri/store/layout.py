"""How an array is cut into chunks and files.

An array grows along its first dimension (``token`` or ``trial``) and is written in blocks of whole
rows. A block is one file. The bytes of a row decide how many rows it has:

- An array with small rows has one chunk of 1 to 2 MiB in each block: a power of two of rows, so
  that the chunks of arrays that are read together nest.
- An array with large rows (from 4 KiB) is also cut along ``layer`` and ``place``. A block then is a
  shard of the zarr v3 sharding codec, with up to 2 MiB for each layer: reading one layer reads
  about one part in n_layers of the bytes, and the number of files does not grow with the layers.
  The state after one layer is mostly that before the next: cut apart, it is stored once (see
  :mod:`lmri.store.blocks`).
- A row that is larger still is cut along its other leading dimensions until a chunk has at most
  8 MiB.

The buffer of an array is one block, at most :data:`BLOCK_BYTES` unless a single row is larger. An
array that ends before its first block is full has one chunk of just its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIB = 2**20
CHUNK_BYTES = 2 * MIB
LARGEST_CHUNK_BYTES = 8 * MIB
BLOCK_BYTES = 256 * MIB
LARGE_ROW_BYTES = 4096


@dataclass(frozen=True)
class Layout:
    """Blocks and chunks of one array.

    Attributes
    ----------
    rows : int
        Rows of a block.
    trailing : tuple of int
        Shape of a row.
    chunk : tuple of int
        Shape of a chunk without its first dimension, which is ``rows``; divides ``trailing``.
    """

    rows: int
    trailing: tuple[int, ...]
    chunk: tuple[int, ...]

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk, (rows, ...); no dimension is 0."""
        return (self.rows, *(max(1, size) for size in self.chunk))

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of a shard, (rows, ...), or None where a block is a single chunk."""
        return None if self.chunk == self.trailing else (self.rows, *self.trailing)

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks of a block along each dimension of a row."""
        return tuple(
            size // part if part else 1
            for size, part in zip(self.trailing, self.chunk, strict=True)
        )

    def cut_to(self, rows: int) -> Layout:
        """Return the layout of an array that ends within its first block.

        Parameters
        ----------
        rows : int
            Rows of the array.

        Returns
        -------
        Layout
            With as many rows.
        """
        return Layout(max(1, rows), self.trailing, self.chunk)


def plan(dims: Sequence[str], trailing: Sequence[int], itemsize: int) -> Layout:
    """Choose blocks and chunks.

    Parameters
    ----------
    dims : sequence of str
        Names of the dimensions; the first is the one that grows.
    trailing : sequence of int
        Sizes of the others.
    itemsize : int
        Bytes of an element.

    Returns
    -------
    Layout
        See the module.
    """
    row = itemsize * math.prod(trailing)
    chunk = list(trailing)
    of_a_layer = 1
    if row >= LARGE_ROW_BYTES and "layer" in dims[1:]:
        chunk[dims.index("layer") - 1] = 1
        if "place" in dims[1:]:
            of_a_layer = chunk[dims.index("place") - 1]
            chunk[dims.index("place") - 1] = 1
    for axis, size in enumerate(chunk[:-1]):
        others = itemsize * math.prod(chunk) // max(1, size)
        if others * size > LARGEST_CHUNK_BYTES:
            chunk[axis] = _largest_divisor(size, LARGEST_CHUNK_BYTES // others)
    unit = max(1, of_a_layer * itemsize * math.prod(chunk))
    rows = min(CHUNK_BYTES // unit, BLOCK_BYTES // max(1, row))
    # The largest power of two that is no more.
    return Layout(2 ** (max(1, rows).bit_length() - 1), tuple(trailing), tuple(chunk))


def _largest_divisor(size: int, limit: int) -> int:
    """Return the largest divisor up to a limit, and at least 1: chunks are never cut off."""
    return next((n for n in range(min(size, limit), 0, -1) if size % n == 0), 1)
