"""Maps: one statistic for every unit of a kind, as a labelled zarr store."""

from __future__ import annotations

import warnings
from pathlib import Path

import xarray as xr
import zarr
from zarr.codecs import ZstdCodec
from zarr.errors import UnstableSpecificationWarning

from lmri.errors import StoreError
from lmri.store.atomic import atomic_directory

CAUSAL_PHASE = "attribution"
"""Stands for the phase in the names of causal maps, which have positions instead."""

FIRST_QUANTITY = {
    "expert": "rate",
    "neuron": "activation",
    "shared_neuron": "activation",
    "expert_neuron": "unconditional",
    "head": "norm",
    "residual": "after",
    "layer": "after",
}
"""The quantity that is meant where the name of a map of units of a kind has none."""


def write_map(path: Path, statistics: xr.Dataset) -> None:
    """Write a map as zarr v3, atomically.

    Parameters
    ----------
    path : Path
        The store to write.
    statistics : Dataset
        Variables over the unit dimensions (``layer``, ``expert``) with attributes.
    """
    # A map has no manifest: checksums find altered chunks, and a chunk that holds only the fill
    # value is written too, so that a missing one never looks like data.
    codec = {"compressors": ZstdCodec(level=1, checksum=True)}
    with atomic_directory(path) as partial, warnings.catch_warnings():
        # Text labels, such as conditions, have no entry in the zarr v3 core specification.
        warnings.simplefilter("ignore", UnstableSpecificationWarning)
        statistics.to_zarr(
            partial,
            mode="w",
            zarr_format=3,
            consolidated=False,
            encoding=dict.fromkeys(statistics.variables, codec),
            write_empty_chunks=True,
        )


def read_map(path: Path) -> xr.Dataset:
    """Read a map into memory.

    Parameters
    ----------
    path : Path
        The store.

    Returns
    -------
    Dataset
        As it was written, with text as fixed-length ``<U``.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    if not path.is_dir():
        raise StoreError(f"{path}: no such map. Was the job that writes it finished?")
    try:
        _check_chunks(path)
        with xr.open_zarr(path, consolidated=False, chunks=None) as dataset:
            # Folders are listed in any order, and what is made of a map has its columns in theirs.
            return _plain_text(dataset.load())[sorted(map(str, dataset.data_vars))]
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise StoreError(f"{path}: not a readable map ({error}). Localise again.") from None


def _plain_text(dataset: xr.Dataset) -> xr.Dataset:
    # Objects are read as strings of variable length, which numpy casts to no other text.
    texts = {name: own for name, own in dataset.variables.items() if own.dtype.kind == "T"}
    for name, own in texts.items():
        dataset[name] = own.copy(data=own.values.astype("O").astype("U"))
    return dataset


def _check_chunks(path: Path) -> None:
    for name, array in zarr.open_group(path, mode="r", zarr_format=3).arrays():
        if array.nchunks_initialized < array.nchunks:
            raise ValueError(f"a chunk of '{name}' is missing")
