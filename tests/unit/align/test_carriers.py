"""Trials that subjects share, and orders in which they do not correspond."""

import numpy as np
import pytest

from lmri.align.carriers import broken_orders, halves_of, orders_inside, shared_trials
from lmri.errors import EvidenceError


def test_places_and_years_change_places_together(places):
    orders, exchanged = broken_orders(places, ("place", "year"), 20, 0)
    assert exchanged == "place and year"
    for order in orders:
        assert sorted(order) == list(range(96))
        moved = places.iloc[order].reset_index(drop=True)
        # One place for another: every trial of a place has one other.
        assert places["carrier_place"].groupby(moved["carrier_place"]).nunique().eq(1).all()
        assert places["carrier_year"].groupby(moved["carrier_year"]).nunique().eq(1).all()


def test_an_incomplete_grid_exchanges_less(places):
    one_lacks = (places["carrier_year"] == "y1") & (places["carrier_place"] == "p03")
    incomplete = places[~one_lacks].reset_index(drop=True)
    assert broken_orders(incomplete, ("place", "year"), 2, 0)[1] == "trials"
    assert broken_orders(places, ("place",), 2, 0)[1] == "place"
    assert broken_orders(places, (), 2, 0)[1] == "trials"


def test_inside_conditions_places_change_with_those_of_the_same(places):
    for order in orders_inside(places, ("place", "year"), 20, 0):
        moved = places.iloc[order].reset_index(drop=True)
        assert (moved["condition"] == places["condition"]).all()
        assert places["carrier_place"].groupby(moved["carrier_place"]).nunique().eq(1).all()
        assert (order != np.arange(96)).any()
    # Every place is asked in all conditions: which condition it is does not move.
    repeated = places.assign(condition=np.tile(list("abcdefgh"), 12))
    for order in orders_inside(repeated, ("place",), 5, 0):
        assert (repeated["condition"].to_numpy()[order] == repeated["condition"]).all()
    for order in orders_inside(places[1:].reset_index(drop=True), ("place", "year"), 5, 0):
        assert (places["condition"][1:].to_numpy()[order] == places["condition"][1:]).all()


def test_only_what_all_subjects_read_is_kept(places):
    found = shared_trials({"a": places, "b": places[::-1].iloc[:50]})
    assert found == list(places["trial"][46:])


def test_subjects_that_read_other_trials_are_refused(places):
    other = places.assign(prompt=places["prompt"].str.upper())
    with pytest.raises(EvidenceError, match=r"one 'prompt' in all.*96 of 96 trials"):
        shared_trials({"a": places, "b": other})
    with pytest.raises(EvidenceError, match=r"2 subjects or more. Got 1"):
        shared_trials({"a": places})
    renamed = places.assign(trial=[f"x{i}" for i in range(96)])
    with pytest.raises(EvidenceError, match=r"'a' 96, 'b' 96, none of which"):
        shared_trials({"a": places, "b": renamed})


def test_splits_must_differ_and_be_there(places):
    fit, score = halves_of(places, "selection", "calibration")
    assert set(places["carrier_place"][fit]).isdisjoint(places["carrier_place"][score])
    with pytest.raises(EvidenceError, match=r"'selection' twice"):
        halves_of(places, "selection", "selection")
    with pytest.raises(EvidenceError, match=r"split 'evaluation'.*None of 96.*record.splits"):
        halves_of(places, "selection", "evaluation")
