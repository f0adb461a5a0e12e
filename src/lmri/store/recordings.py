"""Recordings: one subject's labelled activity on one task, as an xarray DataTree in zarr v3.

The layout is in ``docs/artefacts.md``. Arrays grow along their first dimension (``token`` or
``trial``) and are written in whole chunks as they fill, so memory is bounded by one chunk of each
array whatever the number of trials.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec
from zarr.errors import UnstableSpecificationWarning

from lmri.errors import StoreError
from lmri.store.manifest import verify_store

TOKENS_PER_CHUNK = 4096
TRIALS_PER_CHUNK = 64


class RecordingWriter:
    """Write a recording batch by batch.

    Parameters
    ----------
    path : Path
        An empty folder (see :func:`lmri.store.atomic.atomic_directory`).
    attributes : mapping
        Attributes of the root group, JSON-able.
    """

    def __init__(self, path: Path, attributes: Mapping[str, object]) -> None:
        self._root = zarr.create_group(path, zarr_format=3, attributes=dict(attributes))
        self._path = path
        self._appenders: dict[str, _Appender] = {}
        self._trials: list[pd.DataFrame] = []

    def append(
        self,
        node: str,
        variable: str,
        values: np.ndarray,
        dims: tuple[str, ...],
        coordinates: Mapping[str, list] | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Append values along the first dimension of an array.

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
            Attributes of the array, written once.
        """
        key = f"{node}/{variable}"
        if key not in self._appenders:
            group = self._root.require_group(node)
            for name, labels in (coordinates or {}).items():
                _write_coordinate(group, name, labels)
            self._appenders[key] = _Appender(group, variable, values, dims, attributes or {})
        self._appenders[key].append(values)

    def append_trials(self, trials: pd.DataFrame) -> None:
        """Append rows to the table of trials.

        Parameters
        ----------
        trials : DataFrame
            One row per trial, in the order of the pooled arrays.
        """
        self._trials.append(trials)

    def close(self) -> dict[str, list]:
        """Write what is still buffered and the table of trials.

        Returns
        -------
        dict of str to list
            ``[shape, dtype]`` of every array.
        """
        for appender in self._appenders.values():
            appender.flush()
        trials = pd.concat(self._trials, ignore_index=True)
        columns = {name: ("trial", _storable(trials[name])) for name in trials.columns}
        with warnings.catch_warnings():
            # Text arrays have no entry in the zarr v3 core specification yet.
            warnings.simplefilter("ignore", UnstableSpecificationWarning)
            xr.Dataset(columns).to_zarr(
                self._path, group="trials", mode="a", zarr_format=3, consolidated=False
            )
        shapes = {key: [list(a.shape), a.dtype] for key, a in self._appenders.items()}
        return {**shapes, "trials": [[len(trials)], "table"]}


class Recording:
    """A recording opened for reading; arrays are read chunk by chunk.

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
            self._root = zarr.open_group(path, mode="r", zarr_format=3)
            with xr.open_zarr(path, group="trials", consolidated=False, chunks=None) as table:
                self.trials = table.load().to_dataframe().reset_index()
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise StoreError(f"{path}: not a readable recording ({error}). Record again.") from None
        self.attributes = dict(self._root.attrs)

    def array(self, name: str) -> zarr.Array:
        """One array, not loaded.

        Parameters
        ----------
        name : str
            For example ``tokens/router/expert_id``.

        Returns
        -------
        zarr.Array
            The array; slices of it are read from disk.

        Raises
        ------
        StoreError
            If the recording does not hold it.
        """
        found = self._root.get(name)
        if not isinstance(found, zarr.Array):
            raise StoreError(
                f"{self.path}: the recording holds no '{name}'. "
                "Add its quantity to 'record.quantities' of the configuration and record again."
            )
        return found

    def stream(self, *names: str) -> Iterator[tuple[np.ndarray, ...]]:
        """Read arrays that share their first dimension, a chunk at a time.

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
        step = arrays[0].chunks[0]
        for start in range(0, arrays[0].shape[0], step):
            yield tuple(np.asarray(array[start : start + step]) for array in arrays)


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


class _Appender:
    """An array that grows along its first dimension and is written in whole chunks."""

    def __init__(
        self,
        group: zarr.Group,
        name: str,
        like: np.ndarray,
        dims: tuple[str, ...],
        attributes: Mapping[str, object],
    ) -> None:
        self._rows = TOKENS_PER_CHUNK if dims[0] == "token" else TRIALS_PER_CHUNK
        self._tail = like.shape[1:]
        self._array = group.create_array(
            name,
            shape=(0, *self._tail),
            chunks=(self._rows, *(max(1, size) for size in self._tail)),
            dtype=like.dtype,
            # Without its own checksum an altered byte would be decompressed silently.
            compressors=ZstdCodec(level=1, checksum=True),
            dimension_names=dims,
            attributes=dict(attributes),
            # A chunk that equals the fill value would not be written: a missing file must never
            # look like data.
            config={"write_empty_chunks": True},
        )
        self._buffer: list[np.ndarray] = []
        self._buffered = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> str:
        return str(self._array.dtype)

    def append(self, values: np.ndarray) -> None:
        self._buffer.append(values)
        self._buffered += len(values)
        if self._buffered >= self._rows:
            whole = self._buffered - self._buffered % self._rows
            joined = np.concatenate(self._buffer)
            self._write(joined[:whole])
            self._buffer, self._buffered = [joined[whole:]], len(joined) - whole

    def flush(self) -> None:
        if self._buffered:
            self._write(np.concatenate(self._buffer))
            self._buffer, self._buffered = [], 0

    def _write(self, values: np.ndarray) -> None:
        start = self._array.shape[0]
        self._array.resize((start + len(values), *self._tail))
        self._array[start:] = values


def _write_coordinate(group: zarr.Group, name: str, labels: list) -> None:
    if name in group:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableSpecificationWarning)
        group.create_array(name, data=np.asarray(labels), dimension_names=(name,))


def _storable(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.to_numpy()
    return column.fillna("").astype(str).to_numpy(dtype="U")
