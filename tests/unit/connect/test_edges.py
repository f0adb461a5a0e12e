"""Edges against the routing shuffle, and against exchanged carriers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import pearsonr

from lmri.connect.activity import select_nodes
from lmri.connect.edges import compare, edge_test
from lmri.connect.routing_null import routing_shuffle, strata_of
from lmri.errors import EvidenceError

CARRIERS = ("place", "year")
SEEDS = range(8)


def test_the_shuffle_keeps_choices_and_loads(route):
    activity = route(0, layers=2)
    place = np.arange(96) // 8
    shuffle = routing_shuffle(activity.values, place, 20, 0)
    loads = activity.values.sum(axis=0)
    for number in range(20):
        drawn = shuffle.draw(number, activity.values)
        assert (drawn.sum(axis=2) == 2).all()
        assert (np.abs(drawn.sum(axis=0) - loads) <= 0.05 * loads).all()
    assert (shuffle.moved > 0.5).all()


def test_loads_are_exact_where_an_entity_is_one_token(route):
    activity = route(0)
    shuffle = routing_shuffle(activity.values[:15], np.arange(15), 20, 0)
    loads = activity.values[:15].sum(axis=0)
    drawn = [shuffle.draw(number, activity.values[:15]) for number in range(20)]
    assert all((own.sum(axis=0) == loads).all() for own in drawn)
    assert any((own != activity.values[:15]).any() for own in drawn)


def test_loads_are_kept_within_strata(route):
    activity = route(0)
    place = np.arange(96) // 8
    strata = strata_of(place, activity.table["condition"].to_numpy())
    assert list(strata) == [0] * 6 + [1] * 6
    shuffle = routing_shuffle(activity.values, place, 5, 0, strata=strata)
    for own in (slice(0, 48), slice(48, 96)):
        loads = activity.values[own].sum(axis=0)
        drawn = shuffle.draw(0, activity.values)[own].sum(axis=0)
        assert (np.abs(drawn - loads) <= 0.05 * loads).all()


def test_top_k_connects_nothing_and_the_naive_test_thinks_so(route):
    """Choices of independent preferences: false positives at a level of .05, over 8 subjects."""
    ours, naive, means = [], [], []
    for seed in SEEDS:
        activity = route(seed)
        found = edge_test(activity, CARRIERS, draws=99, seed=seed)
        ours.append(np.mean(found.p <= 0.05))
        means.append(found.null_mean.mean())
        nodes = activity.matrix
        pairs = zip(*np.triu_indices(nodes.shape[1], 1), strict=True)
        naive.append(np.mean([pearsonr(nodes[:, i], nodes[:, j])[1] <= 0.05 for i, j in pairs]))
    assert np.mean(ours) <= 0.1  # of 8 subjects; .05 of 40 (docs/networks.md)
    assert np.mean(naive) > 0.3
    assert np.mean(means) < -0.1


def test_the_largest_of_many_edges_is_as_rare_as_it_says():
    """Data that is one more draw: ranked on the scale of the draws alone it stands out in half."""
    clear = []
    for seed in range(30):
        drawn = np.random.default_rng(seed).normal(size=(40, 30, 40))
        found = compare(drawn[0], lambda n, drawn=drawn: drawn[1 + n], 39, "correlation", "all")
        clear.append(found.p_max.min() <= 0.05)
    assert np.mean(clear) <= 0.2


def test_a_planted_edge_is_found_and_only_that(route):
    found = edge_test(route(0, places=20, years=15, edge=0.9), CARRIERS, draws=199)
    assert np.argmax(found.z) == 0  # the edge of experts 0 and 1
    assert found.p_max[0] <= 0.05
    assert (found.p_max[1:] <= 0.05).sum() <= 1


def test_heads_that_share_places_are_not_connected(heads):
    rates = {}
    for carriers in (CARRIERS, ()):
        drawn = [edge_test(heads(seed), carriers, draws=99, seed=seed).p for seed in SEEDS]
        rates[carriers] = np.mean(np.concatenate(drawn) <= 0.05)
    assert rates[CARRIERS] <= 0.1
    assert rates[()] > 0.3  # trials exchanged one by one


def test_a_planted_edge_of_heads_is_found(heads):
    found = edge_test(heads(0, edge=0.9, everywhere=True), CARRIERS, draws=199)
    assert np.argmax(np.abs(found.z)) == 0
    assert found.p_max[0] <= 0.05
    assert found.exchanged == "place and year"


def test_what_conditions_do_is_no_connection_within_them(heads):
    activity = heads(0)
    apart = (activity.table["condition"] == "one").to_numpy()[:, None]
    activity.values[:, 0, :2] += 10 * apart
    assert np.argmax(edge_test(activity, CARRIERS, draws=49).value) == 0
    inside = edge_test(activity, CARRIERS, draws=49, within=True)
    assert inside.p[0] > 0.05


def test_unequal_entities_are_exchanged_as_means(heads):
    activity = heads(0)
    chosen = np.ones(96, dtype=bool)
    chosen[3] = False
    found = edge_test(activity.rows(chosen), CARRIERS, draws=19)
    assert found.exchanged == "means of each place"


def test_the_same_seed_gives_the_same_bits(route):
    first, second = (edge_test(route(0), CARRIERS, draws=19, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.z, second.z)
    np.testing.assert_array_equal(first.p_max, second.p_max)


def test_too_few_entities_are_refused(route):
    with pytest.raises(EvidenceError, match=r"6 values of a carrier.*'place' has 4 in 32 trials"):
        edge_test(route(0, places=4), ("place",))
    with pytest.raises(EvidenceError, match=r"carrier_colour"):
        edge_test(route(0), ("colour",))
    values = np.random.default_rng(0).normal(size=(30, 4))
    with pytest.raises(EvidenceError, match=r"All 9 draws, which exchange nothing, are the same"):
        compare(values, lambda number: values, 9, "correlation", "nothing")


def test_a_routing_shuffle_of_one_entity_is_refused():
    counts, entity = np.ones((8, 1, 4)), np.zeros(8, dtype=np.int64)
    with pytest.raises(EvidenceError, match=r"2 entities or more to exchange\. Got 1 in 8 trials"):
        routing_shuffle(counts, entity, draws=3, seed=0)


def test_units_that_hardly_vary_are_no_nodes(route):
    activity = route(0)
    values = activity.values.copy()
    values[:, 0, 3] = 1.0
    values[:, 0, 4] = 0.0
    values[:9, 0, 4] = 1.0
    chosen = select_nodes(replace(activity, values=values), 256)
    assert not {3, 4} & set(chosen.nodes[:, 1].tolist())
    assert chosen.left_out == {"constant": 1, "varies in fewer than 10 trials": 1}
    with pytest.raises(EvidenceError, match=r"3 nodes or more that vary in 10 trials.*Got 0 of 8"):
        select_nodes(replace(activity, values=np.ones_like(values)), 256)
