"""Connectivity that differs between conditions."""

import numpy as np
import pandas as pd
import pytest

from lmri.connect.differences import difference
from lmri.connect.exchange import relabelling
from lmri.errors import EvidenceError


def test_an_edge_of_one_condition_is_a_difference(heads):
    activity = heads(0, places=24, years=12, edge=0.9)
    found = difference(activity, ["one"], ["two"], ("place", "year"), draws=99)
    assert np.argmax(found.value) == 0
    assert found.p_max[0] <= 0.05
    assert found.distance_p <= 0.05
    assert found.exchanged == "place"
    assert (found.n_target, found.n_control) == (144, 144)


def test_no_difference_is_no_difference(heads):
    p = [
        difference(heads(seed), ["one"], ["two"], ("place", "year"), draws=49, seed=seed)
        for seed in range(8)
    ]
    assert np.mean([own.p <= 0.05 for own in p]) <= 0.1
    # What every trial of a condition does is in no difference.
    activity = heads(1)
    apart = (activity.table["condition"] == "one").to_numpy()[:, None]
    activity.values[:, 0] += 10 * apart
    again = difference(activity, ["one"], ["two"], ("place", "year"), draws=49, seed=1)
    np.testing.assert_allclose(again.value, p[1].value, atol=1e-9)


def test_small_sides_are_refused(heads):
    with pytest.raises(EvidenceError, match=r"20 trials or more.*target has 0 of 96"):
        difference(heads(0), ["three"], ["two"], ("place",))
    with pytest.raises(EvidenceError, match=r"'kind'.*Got 'tangent'"):
        difference(heads(0), ["one"], ["two"], ("place",), kind="tangent")


def labelled(**columns):
    return pd.DataFrame(columns)


def test_labels_are_exchanged_among_what_carries_them():
    rng = np.random.default_rng(0)
    table = labelled(carrier_item=list("aabbcc"))
    draw, exchanged = relabelling(table, np.array([1, 1, 0, 0, 0, 0]), ("item",))
    assert exchanged == "item"
    assert all(np.array_equal(*draw(rng).reshape(3, 2).T) for _ in range(5))
    draw, exchanged = relabelling(table, np.array([1, 0, 1, 0, 1, 0]), ("item",))
    assert exchanged == "trials of each item"
    assert (draw(rng).reshape(3, 2).sum(axis=1) == 1).all()
    assert relabelling(table, np.array([1, 0, 1, 0, 1, 0]), ())[1] == "trials"


def test_classes_of_crossed_carriers_are_exchanged():
    table = labelled(
        carrier_place=list("aabb"),
        carrier_year=list("xyxy"),
        class_place=["s", "s", "n", "n"],
        class_year=["s", "n", "s", "n"],
    )
    labels = np.array([1, -1, -1, 0])  # the conjunction against what has neither
    draw, exchanged = relabelling(table, labels, ("place", "year"))
    assert exchanged == "place and year"
    seen = {tuple(draw(np.random.default_rng(seed))) for seed in range(20)}
    assert seen == {(1, -1, -1, 0), (-1, 1, 0, -1), (-1, 0, 1, -1), (0, -1, -1, 1)}
