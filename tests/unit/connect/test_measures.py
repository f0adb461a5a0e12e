"""Five kinds of connectivity."""

import numpy as np
import pytest

from lmri.connect.measures import KINDS, connectivity, each_alone, edge_values, square
from lmri.errors import EvidenceError


@pytest.fixture
def sessions():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))
    return {name: rng.normal(size=(400, 5)) @ mixing for name in ("one", "two", "three")}


def test_five_kinds_follow_from_one_covariance(sessions):
    found = {kind: connectivity(sessions, kind)["one"] for kind in KINDS}
    np.testing.assert_allclose(found["correlation"], np.corrcoef(sessions["one"].T), atol=1e-12)
    precision, partial = found["precision"], found["partial correlation"]
    deviations = np.sqrt(np.diag(precision))
    expected = -precision / np.outer(deviations, deviations)
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(partial[off], expected[off], atol=1e-10)
    # All sessions have one covariance: the deviation from it is that of the sample.
    assert np.abs(found["tangent"]).max() < 0.3


def test_the_reference_of_the_tangent_is_its_training_sessions(sessions):
    wild = {**sessions, "wild": np.random.default_rng(1).normal(size=(400, 5))}
    names = tuple(sessions)
    alone = connectivity({**sessions, "one": sessions["one"]}, "tangent", names)
    fitted = connectivity(wild, "tangent", names)
    # The scale of nodes is of all sessions, and the tangent does not depend on it up to shrinkage.
    np.testing.assert_allclose(fitted["one"], alone["one"], atol=0.05)
    moved = connectivity(wild, "tangent")
    assert np.abs(moved["one"] - alone["one"]).max() > 0.3


def test_weak_connections_are_not_shrunk_to_nothing():
    """As the default estimator does: its test of edges would find that all of them are equal."""
    values = np.random.default_rng(0).normal(size=(100, 30))
    edges = edge_values(each_alone([values], "correlation"), "correlation")
    assert edges.std() == pytest.approx(0.1, rel=0.2)


def test_a_constant_node_has_no_edge_in_a_draw():
    values = np.random.default_rng(0).normal(size=(50, 4))
    values[:, 2] = 0.1
    found = each_alone([values], "correlation")[0]
    assert (found[2, [0, 1, 3]] == 0).all()
    assert np.isfinite(found).all()


def test_edges_and_matrices_are_reverse():
    matrix = square(np.arange(6.0), 4, diagonal=0)
    np.testing.assert_array_equal(edge_values(matrix, "covariance"), np.arange(6.0))
    np.testing.assert_array_equal(matrix, matrix.T)


def test_what_cannot_be_estimated_is_refused(sessions):
    with pytest.raises(EvidenceError, match=r"'kind'.*'tangent'.*Got 'glasso'"):
        connectivity(sessions, "glasso")
    with pytest.raises(EvidenceError, match=r"20 trials or more.*'one' has 10"):
        connectivity({"one": sessions["one"][:10]}, "correlation")
    with pytest.raises(EvidenceError, match=r"3 nodes or more.*has 2"):
        connectivity({"one": sessions["one"][:, :2]}, "correlation")
    with pytest.raises(EvidenceError, match=r"2 sessions or more.*Got 1"):
        connectivity({"one": sessions["one"]}, "tangent")
    still = {"one": np.column_stack([sessions["one"], np.full(400, 0.3)])}
    with pytest.raises(EvidenceError, match=r"1 of 6 are constant.*node 5"):
        connectivity(still, "correlation")
    hole = sessions["one"].copy()
    hole[0, 0] = np.nan
    with pytest.raises(EvidenceError, match=r"1 values that are not"):
        connectivity({"one": hole}, "correlation")
