"""Graphs of the strongest edges, and how many cycles of three each node is in.

A graph of correlations has more triangles than a random one whatever is measured (A with B and B
with C leave little freedom to A with C), and nodes with many edges are in many triangles. The null
is therefore a graph in which every node keeps its number of edges.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import networkx as nx
import numpy as np

from lmri.checks import check_range
from lmri.errors import EvidenceError

LEAST_EDGES = 4
"""Edges of a graph that can be rewired."""

SWAPS = 10
"""Swaps of a rewired graph for each of its edges."""


@dataclass(frozen=True)
class CycleMap:
    """Triangles of each node.

    Attributes
    ----------
    triangles : ndarray of shape (n_nodes,), int64
        Number of triangles.
    null_mean, null_sd : ndarray of shape (n_nodes,)
        Of rewired graphs.
    p : ndarray of shape (n_nodes,)
        One-sided: rewired graphs in which the node is in as many.
    total : int
        Triangles of the graph.
    total_p : float
        One-sided.
    """

    triangles: np.ndarray
    null_mean: np.ndarray
    null_sd: np.ndarray
    p: np.ndarray
    total: int
    total_p: float


def strongest_edges(weights: np.ndarray, density: float) -> np.ndarray:
    """Keep the largest positive weights.

    Parameters
    ----------
    weights : ndarray of shape (n_nodes, n_nodes)
        Symmetric; of experts the z of an edge against the routing shuffle, since the correlations
        of popular experts are lowered most.
    density : float
        Share of the possible edges that are kept, at most: fewer where fewer are positive.

    Returns
    -------
    ndarray of shape (n_nodes, n_nodes), bool
        The graph, without loops.

    Raises
    ------
    EvidenceError
        If the density is not in (0, 1], or fewer than :data:`LEAST_EDGES` edges are kept.
    """
    check_range(density, "density", "a graph", 0, 1, error=EvidenceError)
    nodes = len(weights)
    rows, columns = np.triu_indices(nodes, 1)
    own = weights[rows, columns]
    count = round(density * len(own))
    best = np.argsort(-own, kind="stable")[:count]
    best = best[own[best] > 0]
    if len(best) < LEAST_EDGES:
        raise EvidenceError(
            f"A graph must have {LEAST_EDGES} edges or more. Density {density:g} of {nodes} nodes "
            f"gives {len(best)} with a positive weight: raise 'connect.density', or compare more "
            "nodes."
        )
    graph = np.zeros((nodes, nodes), dtype=bool)
    graph[rows[best], columns[best]] = graph[columns[best], rows[best]] = True
    return graph


def triangles(graph: np.ndarray) -> np.ndarray:
    """Count the triangles of each node: diag(B^3) / 2.

    Parameters
    ----------
    graph : ndarray of shape (n_nodes, n_nodes), bool
        Symmetric, without loops.

    Returns
    -------
    ndarray of shape (n_nodes,), int64
        Numbers.
    """
    adjacency = graph.astype(np.float64)  # exact up to 2^53, and a matrix product
    return np.rint(np.einsum("ij,ji->i", adjacency @ adjacency, adjacency) / 2).astype(np.int64)


def rewired(graph: np.ndarray, seed: int) -> np.ndarray:
    """Exchange the ends of edges; every node keeps its number of edges.

    Parameters
    ----------
    graph : ndarray of shape (n_nodes, n_nodes), bool
        The graph.
    seed : int
        Seed of the swaps, of which there are :data:`SWAPS` for each edge; in a graph that allows
        fewer (a star allows none), as many as are found.

    Returns
    -------
    ndarray of shape (n_nodes, n_nodes), bool
        A graph of the same degrees.
    """
    own = nx.from_numpy_array(graph)
    edges = own.number_of_edges()
    with suppress(nx.NetworkXException):  # no swap is left to make: what there is, is the null
        nx.double_edge_swap(own, nswap=SWAPS * edges, max_tries=100 * SWAPS * edges, seed=seed)
    return nx.to_numpy_array(own, nodelist=range(len(graph)), dtype=np.float64) > 0


def cycle_map(graph: np.ndarray, draws: int = 99, seed: int = 0) -> CycleMap:
    """Compare the triangles of each node with those in rewired graphs.

    Parameters
    ----------
    graph : ndarray of shape (n_nodes, n_nodes), bool
        The graph.
    draws, seed : int
        Number of rewired graphs, and their seed.

    Returns
    -------
    CycleMap
        The comparison.

    References
    ----------
    S. Dey, A. R. Rao, M. Shah, Exploiting the brain's network structure in identifying ADHD
    subjects, Frontiers in Systems Neuroscience 6 (2012): cycles of three as features of nodes.
    """
    check_range(draws, "draws", "a cycle map", 1, error=EvidenceError)
    own = triangles(graph)
    drawn = np.stack([triangles(rewired(graph, seed + number)) for number in range(draws)])
    totals = drawn.sum(axis=1)
    return CycleMap(
        triangles=own,
        null_mean=drawn.mean(axis=0),
        null_sd=drawn.std(axis=0),
        p=(1 + (drawn >= own).sum(axis=0)) / (1 + draws),
        total=int(own.sum()) // 3,
        total_p=float((1 + (totals >= own.sum()).sum()) / (1 + draws)),
    )
