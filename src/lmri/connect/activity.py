"""Nodes of a network by trial: how often experts are chosen, norms of heads and of layers.

One row is a trial; of sampled repeats it is the first. A trial without a token in the phase has no
activity and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from lmri.anatomy import phase_tokens
from lmri.checks import check_choice
from lmri.errors import EvidenceError

POOLED = {"head": "pooled/head", "layer": "pooled/layer"}
"""Nodes of the recording whose variable ``norm`` is the activity of a kind."""

KINDS = ("expert", *POOLED)

TOKENS_AT_ONCE = 65536

LEAST_TRIALS = 20
"""Trials that a matrix is estimated from, at least."""

LEAST_ACTIVE = 10
"""Trials in which a node is not as it mostly is, at least: two experts that are chosen once each,
in one trial, have a correlation of 1."""

LEAST_NODES = 3
"""Nodes of a network, at least: the shortest cycle has three."""


@dataclass(frozen=True)
class Activity:
    """Activity of the nodes of one kind in one phase.

    Attributes
    ----------
    kind, phase : str
        Which.
    table : DataFrame
        Trials, one row each.
    values : ndarray of shape (n_trials, n_layers, n_units), float64
        Of experts choices per token, of heads and layers norms.
    tokens : ndarray of shape (n_trials,), int64
        Tokens of the phase.
    layers : tuple of int
        Layer ids.
    nodes : ndarray of shape (n_nodes, 2), int64
        Place of the layer, and unit, of those that are compared: see :func:`select_nodes`.
    left_out : dict of str to int
        Units that are no nodes, by reason.
    """

    kind: str
    phase: str
    table: pd.DataFrame
    values: np.ndarray
    tokens: np.ndarray
    layers: tuple[int, ...]
    nodes: np.ndarray
    left_out: dict[str, int]

    @property
    def matrix(self) -> np.ndarray:
        """Activity of the nodes: array of shape (n_trials, n_nodes), float64."""
        return self.columns(self.values)

    def columns(self, values: np.ndarray) -> np.ndarray:
        """Pick the nodes from values of all units.

        Parameters
        ----------
        values : ndarray of shape (n, n_layers, n_units)
            Values of all units.

        Returns
        -------
        ndarray of shape (n, n_nodes)
            Those of the nodes.
        """
        return values[:, self.nodes[:, 0], self.nodes[:, 1]]

    @property
    def names(self) -> list[str]:
        """Names of the nodes, ``<layer>.<unit>``; of layers ``<layer>``."""
        if self.kind == "layer":
            return [str(self.layers[layer]) for layer, _ in self.nodes]
        return [f"{self.layers[layer]}.{unit}" for layer, unit in self.nodes]

    def rows(self, chosen: np.ndarray) -> Activity:
        """Keep some trials.

        Parameters
        ----------
        chosen : ndarray of shape (n_trials,), bool
            Which.

        Returns
        -------
        Activity
            Of these trials, with the same nodes.
        """
        return replace(
            self,
            table=self.table[chosen].reset_index(drop=True),
            values=self.values[chosen],
            tokens=self.tokens[chosen],
        )


def read_activity(
    tree: xr.DataTree, kind: str, phase: str, *, split: str | None = "selection", nodes: int = 256
) -> Activity:
    """Read the activity of nodes from a recording.

    Memory is that of trials by units of the kind; tokens are streamed.

    Parameters
    ----------
    tree : DataTree
        All shards of a task, see :func:`lmri.store.open_recordings`.
    kind : str
        One of :data:`KINDS`.
    phase : str
        A phase of the recording.
    split : str or None
        Split of the trials; None takes all.
    nodes : int
        Nodes, at most: of more units those whose activity varies most.

    Returns
    -------
    Activity
        With its nodes.

    Raises
    ------
    EvidenceError
        If the quantity was not recorded, the phase is unknown, or there are fewer than
        :data:`LEAST_TRIALS` trials with a token in it or :data:`LEAST_NODES` units that vary.
    """
    check_choice(kind, KINDS, "kind", "a network", EvidenceError)
    table = tree["trials"].dataset.to_dataframe().reset_index()
    chosen = np.ones(len(table), dtype=bool)
    if split is not None:
        chosen &= (table["split"] == split).to_numpy()
    if "repeat" in table:
        chosen &= (table["repeat"] == 0).to_numpy()
    read = _choices if kind == "expert" else _norms
    layers, values, tokens = read(tree, kind, phase, table, np.flatnonzero(chosen))
    present = tokens > 0
    if present.sum() < LEAST_TRIALS:
        raise EvidenceError(
            f"A network of the kind '{kind}' must be estimated from {LEAST_TRIALS} trials or more. "
            f"{int(present.sum())} of the split '{split}' have a token in the phase '{phase}': "
            "record more, or choose another phase or split."
        )
    table = table[chosen][present].reset_index(drop=True)
    none = np.zeros((0, 2), dtype=np.int64)
    found = Activity(kind, phase, table, values[present], tokens[present], layers, none, {})
    return select_nodes(found, nodes)


def select_nodes(activity: Activity, most: int) -> Activity:
    """Choose the units that are compared: those that vary most, without looking at labels.

    Parameters
    ----------
    activity : Activity
        Activity of all units.
    most : int
        Nodes, at most.

    Returns
    -------
    Activity
        With ``nodes``, in the order of layers and units.

    Raises
    ------
    EvidenceError
        If fewer than :data:`LEAST_NODES` units vary.
    """
    values = activity.values
    # Not var(axis=0) > 0: rounding gives a constant a variance.
    varies = np.ptp(values, axis=0) > 1e-9 * np.abs(values).max(axis=0)
    rarely = varies & (_active_trials(values) < LEAST_ACTIVE)
    left_out = {
        "constant": int((~varies).sum()),
        f"varies in fewer than {LEAST_ACTIVE} trials": int(rarely.sum()),
    }
    varies = varies & ~rarely
    if varies.sum() < LEAST_NODES:
        raise EvidenceError(
            f"A network of the kind '{activity.kind}' must have {LEAST_NODES} nodes or more that "
            f"vary in {LEAST_ACTIVE} trials or more of the {len(values)} of the phase "
            f"'{activity.phase}'. Got {int(varies.sum())} of {varies.size}: choose another phase, "
            "or record more trials."
        )
    places = np.argwhere(varies)
    if len(places) > most:
        variance = values.var(axis=0)[varies]
        kept = np.sort(np.argsort(-variance, kind="stable")[:most])
        left_out["beyond the largest number of nodes"] = len(places) - most
        places = places[kept]
    return replace(activity, nodes=places, left_out={k: n for k, n in left_out.items() if n})


def _active_trials(values: np.ndarray) -> np.ndarray:
    """Count the trials in which each unit is not as it mostly is: array of shape of a trial."""
    flat = values.reshape(len(values), -1)
    most = [np.unique(column, return_counts=True)[1].max() for column in flat.T]
    return (len(values) - np.array(most)).reshape(values.shape[1:])


def _norms(
    tree: xr.DataTree, kind: str, phase: str, table: pd.DataFrame, rows: np.ndarray
) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    if POOLED[kind] not in tree.groups and f"/{POOLED[kind]}" not in tree.groups:
        raise _not_recorded(kind, kind)
    norm = tree[POOLED[kind]].dataset["norm"]
    _check_phase(phase, norm["phase"].values)
    own = norm.sel(phase=phase)
    if kind == "layer":
        own = own.sel(place="after")
    own = own.isel(trial=rows)
    mean = own.sel(statistic="mean").values.astype(np.float64)
    present = np.isfinite(mean).reshape(len(rows), -1).all(axis=1)
    values = mean[:, :, None] if kind == "layer" else mean
    return tuple(int(layer) for layer in norm["layer"].values), values, present.astype(np.int64)


def _choices(
    tree: xr.DataTree, kind: str, phase: str, table: pd.DataFrame, rows: np.ndarray
) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    if "/tokens/router" not in tree.groups:
        raise _not_recorded(kind, "router")
    router, index = tree["tokens/router"].dataset, tree["tokens/index"].dataset
    spans = [str(name) for name in index["phase"].attrs["phases"]]
    if "/pooled/router" in tree.groups:
        _check_phase(phase, tree["pooled/router"].dataset["phase"].values)
        experts = tree["pooled/router"].sizes["expert"]
    else:
        experts = int(router["expert_id"].max()) + 1
    place_of = np.full(len(table), -1)
    place_of[rows] = np.arange(len(rows))
    layers = tuple(int(layer) for layer in router["layer"].values)
    counts = np.zeros((len(rows), len(layers), experts))
    tokens = np.zeros(len(rows), dtype=np.int64)
    for start in range(0, router.sizes["token"], TOKENS_AT_ONCE):
        block = slice(start, start + TOKENS_AT_ONCE)
        own = {name: index[name][block].values for name in ("trial", "position", "phase")}
        inside = phase_tokens(table, {**own, "spans": spans}, phase)
        kept = np.flatnonzero(inside & (place_of[own["trial"]] >= 0))
        if not len(kept):
            continue
        place = place_of[own["trial"][kept]]
        ids = router["expert_id"][block].values[kept].astype(np.int64)
        np.add.at(counts, (place[:, None, None], np.arange(len(layers))[:, None], ids), 1)
        np.add.at(tokens, place, 1)
    return layers, counts / np.maximum(tokens, 1)[:, None, None], tokens


def _check_phase(phase: str, known: np.ndarray) -> None:
    check_choice(phase, [str(name) for name in known], "phase", "the recording", EvidenceError)


def _not_recorded(kind: str, quantity: str) -> EvidenceError:
    return EvidenceError(
        f"A network of the kind '{kind}' needs the quantity '{quantity}', which was not recorded: "
        "add it to 'record.quantities' of the configuration and record again."
    )
