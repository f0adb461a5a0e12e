"""Distances between items, without the bias of noise."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from lmri.align.dissimilarity import compare, crossnobis, design_of
from lmri.errors import EvidenceError

CARRIERS = ("place", "year")


@pytest.fixture
def design(places):
    return design_of(places, CARRIERS)


@pytest.fixture
def patterns(places):
    """Activity with a pattern of each place, in noise of one size in all units."""

    def make(seed=0, *, items=None, noise=1.0, units=20):
        rng = np.random.default_rng(seed)
        place = places["carrier_place"].str[1:].astype(int).to_numpy()
        items = rng.normal(size=(12, units)) if items is None else items
        return items[place] + noise * rng.normal(size=(96, items.shape[1]))

    return make


def test_places_are_repeated_by_years(design):
    assert design.names[:2] == ("p00", "p01")
    assert (design.item, design.partition, design.dropped) == ("carrier_place", "year", 0)
    assert np.bincount(design.partitions).tolist() == [24] * 4


def test_families_are_the_first_choice(places):
    families = places.assign(family=np.where(places["carrier_year"] < "y4", "what", "when"))
    assert design_of(families, CARRIERS).partition == "family"
    assert design_of(places, ("year",)).item == "carrier_year"


def test_noise_makes_no_distance(design, patterns):
    nothing = crossnobis([patterns(items=np.zeros((12, 200)))], design)
    assert abs(nothing.mean()) < 0.03
    assert (nothing < 0).any()
    something = crossnobis([patterns(units=200)], design)
    assert something.mean() == pytest.approx(2, rel=0.2)  # two patterns of variance 1


def test_rotation_order_and_scale_of_units_do_not_matter(design, patterns):
    x = patterns(units=8)
    rotated = 3 * x @ ortho_group.rvs(8, random_state=0) + 2
    same = compare(crossnobis([x], design), crossnobis([rotated], design), 99)
    assert same.value > 0.97  # up to the estimate of each unit's noise
    shuffled = compare(crossnobis([x], design), crossnobis([x[:, ::-1]], design), 99)
    assert shuffled.value == pytest.approx(1)
    linear = x @ np.random.default_rng(0).normal(size=(8, 8)) ** 3
    assert compare(crossnobis([x], design), crossnobis([linear], design), 99).value < 0.95


def test_batches_of_units_are_one_matrix(design, patterns):
    x = patterns(units=20)
    whole = crossnobis([x], design)
    parts = crossnobis([x[:, :7], np.full((96, 2), 0.1), x[:, 7:]], design)
    np.testing.assert_allclose(parts, whole, rtol=1e-9)


def test_subjects_with_the_same_geometry_agree_and_others_do_not(design, patterns):
    items = np.random.default_rng(5).normal(size=(12, 30))
    x, y = (crossnobis([patterns(seed, items=items)], design) for seed in (1, 2))
    found = compare(x, y, 199)
    assert found.value > 0.6
    assert found.p == pytest.approx(1 / 200)
    assert found.low < found.value
    assert found.low > 0.3
    p = [compare(x, crossnobis([patterns(s)], design), 99).p for s in range(10, 22)]
    assert np.mean(np.array(p) <= 0.05) <= 0.25


def test_distances_that_are_all_alike_have_no_correlation_and_no_p():
    found = compare(np.zeros(45), np.random.default_rng(0).normal(size=45), 99)
    assert np.isnan([found.value, found.low, found.high, found.p]).all()


def test_without_repeats_there_is_no_distance(places):
    once = places[(places["carrier_year"] == "y0") & (places["condition"] == "one")]
    with pytest.raises(EvidenceError, match=r"repeated in 2 partitions.*Nothing repeats"):
        design_of(once, CARRIERS)
    few = places[places["carrier_place"] < "p04"].reset_index(drop=True)
    with pytest.raises(EvidenceError, match=r"5 items or more.*4 of 4 values of 'carrier_place'"):
        design_of(few, CARRIERS)
    with pytest.raises(EvidenceError, match=r"carrier_colour"):
        design_of(places, ("colour",))


def test_constant_units_and_other_items_are_refused(design):
    with pytest.raises(EvidenceError, match=r"No unit does"):
        crossnobis([np.ones((96, 3))], design)
    with pytest.raises(EvidenceError, match=r"same items.*Got 10 and 6"):
        compare(np.ones(10), np.ones(6))
