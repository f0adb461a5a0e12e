"""Communities that are planted, and none in graphs without."""

import networkx as nx
import numpy as np
import pytest

from lmri.connect.communities import communities
from lmri.errors import EvidenceError


def blocks(inside, outside, seed=0):
    graph = nx.stochastic_block_model(
        [15] * 3, np.full((3, 3), outside) + (inside - outside) * np.eye(3), seed=seed
    )
    return nx.to_numpy_array(graph) > 0


def test_planted_communities_are_found():
    found = communities(blocks(0.6, 0.05), runs=5, draws=39)
    assert found.count == 3
    assert [len(set(part)) for part in np.split(found.labels, 3)] == [1, 1, 1]
    assert found.p == pytest.approx(1 / 40)
    assert found.agreement > 0.95


def test_a_graph_without_communities_has_a_partition_and_no_structure():
    p = [communities(blocks(0.2, 0.2, seed), runs=5, draws=39, seed=seed).p for seed in range(4)]
    assert min(p) > 0.05


def test_a_node_without_an_edge_is_in_none():
    graph = blocks(0.6, 0.05)
    graph[0] = graph[:, 0] = False
    found = communities(graph, runs=3, draws=3)
    assert found.labels[0] == -1
    assert found.count == 3


def test_the_same_seed_gives_the_same_partition():
    graph = blocks(0.3, 0.15)
    first, second = (communities(graph, runs=4, draws=3, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)
    assert (first.modularity, first.p) == (second.modularity, second.p)


def test_a_graph_without_edges_is_refused():
    with pytest.raises(EvidenceError, match=r"a graph with an edge"):
        communities(np.zeros((5, 5), dtype=bool))
