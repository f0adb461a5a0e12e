"""All shards of a task as one lazy xarray DataTree.

Xarray joins arrays lazily only with dask, which is no dependency: the arrays here are a small
backend array of their own that knows in which shard a row lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from lmri.errors import StoreError
from lmri.store.manifest import manifest_path, verify_store
from lmri.store.storage import decode_bfloat16, is_bfloat16

GROWING = ("token", "trial", "pool")
"""Dimensions along which shards follow each other."""


def open_recordings(
    recordings: str | Path | Iterable[Path], *, verify: bool = False
) -> xr.DataTree:
    """Open all shards of a task as one tree; only what is used is read.

    Trials, tokens and pools are those of the shards, one after another. The ``trial`` of a token or
    pool counts on through the shards, so that it indexes the trials of the tree, and the coordinate
    ``shard`` says where a row comes from. The table of trials is loaded; of every other array a
    selection of rows and layers is read without the rest. bfloat16 is float32 here.

    Parameters
    ----------
    recordings : str, Path or iterable of Path
        Folder of a task, ``recordings/<subject>/<task>``, or stores of one subject and task.
    verify : bool
        Check every byte against the manifests first.

    Returns
    -------
    DataTree
        Nodes as in ``docs/artefacts.md``. Its attributes are those on which all shards agree.

    Raises
    ------
    StoreError
        If there is no recording, one is damaged, or the shards do not belong together.

    Examples
    --------
    Router weights of sensitive trials at the last token of the prompt, and a pooled norm:

    >>> from pathlib import Path
    >>> from lmri.store import open_recordings
    >>> tree = open_recordings(Path("results/default/recordings/localised/events"))
    >>> trials, index = tree["trials"].dataset, tree["tokens/index"].dataset
    >>> trial = index["trial"].values  # row of the table of trials, for each token
    >>> sensitive = trials["condition"].values[trial] == "sensitive"
    >>> last = index["position"].values == trials["n_prompt"].values[trial] - 1
    >>> weight = tree["tokens/router"]["weight"].isel(token=sensitive & last)  # not read yet
    >>> weight.mean(("token", "slot")).values  # per layer
    >>> tree["pooled/layer"]["norm"].sel(phase="response", statistic="mean").values
    """
    stores = _stores(recordings)
    if verify:
        for store in stores:
            verify_store(store, manifest_path(store))
    shards = [_open(store) for store in stores]
    for store, shard in zip(stores[1:], shards[1:], strict=True):
        _check_alike(store, shard, stores[0], shards[0])
    numbers = [int(shard.attrs.get("shard", i)) for i, shard in enumerate(shards)]
    trials = [shard["trials"].sizes["trial"] for shard in shards]
    offsets = np.concatenate([[0], np.cumsum(trials)[:-1]])
    paths = [node.path for node in shards[0].subtree if node.data_vars]
    nodes = {
        path: _join([shard[path].dataset for shard in shards], numbers, offsets) for path in paths
    }
    nodes["/trials"] = nodes["/trials"].load()
    first, *others = (shard.attrs for shard in shards)
    shared = {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=shared), **nodes})


class _Rows(BackendArray):
    """Arrays one after another along their first dimension, each read only where it is asked for.

    Parameters
    ----------
    parts : sequence of Variable
        The arrays; they agree in type and trailing shape.
    offsets : ndarray, optional
        Added to the values of each part.
    """

    def __init__(self, parts: Sequence[xr.Variable], offsets: np.ndarray | None = None) -> None:
        first = parts[0]
        self._parts = parts
        self._offsets = offsets
        self._bfloat16 = is_bfloat16(first.attrs)
        self._ends = np.cumsum([len(part) for part in parts])
        self._starts = self._ends - [len(part) for part in parts]
        self.shape = (int(self._ends[-1]), *first.shape[1:])
        widest = np.result_type(*(part.dtype for part in parts))
        self.dtype = np.dtype(np.float32) if self._bfloat16 else widest

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[int | slice | np.ndarray, ...]) -> np.ndarray:
        """Read an index for each dimension, independent of each other; an int drops its own."""
        rows, rest = key[0], key[1:]
        if isinstance(rows, slice):
            if rows.step in (None, 1):
                return self._read_range(*rows.indices(self.shape[0])[:2], rest)
            rows = np.arange(*rows.indices(self.shape[0]))
        if np.ndim(rows) == 0:
            return self._read_rows(np.asarray(rows)[None], rest)[0]
        return self._read_rows(np.asarray(rows), rest)

    def _read_range(self, start: int, stop: int, rest: tuple) -> np.ndarray:
        touched = np.flatnonzero((self._starts < stop) & (self._ends > start))
        pieces = [
            self._part(i, slice(max(start - self._starts[i], 0), stop - self._starts[i]), rest)
            for i in touched
        ]
        return np.concatenate(pieces) if pieces else self._part(0, slice(0, 0), rest)

    def _read_rows(self, rows: np.ndarray, rest: tuple) -> np.ndarray:
        rows = np.where(rows < 0, rows + self.shape[0], rows)
        owners = np.searchsorted(self._ends, rows, side="right")
        result = np.empty((len(rows), *self._part(0, slice(0, 0), rest).shape[1:]), self.dtype)
        for i in np.unique(owners):
            own = owners == i
            result[own] = self._part(i, rows[own] - self._starts[i], rest)
        return result

    def _part(self, i: int, rows: slice | np.ndarray, rest: tuple) -> np.ndarray:
        values = self._parts[i][(rows, *rest)].values
        if self._bfloat16:
            return decode_bfloat16(values)
        return values if self._offsets is None else values + values.dtype.type(self._offsets[i])


def _stores(recordings: str | Path | Iterable[Path]) -> list[Path]:
    if isinstance(recordings, str):
        recordings = Path(recordings)
    if not isinstance(recordings, Path):
        stores = list(recordings)
    elif recordings.suffix == ".zarr":
        stores = [recordings]
    else:
        stores = sorted(recordings.glob("*.zarr"), key=lambda p: (len(p.stem), p.stem))
        stores = [store for store in stores if not store.name.startswith(".")]
    if not stores:
        raise StoreError(f"{recordings}: no recording in it. Record the task first.")
    return stores


def _open(store: Path) -> xr.DataTree:
    try:
        # Values are taken as they are: no attribute of a quantity turns it into a time.
        tree = xr.open_datatree(store, engine="zarr", chunks=None, decode_cf=False)
        if not {"subject", "task"} <= set(tree.attrs) or "trials" not in tree:
            raise ValueError("it lacks the attributes or the trials of one")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise StoreError(f"{store}: not a readable recording ({error}). Record again.") from None
    return tree


def _check_alike(store: Path, shard: xr.DataTree, first_store: Path, first: xr.DataTree) -> None:
    own, other = _signature(shard), _signature(first)
    for name in sorted(own.keys() | other.keys()):
        if own.get(name) != other.get(name):
            raise StoreError(
                f"{store}: '{name}' must be as in {first_store}, {other.get(name)}. "
                f"Got {own.get(name)}: open shards of one subject, task and configuration."
            )


def _signature(shard: xr.DataTree) -> dict[str, object]:
    """Describe what must be the same in every shard."""
    described: dict[str, object] = {name: shard.attrs.get(name) for name in ("subject", "task")}
    for node in shard.subtree:
        for name, variable in node.dataset.variables.items():
            growing = variable.dims[0] in GROWING
            is_text = variable.dtype.kind == "U"  # as wide as the longest
            described[f"{node.path.strip('/')}/{name}"] = (
                variable.dims,
                "text" if is_text else str(variable.dtype),
                variable.shape[1:] if growing else variable.values.tolist(),
            )
    return described


def _join(parts: list[xr.Dataset], numbers: list[int], offsets: np.ndarray) -> xr.Dataset:
    first = parts[0]
    joined, growing = {}, None
    for name, variable in first.variables.items():
        if variable.dims[0] not in GROWING:
            joined[name] = variable
            continue
        growing = variable.dims[0]
        counted_on = offsets if name == "trial" and growing != "trial" else None
        rows = _Rows([part.variables[name] for part in parts], counted_on)
        attributes = {k: v for k, v in variable.attrs.items() if not is_bfloat16({k: v})}
        joined[name] = (variable.dims, indexing.LazilyIndexedArray(rows), attributes)
    dataset = xr.Dataset(joined, attrs=first.attrs)
    if growing is None:
        return dataset
    shard = [
        xr.Variable(growing, np.broadcast_to(np.int32(number), part.sizes[growing]))
        for number, part in zip(numbers, parts, strict=True)
    ]
    return dataset.assign_coords(shard=(growing, indexing.LazilyIndexedArray(_Rows(shard))))
