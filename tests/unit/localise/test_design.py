"""Designs: conditions follow from carriers, relabelling keeps the sizes, shams are null."""

import math

import numpy as np
import pandas as pd
import pytest

from lmri.config import ContrastOptions
from lmri.errors import EvidenceError
from lmri.localise import contrast_design, null_design, null_splits, split_design


def test_own_labels_are_the_conditions_of_the_table(grid, crossed):
    design = contrast_design(crossed, grid, ("place", "year"))
    labels = design.encode(grid).own()
    assert [design.conditions[label] for label in labels] == grid["condition"].tolist()


def test_relabelling_keeps_the_number_of_trials_in_every_condition(grid, crossed):
    design = contrast_design(crossed, grid, ("place", "year"))
    labelling = design.encode(grid)
    own = np.bincount(labelling.own())
    drawn = labelling.exchanged(np.random.default_rng(0), 20)
    assert all((np.bincount(row) == own).all() for row in drawn)
    assert any((row != labelling.own()).any() for row in drawn)


def test_weights_of_target_and_controls_cancel(grid, crossed):
    design = contrast_design(crossed, grid, ("place", "year"))
    assert design.weights.sum() == pytest.approx(0)
    assert design.weights[design.conditions.index("sensitive")] == 1


def test_a_sham_splits_null_carriers_only(grid, crossed):
    design = contrast_design(crossed, grid, ("place", "year"))
    sham = null_design(design, grid, "benign", np.random.default_rng(0))
    places = set(grid.loc[grid["condition"] == "benign", "carrier_place"])
    assert set(sham.classes[0]) == places
    assert sorted(sham.classes[0].values()) == ["null"] * 6 + ["sensitive"] * 6


@pytest.mark.parametrize("null", ["benign", "sensitive"])
def test_null_splits_are_as_many_as_can_be_drawn(grid, crossed, null):
    """Few carriers, many draws: every split comes up, and no other."""
    kept = sorted(grid["carrier_place"].unique())[6:10]  # two sensitive places, two others
    years = ["y05", "y16", "y17"]
    few = grid[grid["carrier_place"].isin(kept) & grid["carrier_year"].isin(years)]
    design = contrast_design(crossed, grid, ("place", "year"))
    rng = np.random.default_rng(0)
    drawn = {str(null_design(design, few, null, rng).classes) for _ in range(200)}
    assert len(drawn) == null_splits(design, few, null)


def test_null_splits_of_many_carriers(grid, crossed):
    design = contrast_design(crossed, grid, ("place", "year"))
    null = grid[grid["condition"] == "benign"]
    places, years = null["carrier_place"].nunique(), null["carrier_year"].nunique()
    wanted = math.comb(places, places // 2) * math.comb(years, years // 2)
    assert null_splits(design, grid, "benign") == wanted


def test_the_rest_play_the_first_of_their_own_classes():
    """Neither the most frequent class, nor one that the null carriers have beside it."""
    trials = pd.DataFrame(
        {
            "condition": ["a", *"bbbb"],
            "carrier_entity": list("vwxyz"),
            "class_entity": ["rare", "calm", "wild", "wild", "wild"],
        }
    )
    contrast = ContrastOptions(name="c", task="t", target=("a",), controls=("b",))
    design = contrast_design(contrast, trials, ("entity",))
    sham = null_design(design, trials, "b", np.random.default_rng(0))
    assert sorted(sham.classes[0].values()) == ["calm", "calm", "rare", "rare"]


def test_the_classes_of_a_sham_are_the_first_of_its_trials_and_those_they_lack(grid, crossed):
    # Null places of two classes: one of them plays for both, whichever is the more frequent.
    grid = grid.assign(class_place=grid["class_place"].replace("null", "unlisted"))
    grid.loc[grid["carrier_place"] == "p19", "class_place"] = "exempt"
    design = contrast_design(crossed, grid, ("place", "year"))
    sham = null_design(design, grid, "benign", np.random.default_rng(0))
    assert sorted(sham.classes[0].values()) == ["exempt"] * 6 + ["sensitive"] * 6
    # A carrier of which null trials have every class is not split.
    mixed = grid.assign(condition=grid["condition"].replace("near_miss_place", "benign"))
    sham = null_design(design, mixed, "benign", np.random.default_rng(0))
    assert set(sham.classes[0].values()) == {"exempt"}
    assert sorted(sham.classes[1].values()) == ["null"] * 6 + ["sensitive"] * 6


def test_an_entity_with_one_condition_each_is_its_own_class():
    trials = pd.DataFrame(
        {
            "condition": ["a", "a", "b", "b"],
            "carrier_entity": ["w", "x", "y", "z"],
            "class_entity": ["null"] * 4,
        }
    )
    contrast = ContrastOptions(name="c", task="t", target=("a",), controls=("b",))
    design = contrast_design(contrast, trials, ("entity",))
    assert design.classes == ({"w": "a", "x": "a", "y": "b", "z": "b"},)


def test_a_condition_that_varies_within_its_carriers_is_refused():
    trials = pd.DataFrame(
        {
            "condition": ["a", "b", "a", "b"],
            "carrier_entity": ["w", "w", "x", "x"],
            "class_entity": ["null"] * 4,
        }
    )
    contrast = ContrastOptions(name="c", task="t", target=("a",), controls=("b",))
    with pytest.raises(EvidenceError, match=r"contrast 'c'.*carriers 'entity'"):
        contrast_design(contrast, trials, ("entity",))


def test_an_unknown_condition_is_named_with_the_known_ones(grid, crossed):
    contrast = ContrastOptions(name="c", task="events", target=("rude",), controls=("benign",))
    with pytest.raises(EvidenceError, match=r"contrast 'c' must be one of 'benign'.*Got 'rude'"):
        contrast_design(contrast, grid, ("place", "year"))


def test_a_random_split_halves_the_carriers(grid):
    design = split_design(grid, "benign", "place", seed=0)
    assert sorted(design.classes[0].values()) == ["half_a"] * 6 + ["half_b"] * 6
    again = split_design(grid, "benign", "place", seed=0)
    other = split_design(grid, "benign", "place", seed=1)
    assert design.classes == again.classes
    assert design.classes != other.classes
