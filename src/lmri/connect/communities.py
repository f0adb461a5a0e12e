"""Communities of nodes: a partition on which many runs agree, against rewired graphs."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from lmri.checks import check_range
from lmri.connect.graphs import rewired
from lmri.errors import EvidenceError

MOST_ROUNDS = 20
"""Rounds of agreement after which the best partition so far is taken."""


@dataclass(frozen=True)
class Communities:
    """A partition of nodes.

    Attributes
    ----------
    labels : ndarray of shape (n_nodes,), int64
        Community of each node, the largest is 0; -1 for a node without an edge.
    count : int
        Communities.
    modularity : float
        Of the partition.
    null_mean, null_sd : float
        Modularity of the best partitions of rewired graphs.
    p : float
        One-sided. A partition is found in any graph: with a large p it is no structure.
    agreement : float
        Mean share of the runs, over pairs of nodes, that agree with the partition.
    """

    labels: np.ndarray
    count: int
    modularity: float
    null_mean: float
    null_sd: float
    p: float
    agreement: float


def communities(graph: np.ndarray, runs: int = 20, draws: int = 99, seed: int = 0) -> Communities:
    """Find communities by Louvain's method, run from many seeds until all runs agree.

    Runs of the method end in different partitions. Their agreement (how often two nodes are
    together) is a graph itself; edges below one half are dropped and it is partitioned again, until
    all runs give one partition.

    Parameters
    ----------
    graph : ndarray of shape (n_nodes, n_nodes), bool
        The graph.
    runs : int
        Runs in each round.
    draws, seed : int
        Number of rewired graphs, and the seed of all draws.

    Returns
    -------
    Communities
        The partition.

    References
    ----------
    V. D. Blondel et al., Fast unfolding of communities in large networks, J. Stat. Mech. (2008);
    A. Lancichinetti and S. Fortunato, Consensus clustering in complex networks, Scientific Reports
    2 (2012).
    """
    check_range(runs, "runs", "communities", 2, error=EvidenceError)
    check_range(draws, "draws", "communities", 1, error=EvidenceError)
    if not graph.any():
        raise EvidenceError("Communities must be of a graph with an edge. Got none.")
    first = _partitions(graph.astype(float), runs, seed)
    labels = _consensus(first, runs, seed)
    together = np.mean([own[:, None] == own for own in first], axis=0)
    same = labels[:, None] == labels
    pairs = np.triu_indices(len(labels), 1)
    agreement = np.where(same, together, 1 - together)[pairs].mean()
    modularity = _modularity(graph, labels)
    drawn = []
    for number in range(draws):
        null = rewired(graph, seed + number)
        best = nx.community.louvain_communities(nx.from_numpy_array(null), seed=seed + number)
        drawn.append(nx.community.modularity(nx.from_numpy_array(null), best))
    return Communities(
        labels=np.where(graph.any(axis=0), labels, -1),
        count=len(np.unique(labels[graph.any(axis=0)])),
        modularity=modularity,
        null_mean=float(np.mean(drawn)),
        null_sd=float(np.std(drawn)),
        p=float((1 + np.sum(np.array(drawn) >= modularity - 1e-12)) / (1 + draws)),
        agreement=float(agreement),
    )


def _consensus(partitions: np.ndarray, runs: int, seed: int) -> np.ndarray:
    for round_number in range(1, MOST_ROUNDS + 1):
        together = np.mean([own[:, None] == own for own in partitions], axis=0)
        if np.isin(together, (0.0, 1.0)).all():
            break
        weights = np.where(together >= 0.5, together, 0.0)
        np.fill_diagonal(weights, 0.0)
        partitions = _partitions(weights, runs, seed + 1000 * round_number)
    return partitions[0]


def _partitions(weights: np.ndarray, runs: int, seed: int) -> np.ndarray:
    """Partition from several seeds: labels of shape (runs, n_nodes), by size."""
    graph = nx.from_numpy_array(weights)
    found = np.empty((runs, len(weights)), dtype=np.int64)
    for run in range(runs):
        own = nx.community.louvain_communities(graph, seed=seed + run)
        ordered = sorted(own, key=lambda nodes: (-len(nodes), min(nodes)))
        for label, nodes in enumerate(ordered):
            found[run, list(nodes)] = label
    return found


def _modularity(graph: np.ndarray, labels: np.ndarray) -> float:
    own = [set(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]
    return float(nx.community.modularity(nx.from_numpy_array(graph), own))
