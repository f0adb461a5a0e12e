"""Reading the activity that is decoded: one layer at one position of all trials at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.checks import check_choice
from lmri.decode.positions import PROMPT_LAST, Position, TokenIndex, index_tokens
from lmri.errors import EvidenceError
from lmri.store import open_recordings

QUANTITIES = {
    "residual": ("residual", "residual"),
    "neuron": ("neuron", "activation"),
    "router": ("router", "logits"),
    "head": ("head", "norm"),
    "layer": ("layer", "norm"),
}
"""Node and array of every quantity that gives a unit a number for each token."""

PLACE = "after"
"""Place of the residual stream: what a block leaves behind."""

AROUND = (-3, -2, -1)
"""Tokens before the last of the prompt, and of the response, that are read by default."""

FOLLOWING = ("response_first", "response_first+1", "response_first+2")


@dataclass(frozen=True)
class Activity:
    """Activity of one subject on one task.

    Attributes
    ----------
    tree : DataTree
        All shards.
    quantity : str
        One of :data:`QUANTITIES`.
    trials : DataFrame
        One row a trial: the first of sampled repeats.
    rows : ndarray of shape (n_trials,), int64
        Their places in the recording.
    """

    tree: xr.DataTree
    quantity: str
    trials: pd.DataFrame
    rows: np.ndarray

    @property
    def layers(self) -> list[int]:
        """Ids of the layers."""
        return [int(own) for own in self._pooled["layer"].values]

    @property
    def phases(self) -> list[str]:
        """Phases that were pooled."""
        return [str(own) for own in self._pooled["phase"].values]

    @property
    def units(self) -> int:
        """Units of a layer; 1 where a layer is one number."""
        return 1 if self._pooled.dims[-1] == "layer" else self._pooled.shape[-1]

    @property
    def has_tokens(self) -> bool:
        """Whether every token was recorded."""
        node, name = QUANTITIES[self.quantity]
        return _holds(self.tree, f"tokens/{node}", name)

    @cached_property
    def index(self) -> TokenIndex:
        """Where the tokens of every trial of the recording lie."""
        return index_tokens(self.tree)

    def default_positions(self, phases: Sequence[str]) -> list[str]:
        """Name the positions that are read unless the study says which.

        Parameters
        ----------
        phases : sequence of str
            Phases of the maps.

        Returns
        -------
        list of str
            In the order of a trial; tokens only where they were recorded.
        """
        order = [name for name in self.phases if name in phases and name != "response"]
        if self.has_tokens:
            order = [name for name in order if name != PROMPT_LAST]
            order += [f"{PROMPT_LAST}{offset}" for offset in AROUND]
            order += [PROMPT_LAST, *FOLLOWING]
        order += [name for name in ("response",) if name in self.phases and name in phases]
        if "response" in self.phases and "response" in phases:
            order += [f"response_last{own}" for own in AROUND] if self.has_tokens else []
            order += ["response_last"]
        return order

    def at(self, layer: int, position: Position, trials: np.ndarray) -> np.ndarray:
        """Read a layer at a position.

        Parameters
        ----------
        layer : int
            Its id.
        position : Position
            The position.
        trials : ndarray of shape (n,), int64
            Which of :attr:`trials`.

        Returns
        -------
        ndarray of shape (n, n_units), float64
            Activity; NaN of a trial that has no such token.
        """
        rows = self.rows[trials]
        if position.phase is None:
            return self.tokens(layer, self.index.rows(position)[rows])
        own = self._pooled.isel(layer=self.layers.index(layer))
        own = own.sel(phase=position.phase, statistic=position.statistic).isel(trial=rows)
        return np.asarray(own.values, dtype=np.float64).reshape(len(rows), -1)

    def tokens(self, layer: int, rows: np.ndarray) -> np.ndarray:
        """Read tokens of a layer.

        Parameters
        ----------
        layer : int
            Its id.
        rows : ndarray of int64
            Rows of the recorded tokens; -1 for none.

        Returns
        -------
        ndarray of shape (*rows.shape, n_units), float64
            Activity; NaN where there is no token.
        """
        node, name = QUANTITIES[self.quantity]
        array = _placed(self.tree[f"tokens/{node}"][name]).isel(layer=self.layers.index(layer))
        known = rows >= 0
        # Each token once, in the order in which they lie on disk.
        wanted, place = np.unique(rows[known], return_inverse=True)
        values = np.full((*rows.shape, self.units), np.nan)
        if len(wanted):
            read = np.asarray(array.isel(token=wanted).values, dtype=np.float64)
            values[known] = read.reshape(len(wanted), -1)[place]
        return values

    @cached_property
    def _pooled(self) -> xr.DataArray:
        node, name = QUANTITIES[self.quantity]
        return _placed(self.tree[f"pooled/{node}"][name])


def open_activity(folder: Path, quantity: str, *, verify: bool = True) -> Activity:
    """Open the recordings of a task.

    Parameters
    ----------
    folder : Path
        With ``<shard>.zarr``.
    quantity : str
        One of :data:`QUANTITIES`.
    verify : bool
        Check every byte against the manifests first.

    Returns
    -------
    Activity
        The activity; nothing but the table of trials is read.

    Raises
    ------
    EvidenceError
        If the quantity was not recorded.
    StoreError
        If there is no recording, or it is damaged.
    """
    check_choice(quantity, QUANTITIES, "quantity", "decoding", EvidenceError)
    tree = open_recordings(folder, verify=verify)
    if not holds_pooled(tree, quantity):
        raise EvidenceError(
            f"decoding needs '{quantity}', which was not recorded: add it to 'record.quantities', "
            "or set another 'decode.quantity'."
        )
    table = tree["trials"].dataset.to_dataframe().reset_index()
    first = np.ones(len(table), dtype=bool)
    if "repeat" in table:
        first = (table["repeat"] == 0).to_numpy()
    rows = np.flatnonzero(first)
    return Activity(tree, quantity, table.iloc[rows].reset_index(drop=True), rows)


def holds_pooled(tree: xr.DataTree, quantity: str) -> bool:
    """Whether the pooled activity of one of :data:`QUANTITIES` was recorded."""
    node, name = QUANTITIES[quantity]
    return _holds(tree, f"pooled/{node}", name)


def _holds(tree: xr.DataTree, node: str, name: str) -> bool:
    return f"/{node}" in tree.groups and name in tree[node].data_vars


def _placed(array: xr.DataArray) -> xr.DataArray:
    if "place" not in array.dims:
        return array
    places = [str(own) for own in array["place"].values]
    return array.isel(place=places.index(PLACE))
