"""Matrices of edges, and maps of cycles."""

from __future__ import annotations

import numpy as np
import xarray as xr

from lmri.report import words
from lmri.report.connect.tables import SOURCE, Networks, Place
from lmri.report.figures.heat import draw_map
from lmri.report.view import Figure, Panel

WIDTH = 420
LIMIT = 6.0
"""Deviations of the strongest colour."""

MARKED = 12
"""Nodes that are outlined, at most."""


def edge_figure(
    networks: Networks, kind: str, network: str, alpha: float, data: str
) -> Figure | None:
    """Draw the edges of every subject and phase, as deviations from the null.

    Parameters
    ----------
    networks : Networks
        All of them.
    kind : str
        Kind of the nodes.
    network : str
        Which network.
    alpha : float
        Level of the max-statistic.
    data : str
        File with the clearest edges.

    Returns
    -------
    Figure or None
        None without such a network.
    """
    panels, told = [], []
    for place, own in networks.found.items():
        if place.kind != kind or network not in own["network"].values:
            continue
        cell = own.sel(network=network)
        z = np.nan_to_num(cell["edge_z"].values)
        spread, names, marks = by_layer(z, own["node_layer"].values, list(own["node"].values))
        drawing = draw_map(
            spread,
            [],
            LIMIT,
            f"edges-{kind}-{network}-{len(panels)}",
            width=WIDTH,
            axes_names=(f"{_nodes(kind)}, as rows (L: layer)", _named(kind)),
            rows=names,
            columns=marks,
            scale_name="z",
        )
        panels.append(Panel(drawing, title=_title(place)))
        told.append(f"{_title(place)}: {_counted(cell, alpha)}")
    if not panels:
        return None
    inside = (
        " with the mean of its condition taken out of each trial" if network == "within" else ""
    )
    return Figure(
        title=f"Which {_nodes(kind)} go together{inside}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Good: blocks of orange, units that are active in the same trials more than the null "
            "allows (z: deviations above its mean). Nodes are in the order of layers, with a gap "
            "between two; rows are named by layer and expert, some of them where there are many, "
            "and columns are in the same order. 0 is the null, not a correlation of 0: two experts "
            "of a layer exclude each other by the number that a token chooses."
            if kind == "expert"
            else "Good: blocks of orange, units whose activity goes together more than that of "
            "units for which places have changed places (z: deviations above that)."
        ),
        falsify=(
            "Bad: a pale matrix, which is what independent preferences give. Blue is less than "
            "the null: units that stand in for each other."
        ),
        source=SOURCE,
        data=data,
        layout="medium",
    )


def cycle_figure(networks: Networks, kind: str, network: str, data: str) -> Figure | None:
    """Draw how many cycles of three each node is in, beyond graphs of the same degrees."""
    panels, told = [], []
    for place, own in networks.found.items():
        if place.kind != kind or "triangles" not in own or network not in own["network"].values:
            continue
        cell = own.sel(network=network)
        excess = cell["triangles"].values - cell["triangles_mean"].values
        if not np.isfinite(excess).any():
            continue
        layers = np.unique(own["node_layer"].values)
        units = own["node_unit"].values
        table = np.full((len(layers), int(units.max()) + 1), np.nan)
        rows = np.searchsorted(layers, own["node_layer"].values)
        table[rows, units] = excess
        p = cell["triangles_p"].values
        best = [n for n in np.argsort(p, kind="stable") if p[n] <= 0.05 and excess[n] > 0][:MARKED]
        drawing = draw_map(
            table,
            [(int(rows[n]), int(units[n])) for n in best],
            max(float(np.nanmax(np.abs(excess))), 1.0),
            f"cycles-{kind}-{network}-{len(panels)}",
            width=WIDTH,
            axes_names=(kind, "layer"),
            rows=[str(layer) for layer in layers],
            scale_name="excess",
        )
        panels.append(Panel(drawing, title=_title(place)))
        told.append(
            f"{_title(place)}: {int(cell['triangles_total'])} cycles, p "
            f"{words.probability(float(cell['triangles_total_p']))}"
        )
    if not panels:
        return None
    return Figure(
        title=f"Cycles of three {_nodes(kind)}",
        panels=panels,
        alt=f"{'; '.join(told)}.",
        look_for=(
            "Good: outlined nodes (p up to .05 of the node alone), which are in more cycles of "
            "three than in graphs in which every node keeps its number of edges."
        ),
        falsify=(
            "Bad: no node is outlined, or the total in the table is as in rewired graphs. Graphs "
            "of correlations have cycles whatever is measured, so a total alone says little."
        ),
        source=SOURCE,
        data=data,
        layout="medium",
    )


def by_layer(
    z: np.ndarray, layers: np.ndarray, nodes: list[str]
) -> tuple[np.ndarray, list[str], list[str]]:
    """Part the nodes of a matrix layer by layer.

    Parameters
    ----------
    z : ndarray of shape (n_nodes, n_nodes)
        Edges.
    layers : ndarray of shape (n_nodes,), int
        Layer of each node, in order.
    nodes : list of str
        Their names.

    Returns
    -------
    z : ndarray of shape (n_places, n_places)
        With an empty row and column between two layers; none where each node is a layer.
    rows, columns : list of str
        Names of the nodes, and at the first node of each layer which one it is.
    """
    first = np.flatnonzero(np.diff(layers, prepend=layers[0] - 1))
    gaps = first[1:] if len(first) < len(layers) else first[:0]
    spread = np.insert(np.insert(z, gaps, np.nan, axis=0), gaps, np.nan, axis=1)
    marks = np.full(len(layers), "", dtype=object)
    marks[first] = [f"L{layer}" for layer in layers[first]]
    rows, columns = (np.insert(np.array(own, dtype=object), gaps, "") for own in (nodes, marks))
    return spread, [str(name) for name in rows], [str(name) for name in columns]


def _title(place: Place) -> str:
    return f"{place.subject}, {words.readable(place.task)}, {words.phase_name(place.phase)}"


def _nodes(kind: str) -> str:
    return words.plural_of(kind)


def _named(kind: str) -> str:
    return kind if kind == "layer" else f"layer.{kind}"


def _counted(cell: xr.Dataset, alpha: float) -> str:
    i, j = np.triu_indices(cell.sizes["node"], 1)
    clear = cell["edge_p_max"].values[i, j] <= alpha
    rising = int((clear & (cell["edge_z"].values[i, j] > 0)).sum())
    return f"{rising} edges above and {int(clear.sum()) - rising} below the null of {len(i)}"
