"""What the page of networks reads, and the numbers behind it as rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.config import StudyConfig
from lmri.errors import StoreError
from lmri.report.layers.probes import read_reasons
from lmri.report.reader import Reader
from lmri.store import read_map

SOURCE = "analyses/connect/<subject>/<task>.<phase>.<kind>.zarr"
NEEDED = ("edge_value", "edge_null_mean", "edge_z", "edge_p", "edge_p_max", "edge_q")
GRAPH = ("triangles_total", "triangles_total_p", "communities", "modularity", "modularity_p")

TOLD = 0.05
"""Largest p of an edge that is in the file."""


@dataclass(frozen=True)
class Place:
    """Which network: those of one subject, task, phase and kind of units."""

    subject: str
    task: str
    phase: str
    kind: str


@dataclass(frozen=True)
class Networks:
    """Networks of all subjects.

    Attributes
    ----------
    found : dict of Place to Dataset
        In the order of the study.
    left_out : dict of str to dict of str to str
        By subject: why something is not there.
    """

    found: dict[Place, xr.Dataset] = field(default_factory=dict)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is anything to show, or to say of why there is not."""
        return bool(self.found or any(self.left_out.values()))


def read_networks(reader: Reader, config: StudyConfig) -> Networks:
    """Read the networks of all subjects; there are none of a study without kinds.

    Parameters
    ----------
    reader : Reader
        Notes what is missing.
    config : StudyConfig
        Which subjects, tasks, phases and kinds.

    Returns
    -------
    Networks
        What there is.
    """
    networks = Networks()
    phases = config.connect.phases or config.localise.phases
    for subject in config.subjects if config.connected_tasks else ():
        folder = f"analyses/connect/{subject}"
        left_out = reader.read(subject, f"{folder}/left_out.json", read_reasons, {})
        networks.left_out[subject] = left_out
        for task in config.connected_tasks:
            for phase in phases:
                for kind in config.connect.kinds:
                    name = f"{task}.{phase}.{kind}"
                    if name in left_out:
                        continue
                    own = reader.read(subject, f"{folder}/{name}.zarr", _read, None)
                    if own is not None:
                        networks.found[Place(subject, task, phase, kind)] = own
    return networks


def _read(path: Path) -> xr.Dataset:
    dataset = read_map(path)
    for name in NEEDED:
        if name not in dataset or dataset[name].dims != ("network", "node", "other"):
            raise StoreError(
                f"{path}: has no '{name}' by network, node, other. Run the stage 'connect' again."
            )
    return dataset


def network_frame(networks: Networks, alpha: float) -> pd.DataFrame:
    """Tell each network in a row.

    Parameters
    ----------
    networks : Networks
        All of them.
    alpha : float
        Level of the max-statistic.

    Returns
    -------
    DataFrame
        ``subject``, ``task``, ``phase``, ``kind``, ``network``; nodes, trials, edges, how many of
        them rise or fall beyond the null, means over edges within a layer with those of the null,
        and what its graph says (NaN without one).
    """
    rows = []
    for place, own in networks.found.items():
        layers = own["node_layer"].values
        i, j = np.triu_indices(len(layers), 1)
        same = layers[i] == layers[j]
        for network in own["network"].values:
            cell = own.sel(network=network)
            z, p_max = (cell[f"edge_{name}"].values[i, j] for name in ("z", "p_max"))
            value, null = (cell[f"edge_{name}"].values[i, j] for name in ("value", "null_mean"))
            rows.append(
                {
                    **vars(place),
                    "network": str(network),
                    "nodes": len(layers),
                    "trials": int(own.attrs["n_trials"]),
                    "exchanged": str(own.attrs["exchanged"]),
                    "moved": float(own.attrs["moved"]),
                    "edges": len(z),
                    "rising": int(((p_max <= alpha) & (z > 0)).sum()),
                    "falling": int(((p_max <= alpha) & (z < 0)).sum()),
                    "mean_in_layer": float(np.tanh(value[same].mean())) if same.any() else np.nan,
                    "null_in_layer": float(np.tanh(null[same].mean())) if same.any() else np.nan,
                    **{name: float(cell[name]) if name in own else np.nan for name in GRAPH},
                }
            )
    return pd.DataFrame(rows)


def edge_frame(networks: Networks) -> pd.DataFrame:
    """List edges with a p up to :data:`TOLD`, the clearest of each network first."""
    parts = []
    for place, own in networks.found.items():
        names = own["node"].values
        i, j = np.triu_indices(len(names), 1)
        for network in own["network"].values:
            cell = own.sel(network=network)
            frame = pd.DataFrame(
                {
                    "node": names[i],
                    "other": names[j],
                    "correlation": np.tanh(cell["edge_value"].values[i, j]),
                    "null_mean": np.tanh(cell["edge_null_mean"].values[i, j]),
                    **{
                        name: cell[f"edge_{name}"].values[i, j] for name in ("z", "p", "p_max", "q")
                    },
                }
            )
            frame = frame[frame["p"] <= TOLD].assign(**vars(place), network=str(network))
            parts.append(frame.sort_values("z", key=np.abs, ascending=False, kind="stable"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def difference_frame(networks: Networks, alpha: float) -> pd.DataFrame:
    """Tell in a row how connectivity differs between the sides of a contrast."""
    rows = []
    for place, own in networks.found.items():
        for contrast in own["contrast"].values if "contrast" in own.dims else ():
            cell = own.sel(contrast=contrast)
            p_max = cell["difference_p_max"].values
            rows.append(
                {
                    **vars(place),
                    "contrast": str(contrast),
                    "distance": float(cell["distance"]),
                    "p": float(cell["distance_p"]),
                    "edges": int((p_max <= alpha).sum()) // 2,
                    "n_target": int(cell["n_target"]),
                    "n_control": int(cell["n_control"]),
                    "exchanged": str(cell["exchanged"].values),
                }
            )
    return pd.DataFrame(rows)


def node_frame(networks: Networks) -> pd.DataFrame:
    """Tell the degree, triangles and community of each node."""
    names = ("degree", "triangles", "triangles_mean", "triangles_p", "community")
    parts = []
    for place, own in networks.found.items():
        if "triangles" in own:
            frame = own[list(names)].to_dataframe().reset_index()
            frame = frame[["network", "node", "node_layer", "node_unit", *names]]
            parts.append(frame.dropna().assign(**vars(place)))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
