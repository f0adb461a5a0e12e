"""Overlap of sets: the example of the literature, sets apart, sets alike, too few units."""

import pytest
from scipy.stats import hypergeom

from lmri.errors import EvidenceError
from lmri.localise.overlap import COLUMNS, chance_of_significance, overlap, overlap_table


def test_the_known_example():
    found = overlap(range(1, 10), range(3, 12), 384)
    assert found["jaccard"] == pytest.approx(7 / 11)
    assert found["coefficient"] == pytest.approx(7 / 9)
    assert found["expected"] == pytest.approx(81 / 384)
    tail = sum(hypergeom.pmf(k, 384, 9, 9) for k in range(7, 10))
    assert found["p"] == pytest.approx(tail)
    assert found["p"] < 1e-9


def test_sets_apart_and_alike():
    apart = overlap({(0, 1)}, {(1, 0)}, 4)
    assert (apart["jaccard"], apart["coefficient"], apart["p"]) == (0, 0, 1)
    alike = overlap([(0, 1), (0, 1), (2, 3)], {(2, 3), (0, 1)}, 4)
    assert (alike["jaccard"], alike["coefficient"]) == (1, 1)
    assert alike["n_a"] == 2
    assert alike["p"] == pytest.approx(1 / 6)  # of the pairs of four, one
    whole = overlap(range(4), range(4), 4)
    assert whole["p"] == pytest.approx(1)  # sharing everything is no news


def test_an_empty_set_overlaps_nothing():
    found = overlap([], {1}, 5)
    assert found["p"] == 1
    assert found["jaccard"] != found["jaccard"]
    assert found["coefficient"] != found["coefficient"]


def test_random_sets_are_significant_as_often_as_they_may_be():
    import numpy as np

    rng = np.random.default_rng(0)
    values = [
        overlap(rng.choice(60, 12, replace=False), rng.choice(60, 15, replace=False), 60)["p"]
        for _ in range(1000)
    ]
    assert np.mean(np.array(values) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)
    assert np.mean(np.array(values) <= 0.5) > 0.3


@pytest.mark.parametrize("sizes", [(12, 15, 60), (2, 2, 3), (3, 3, 3), (1, 1, 30), (8, 90, 96)])
def test_the_chance_of_significance_is_that_of_all_overlaps_that_are(sizes):
    n_a, n_b, universe = sizes
    ps = {
        shared: overlap(range(n_a), range(n_a - shared, n_a - shared + n_b), universe)["p"]
        for shared in range(max(0, n_a + n_b - universe), min(n_a, n_b) + 1)
    }
    chance = hypergeom(universe, n_a, n_b)
    wanted = sum(chance.pmf(shared) for shared, p in ps.items() if p <= 0.05)
    assert chance_of_significance(*sizes, 0.05) == pytest.approx(wanted, abs=1e-12)


def test_every_pair_has_a_row():
    sets = {"capital": {1, 2, 3}, "river": {2, 3}, "dish": set()}
    table = overlap_table(sets, 10)
    assert list(table.columns) == list(COLUMNS)
    assert table[["a", "b", "shared"]].values.tolist() == [
        ["capital", "river", 2],
        ["capital", "dish", 0],
        ["river", "dish", 0],
    ]
    assert overlap_table({"one": {1}}, 10).empty
    assert list(overlap_table({}, 10).columns) == list(COLUMNS)


def test_more_units_than_there_are():
    with pytest.raises(EvidenceError, match=r"'a' and 'b': The 'universe'.*at least.* 3\. Got 2"):
        overlap_table({"a": {1, 2}, "b": {2, 3}}, 2)
