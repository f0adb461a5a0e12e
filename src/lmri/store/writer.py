"""Writing a recording: one subject's labelled activity on one shard of a task, in zarr v3.

The layout of the store is in ``docs/artefacts.md``, that of its arrays in
:mod:`lmri.store.layout`. Background threads compress, hash and write full blocks while the model
computes; a block is a file, so the bytes do not depend on how many threads there are. Memory is
bounded by one block of each array and the queue, whatever the number of trials.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from zarr.abc.buffer import Buffer
from zarr.errors import UnstableSpecificationWarning, ZarrUserWarning
from zarr.storage import MemoryStore

from lmri.checks import check_choice
from lmri.errors import StoreError
from lmri.store.background import Background
from lmri.store.blocks import CODECS, BlockArray
from lmri.store.layout import MIB, plan
from lmri.store.storage import encode, stored_dtype

ROOT = "zarr.json"
"""Metadata of the root group, and of all."""

QUEUE_BYTES = 128 * MIB
"""Of each thread: what a batch of most recordings leaves, so that the next runs meanwhile."""


class RecordingWriter:
    """Write a recording batch by batch.

    The same appends in the same order give the same bytes. Used as a context manager it is closed
    at the end of the block, or aborted by an exception; either way no thread is left.

    Parameters
    ----------
    path : Path
        An empty folder (see :func:`lmri.store.atomic.atomic_directory`).
    attributes : mapping
        Attributes of the root group, JSON-able.
    compression : {"zstd", "none"}
        ``zstd`` is level -1, a fast one, with its checksum. ``none`` stores the values as they
        are, followed by CRC-32C, so that an altered byte is found on reading there too.
    queue_bytes : int
        Bytes of full blocks that may wait for each thread; :meth:`append` blocks beyond it.
    threads : int
        How many threads write.

    Attributes
    ----------
    hashes : dict of str to (int, str)
        Bytes and SHA-256 of every file, by its path within the store, as they were written; set by
        :meth:`close`. For :func:`lmri.store.manifest.write_manifest`.

    Raises
    ------
    StoreError
        If the compression is unknown.
    """

    def __init__(
        self,
        path: Path,
        attributes: Mapping[str, object],
        *,
        compression: str = "zstd",
        queue_bytes: int = QUEUE_BYTES,
        threads: int = 1,
    ) -> None:
        check_choice(compression, CODECS, "compression", "a recording", StoreError)
        self._path = path
        self._attributes = dict(attributes)
        self._compression = compression
        self._arrays: dict[str, BlockArray] = {}
        self._coordinates: dict[str, list] = {}
        self._trials: list[pd.DataFrame] = []
        self._background = Background(threads * queue_bytes, "lmri-writer", threads)
        self._described: dict[str, dict] | None = None
        self.hashes: dict[str, tuple[int, str]] = {}

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def append(
        self,
        node: str,
        variable: str,
        values: np.ndarray,
        dims: tuple[str, ...],
        coordinates: Mapping[str, list] | None = None,
        attributes: Mapping[str, object] | None = None,
        dtype: str | None = None,
    ) -> None:
        """Append values along the first dimension of an array.

        The values are copied: their memory may be used again.

        Parameters
        ----------
        node : str
            Group, for example ``tokens/router``.
        variable : str
            Array within the group.
        values : ndarray
            Array of shape (n_new, ...); trailing shape and dtype must not change between calls.
        dims : tuple of str
            Names of the dimensions; the first is ``token`` or ``trial``.
        coordinates : mapping of str to list, optional
            Labels of trailing dimensions, written once.
        attributes : mapping, optional
            Attributes of the array, written once; ``units`` is copied to the manifest.
        dtype : {"float32", "float16", "bfloat16"}, optional
            What to store them as; by default as they are. bfloat16 is stored as its bits (uint16;
            the values may be those bits already) and read as float32.

        Raises
        ------
        StoreError
            If a finite value does not fit into the type.
        Exception
            What went wrong in a thread since the last call, unchanged (``OSError`` for a full
            disk).
        """
        name = f"{node}/{variable}"
        if name not in self._arrays:
            for axis, labels in (coordinates or {}).items():
                self._coordinates.setdefault(f"{node}/{axis}", labels)
            self._arrays[name] = self._array(name, values, dims, attributes or {}, dtype)
        array = self._arrays[name]
        if values.shape[1:] != array.shape[1:] or stored_dtype(values, dtype) != array.dtype:
            raise ValueError(
                f"{name}: appended {values.dtype} {values.shape} to {array.dtype} {array.shape}"
            )
        array.append(encode(values, dtype, f"'{array.name}'"))

    def append_trials(self, trials: pd.DataFrame) -> None:
        """Append rows to the table of trials.

        Parameters
        ----------
        trials : DataFrame
            One row per trial, in the order of the pooled arrays.
        """
        self._trials.append(trials)

    def close(self) -> dict[str, dict]:
        """Write what still waits, the table of trials and the metadata, and end the threads.

        Returns
        -------
        dict of str to dict
            ``shape``, ``dtype`` (``bfloat16`` for its bits) and ``units`` (None where none were
            given) of every array; of ``trials`` the shape.

        Raises
        ------
        Exception
            What went wrong in a thread, unchanged.
        """
        if self._described is None:
            self._background.close()
            self._described = self._finish()
        return self._described

    def abort(self) -> None:
        """End the threads without writing what still waits: the store remains unreadable."""
        self._background.abort()

    def _array(
        self,
        name: str,
        values: np.ndarray,
        dims: tuple[str, ...],
        attributes: Mapping[str, object],
        dtype: str | None,
    ) -> BlockArray:
        stored = stored_dtype(values, dtype)
        layout = plan(dims, values.shape[1:], stored.itemsize)
        attributes = {**attributes, **({"dtype": dtype} if dtype == "bfloat16" else {})}
        submit, compression = self._background.submit, self._compression
        return BlockArray(self._path, name, dims, stored, layout, attributes, compression, submit)

    def _finish(self) -> dict[str, dict]:
        with warnings.catch_warnings():
            # Text arrays and consolidated metadata have no entry in the zarr v3 core specification.
            warnings.simplefilter("ignore", UnstableSpecificationWarning)
            warnings.simplefilter("ignore", ZarrUserWarning)
            # In memory, and then to files: zarr takes three times as long to write them itself.
            files: dict[str, Buffer] = {}
            metadata = MemoryStore(files)
            root = zarr.create_group(metadata, zarr_format=3, attributes=self._attributes)
            for name in self._arrays:
                root.require_group(name.rpartition("/")[0])
            self._label(root, files)
            for array in self._arrays.values():
                array.finish(root)
            trials = pd.concat(self._trials, ignore_index=True)
            columns = {name: ("trial", _storable(trials[name])) for name in trials.columns}
            xr.Dataset(columns).to_zarr(
                metadata, group="trials", mode="a", zarr_format=3, consolidated=False
            )
            zarr.consolidate_metadata(metadata)
        self._write_files(files)
        for array in self._arrays.values():
            self.hashes |= array.hashes
        described = {array.name: _describe(array) for array in self._arrays.values()}
        return {**described, "trials": {"shape": [len(trials)]}}

    def _label(self, root: zarr.Group, files: dict[str, Buffer]) -> None:
        """Write coordinates; labels that many groups share are made once and copied."""
        made: dict[tuple, str] = {}
        for name, labels in self._coordinates.items():
            axis, values = name.rpartition("/")[2], np.asarray(labels)
            first = made.setdefault((axis, values.dtype.str, tuple(labels)), name)
            if first == name:
                root.create_array(name, data=values, dimension_names=(axis,))
                continue
            own = [path for path in files if path.startswith(f"{first}/")]
            files.update({name + path.removeprefix(first): files[path] for path in own})

    def _write_files(self, files: Mapping[str, Buffer]) -> None:
        for name in sorted(files, key=ROOT.__eq__):  # what makes it a store comes last
            path = self._path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = files[name].to_bytes()
            path.write_bytes(content)
            self.hashes[name] = len(content), hashlib.sha256(content).hexdigest()


def _describe(array: BlockArray) -> dict[str, object]:
    return {
        "shape": list(array.shape),
        "dtype": array.attributes.get("dtype", str(array.dtype)),
        "units": array.attributes.get("units"),
    }


def _storable(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.to_numpy()
    return column.fillna("").astype(str).to_numpy(dtype="U")
