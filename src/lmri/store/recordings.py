"""Reading one recording, that is one shard of a task. All shards of a task: see ``trees``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from lmri.errors import StoreError
from lmri.store.manifest import verify_store
from lmri.store.storage import decode_bfloat16, is_bfloat16


class StoredArray:
    """An array of a recording, read from disk where it is indexed.

    What is stored as bfloat16 is given as float32.

    Parameters
    ----------
    array : zarr.Array
        The array on disk.

    Attributes
    ----------
    shape, chunks : tuple of int
        Shape of the array and of its chunks.
    dims : tuple of str
        Names of its dimensions.
    dtype : dtype
        Type of what is read.
    attrs : dict
        Its attributes.
    """

    def __init__(self, array: zarr.Array) -> None:
        self._array = array
        self._bfloat16 = is_bfloat16(array.attrs)
        self.shape = array.shape
        self.chunks = array.chunks
        self.dims = tuple(array.metadata.dimension_names or ())
        self.dtype = np.dtype(np.float32) if self._bfloat16 else array.dtype
        self.attrs = dict(array.attrs)

    def __getitem__(self, key: object) -> np.ndarray:
        return self._decoded(self._array[key])

    def _decoded(self, values: object) -> np.ndarray:
        return decode_bfloat16(np.asarray(values)) if self._bfloat16 else np.asarray(values)


class Recording:
    """A recording opened for reading; arrays are read chunk by chunk.

    Nothing is verified here: an altered chunk is an error when it is read, but a missing one reads
    as NaN, or as 0 in an array of integers. See :func:`open_recording`.

    Parameters
    ----------
    path : Path
        The store.

    Attributes
    ----------
    trials : DataFrame
        The table of trials, one row each.
    attributes : dict
        Attributes of the store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Not the consolidated copy: what is read is what is checked here.
            self._root = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False)
            with xr.open_zarr(path, group="trials", consolidated=False, chunks=None) as table:
                self.trials = table.load().to_dataframe().reset_index()
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise StoreError(f"{path}: not a readable recording ({error}). Record again.") from None
        self.attributes = dict(self._root.attrs)

    def array(self, name: str) -> StoredArray:
        """One array, not loaded.

        Parameters
        ----------
        name : str
            For example ``tokens/router/expert_id``.

        Returns
        -------
        StoredArray
            The array; slices of it are read from disk.

        Raises
        ------
        StoreError
            If the recording does not hold it.
        """
        found = self._root.get(name)
        if not isinstance(found, zarr.Array):
            raise StoreError(
                f"{self.path}: the recording holds no '{name}'. {_advice(name)} of the "
                "configuration and record again."
            )
        return StoredArray(found)

    def holds(self, name: str) -> bool:
        """Whether there is an array of this name, see :meth:`array`."""
        return isinstance(self._root.get(name), zarr.Array)

    def stream(self, *names: str) -> Iterator[tuple[np.ndarray, ...]]:
        """Read arrays that share their first dimension, a few rows at a time.

        The rows are those of the smallest chunk. Each chunk is read once: memory is bounded by one
        block of each array.

        Parameters
        ----------
        *names : str
            Arrays, see :meth:`array`.

        Yields
        ------
        tuple of ndarray
            The same rows of each array.
        """
        arrays = [self.array(name) for name in names]
        readers = [_RowReader(array) for array in arrays]
        step = min(array.chunks[0] for array in arrays)
        for start in range(0, arrays[0].shape[0], step):
            yield tuple(reader.rows(start, start + step) for reader in readers)


def _advice(name: str) -> str:
    """Say what to do about an array that a recording does not hold."""
    if name.rpartition("/")[2] in ("logp_next", "entropy_next"):
        return "Leave out 'record.next_token: false'"
    return "Add its quantity to 'record.quantities'"


def open_recording(store: Path, manifest: Path) -> Recording:
    """Open a recording after checking every byte against its manifest.

    Parameters
    ----------
    store : Path
        ``<shard>.zarr``.
    manifest : Path
        ``<shard>.zarr.manifest.json``.

    Returns
    -------
    Recording
        The recording.

    Raises
    ------
    StoreError
        If anything is missing or altered.
    """
    verify_store(store, manifest)
    return Recording(store)


class _RowReader:
    """Consecutive rows of an array, with the chunks they came from kept until they are used up."""

    def __init__(self, array: StoredArray) -> None:
        self._array = array
        self._kept = array[:0]
        self._start = 0

    def rows(self, start: int, stop: int) -> np.ndarray:
        stop = min(stop, self._array.shape[0])
        if stop > self._start + len(self._kept):
            rows = self._array.chunks[0]
            end = min(-(-stop // rows) * rows, self._array.shape[0])
            kept = self._kept[start - self._start :]
            new = self._array[start + len(kept) : end]
            self._kept, self._start = np.concatenate([kept, new]) if len(kept) else new, start
        return self._kept[start - self._start : stop - self._start]
