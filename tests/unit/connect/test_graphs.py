"""Triangles, and graphs with the same degrees."""

import networkx as nx
import numpy as np
import pytest

from lmri.connect.graphs import cycle_map, rewired, strongest_edges, triangles
from lmri.errors import EvidenceError


def random_graph(nodes, share, seed):
    graph = np.triu(np.random.default_rng(seed).random((nodes, nodes)) < share, 1)
    return graph | graph.T


@pytest.mark.parametrize("seed", range(5))
def test_triangles_are_those_of_networkx(seed):
    graph = random_graph(25, 0.3, seed)
    expected = nx.triangles(nx.from_numpy_array(graph))
    assert triangles(graph).tolist() == [expected[node] for node in range(25)]


def test_rewired_graphs_keep_degrees():
    graph = random_graph(25, 0.2, 0)
    other = rewired(graph, 1)
    np.testing.assert_array_equal(other.sum(axis=0), graph.sum(axis=0))
    np.testing.assert_array_equal(other, other.T)
    assert not other.diagonal().any()
    assert (other != graph).any()


def test_a_clique_has_cycles_and_a_random_graph_has_none_beyond_its_degrees():
    random = random_graph(40, 0.1, 0)
    clique = random.copy()
    clique[:8, :8] = ~np.eye(8, dtype=bool)
    found, null = cycle_map(clique, 49), cycle_map(random, 49)
    assert found.total_p == 0.02
    assert (found.p[:8] <= 0.05).all()
    assert (found.p[8:] <= 0.05).mean() < 0.2
    assert null.total_p > 0.05
    assert found.total == found.triangles.sum() // 3


def test_a_star_cannot_be_rewired_and_is_its_own_null():
    star = np.zeros((6, 6), dtype=bool)
    star[0, 1:] = star[1:, 0] = True
    np.testing.assert_array_equal(rewired(star, 0), star)
    assert cycle_map(star, 9).total_p == 1


def test_the_strongest_edges_are_kept():
    weights = np.zeros((5, 5))
    for rank, (i, j) in enumerate([(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]):
        weights[i, j] = weights[j, i] = 5 - rank
    graph = strongest_edges(weights, 0.4)
    assert graph.sum() == 8
    assert not graph[0, 4]
    # Edges that are not positive are none, whatever the density.
    assert strongest_edges(weights, 1.0).sum() == 10


def test_graphs_without_edges_are_refused():
    with pytest.raises(EvidenceError, match=r"4 edges or more.*gives 0"):
        strongest_edges(-np.ones((6, 6)), 0.5)
    with pytest.raises(EvidenceError, match=r"'density'"):
        strongest_edges(np.ones((6, 6)), 1.5)
