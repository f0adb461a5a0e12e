"""Arrays written block by block, straight to files in the format of zarr v3.

Zarr's own writer spends more on each chunk than compressing it takes, resizes the array each time,
and builds shards slowly; a block that is written once, whole and in order needs none of that. Files
hold exactly what zarr would read back (its tests compare), metadata is written by zarr itself.

A chunk that repeats an earlier one of its shard to the bit is not written again: the index of a
shard says where each chunk lies, and two may lie in one place. The state after a layer is that
before the next, so a third of a recording of the residual stream is never compressed, written or
hashed. Files are hashed as they are written: read again, they would be moved twice.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias

import google_crc32c
import numpy as np
import zarr
from numcodecs.zstd import Zstd
from zarr.codecs import Crc32cCodec, ZstdCodec

from lmri.store.layout import MIB, Layout
from lmri.store.storage import is_bfloat16

MISSING = {"f": np.nan}
NAN_BITS = 0x7FC0
"""Not a number, in the bits of bfloat16."""

Buffer: TypeAlias = bytes | np.ndarray

Entry: TypeAlias = tuple[int, int]
"""Where a chunk begins in its file, and how many bytes it has."""

REUSED_BYTES = 64 * MIB
"""Largest block whose memory is used again: a new one costs as much as filling it."""

LEVEL = -1
"""Of zstd: activations are mostly noise to it. Level 1 takes three times as long for 5 % less."""

CODECS = {"zstd": ZstdCodec(level=LEVEL, checksum=True), "none": Crc32cCodec()}
"""What a chunk goes through. Both end in a checksum: without one, an altered byte would be read."""


def _at_once(size: int, function: Callable[..., object], *arguments: object) -> None:
    function(*arguments)


class BlockArray:
    """An array that grows along its first dimension and is written in whole blocks.

    Parameters
    ----------
    root : Path
        Folder of the store.
    name : str
        Path of the array within the store.
    dims : tuple of str
        Names of its dimensions.
    dtype : dtype
        Type of the stored values.
    layout : Layout
        Its blocks and chunks.
    attributes : mapping
        Attributes of the array.
    compression : str
        One of :data:`CODECS`.
    submit : callable, optional
        Called as ``submit(bytes, function, *arguments)`` for every full block, see
        :meth:`lmri.store.background.Background.submit`; by default the function runs at once.

    Attributes
    ----------
    hashes : dict of str to (int, str)
        Bytes and SHA-256 of every file written so far, by its path within the store.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        dims: tuple[str, ...],
        dtype: np.dtype,
        layout: Layout,
        attributes: Mapping[str, object],
        compression: str,
        submit: Callable[..., None] = _at_once,
    ) -> None:
        self.name = name
        self.dims = dims
        self.dtype = dtype
        self.attributes = dict(attributes)
        # Zarr reads a missing file, or an empty shard, as this value without a word.
        self._fill_value = NAN_BITS if is_bfloat16(attributes) else MISSING.get(dtype.kind, 0)
        self._layout = layout
        self._compression = compression
        self._submit = submit
        self._folder = root / name
        self._folder.mkdir(parents=True)
        self.hashes: dict[str, tuple[int, str]] = {}
        self._spare: list[np.ndarray] = []
        self._block = self._new_block()
        self._filled = 0
        self._written = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape so far, with what is still buffered."""
        return (self._written + self._filled, *self._layout.trailing)

    def append(self, values: np.ndarray) -> None:
        """Add rows; blocks that become full are handed over to be written.

        Parameters
        ----------
        values : ndarray
            Array of shape (n_new, ...), of the array's type; copied.
        """
        by_row = self._by_row()
        values = values.reshape(len(values), *by_row.shape[1:])
        start = 0
        while start < len(values):
            count = min(len(values) - start, self._layout.rows - self._filled)
            by_row[self._filled : self._filled + count] = values[start : start + count]
            self._filled += count
            start += count
            if self._filled == self._layout.rows:
                self._hand_over()
                by_row = self._by_row()

    def finish(self, group: zarr.Group) -> None:
        """Write what is still buffered, and the metadata; all that was handed over is written.

        Parameters
        ----------
        group : Group
            Root of the store.
        """
        shape = self.shape
        if not self._written:
            self._layout = self._layout.cut_to(self._filled)
        if self._filled:
            self._by_row()[self._filled : self._layout.rows] = self._fill_value
            self._write(self._block, self._written // self._layout.rows)
        self._written += self._filled
        self._filled = 0
        self._spare.clear()
        del self._block
        group.create_array(
            self.name,
            shape=shape,
            chunks=self._layout.chunks,
            shards=self._layout.shards,
            dtype=self.dtype,
            fill_value=self._fill_value,
            compressors=CODECS[self._compression],
            # One file in one folder for each block: nested keys would add a folder per dimension.
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=self.dims,
            attributes=self.attributes,
        )

    def _new_block(self) -> np.ndarray:
        """Return memory of shape (*grid, rows, *chunk).

        One chunk after another, each contiguous, so that it is compressed where it lies. Pages of
        a new array take no memory before they are written to.
        """
        layout = self._layout
        return np.empty((*layout.grid, layout.rows, *layout.chunk), self.dtype)

    def _by_row(self) -> np.ndarray:
        """Return the block as (rows, grid 0, chunk 0, grid 1, …)."""
        axes = len(self._layout.trailing)
        paired = (axis for i in range(axes) for axis in (i, axes + 1 + i))
        return self._block.transpose(axes, *paired)

    def _hand_over(self) -> None:
        number = self._written // self._layout.rows
        self._written += self._filled
        self._filled = 0
        self._submit(self._block.nbytes, self._write_and_spare, self._block, number)
        self._block = self._spare.pop() if self._spare else self._new_block()

    def _write_and_spare(self, block: np.ndarray, number: int) -> None:
        self._write(block, number)
        if block.nbytes <= REUSED_BYTES:
            self._spare.append(block)

    def _write(self, block: np.ndarray, number: int) -> None:
        key = ".".join(["c", str(number), *("0" for _ in self._layout.trailing)])
        grid, chunk = self._layout.grid, self._layout.chunk
        by_chunk = block.reshape(math.prod(grid), block.shape[len(grid)], *chunk)
        written: dict[bytes, list[tuple[np.ndarray, Entry]]] = {}
        entries: list[Entry] = []
        with (self._folder / key).open("xb") as stream:
            file = _Hashing(stream)
            for chunk in by_chunk:
                content = _bytes(np.ascontiguousarray(chunk[: self._layout.rows]))
                # Chunks are compared only where their checksums are equal: never many with many.
                checksum = _checksum(content)
                same = written.setdefault(checksum, [])
                entry = next((entry for own, entry in same if _equal(own, content)), None)
                if entry is None:
                    start = file.size
                    for part in self._encode(content, checksum):
                        file.write(part)
                    entry = start, file.size - start
                    same.append((content, entry))
                entries.append(entry)
            if self._layout.shards is not None:
                file.write(_index(entries))
        self.hashes[f"{self.name}/{key}"] = file.size, file.digest()

    def _encode(self, content: np.ndarray, checksum: bytes) -> tuple[Buffer, ...]:
        if self._compression == "zstd":
            return (Zstd(level=LEVEL, checksum=True).encode(content),)
        return content, checksum


class _Hashing:
    """A file that is hashed as it is written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, part: Buffer) -> None:
        self._hash.update(part)
        self.size += self._stream.write(part)

    def digest(self) -> str:
        return self._hash.hexdigest()


def _bytes(chunk: np.ndarray) -> np.ndarray:
    return chunk.reshape(-1).view(np.uint8)


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    # Wide words compare faster.
    words = np.uint64 if one.size % 8 == 0 else np.uint8
    return np.array_equal(one.view(words), other.view(words))


def _index(entries: list[Entry]) -> bytes:
    """Return the index of a shard: where each chunk begins and how long it is, with a checksum."""
    content = np.array(entries, dtype="<u8").tobytes()
    return content + _checksum(content)


def _checksum(content: Buffer) -> bytes:
    return struct.pack("<I", google_crc32c.value(content))
