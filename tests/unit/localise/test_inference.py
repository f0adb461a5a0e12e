"""Permutation of carriers: finds what is there, nothing where nothing is."""

import numpy as np
import pandas as pd
import pytest

from lmri.config import ContrastOptions
from lmri.errors import EvidenceError
from lmri.localise import (
    CountedRates,
    check_resolution,
    contrast_design,
    null_split_rate,
    parse_measure,
    permutation_test,
    rate_scores,
    unit_map,
)

RESONANCE = parse_measure("expert.resonance")


def test_the_planted_expert_is_significant_and_nothing_else(grid, crossed, planted):
    design = contrast_design(crossed, grid, ("place", "year"))
    result = unit_map(
        RESONANCE,
        CountedRates(planted),
        design,
        alpha=0.05,
        permutations=499,
        seed=0,
        owner="contrast 'refusal'",
    )
    assert result.inference.p_max[2, 5] == pytest.approx(1 / 500)
    others = np.delete(result.inference.p_max.reshape(-1), 2 * 16 + 5)
    assert others.min() > 0.05
    assert result.selected(alpha=0.05) == [(2, 5)]


def test_selected_units_respond_more_and_survive_best_first(grid, crossed, planted):
    design = contrast_design(crossed, grid, ("place", "year"))
    result = unit_map(
        RESONANCE,
        CountedRates(planted),
        design,
        alpha=0.05,
        permutations=199,
        seed=0,
        owner="contrast 'refusal'",
    )
    for alpha in (0.999, 1.0):
        units = result.selected(alpha)
        survive = (result.score > 0) & (result.inference.p_max <= alpha)
        assert set(units) == set(zip(*map(list, survive.nonzero()), strict=True))
        assert 1 < len(units) < result.score.size
        values = [result.score[unit] for unit in units]
        assert values == sorted(values, reverse=True)
    assert result.selected(alpha=0.001) == []


def test_p_values_count_the_relabellings_by_hand(grid, crossed, planted):
    design = contrast_design(crossed, grid, ("place", "year"))
    labelling = design.encode(planted.labels)
    observed = rate_scores(planted, labelling.own(), design.weights)
    labels = labelling.exchanged(np.random.default_rng([3, 4]), 99)
    null = np.stack([rate_scores(planted, row, design.weights) for row in labels])
    got, inference = permutation_test(CountedRates(planted), design, 99, seed=3)
    assert got == pytest.approx(observed, abs=1e-15)
    assert inference.p == pytest.approx((1 + (null >= observed - 1e-12).sum(axis=0)) / 100)
    largest = null.max(axis=(1, 2))
    expected = (1 + (largest >= observed[1, 1] - 1e-12).sum()) / 100
    assert inference.p_max[1, 1] == pytest.approx(expected)


def test_maps_of_entity_preferences_alone_are_rarely_significant(grid, crossed, routed):
    design = contrast_design(crossed, grid, ("place", "year"))
    found = 0
    for seed in range(100):
        cells = routed(grid, shift=0.0, seed=100 + seed)
        _, inference = permutation_test(CountedRates(cells), design, 199, seed)
        found += inference.p_max.min() <= 0.05
    # 99 % point of 100 draws at a nominal 5 %
    assert found <= 11


def test_random_splits_of_null_carriers_are_rarely_significant(grid, planted):
    contrast = ContrastOptions.from_dict(
        {
            "name": "null_places",
            "role": "negative_control",
            "task": "events",
            "random_split": {"condition": "benign", "carrier": "place", "seed": 0},
        }
    )
    found = null_split_rate(
        CountedRates(planted), grid, contrast, splits=100, alpha=0.05, permutations=199, seed=0
    )
    assert found <= 11


def test_too_few_carriers_are_refused_by_name(grid, crossed, planted):
    few = grid[grid["carrier_place"].isin(["p00", "p19"]) & (grid["carrier_year"] < "y12")]
    few = few[few["carrier_year"].isin(["y00", "y11"])].reset_index(drop=True)
    design = contrast_design(crossed, few, ("place", "year"))
    with pytest.raises(EvidenceError, match=r"contrast 'refusal'.*2 of 'place'.*4 relabellings"):
        unit_map(
            RESONANCE,
            CountedRates(planted),
            design,
            alpha=0.05,
            permutations=99,
            seed=0,
            owner="contrast 'refusal'",
        )


@pytest.mark.parametrize(
    ("carriers", "one", "both"), [(6, True, False), (8, True, True), (4000, True, True)]
)
def test_a_two_sided_test_needs_twice_the_relabellings(carriers, one, both):
    # Of 6 carriers in two classes there are 20 labellings: each and its mirror image count alike.
    # Those of 4000 are more than a float can hold.
    kinds = ["a", "b"] * (carriers // 2)
    table = pd.DataFrame(
        {
            "trial": [str(i) for i in range(carriers)],
            "condition": kinds,
            "carrier_entity": [f"e{i}" for i in range(carriers)],
            "class_entity": kinds,
        }
    )
    contrast = ContrastOptions("c", "t", target=("a",), controls=("b",))
    design = contrast_design(contrast, table, ("entity",))
    for two_sided, enough in ((False, one), (True, both)):
        if enough:
            check_resolution(design, table, 0.05, "it", two_sided=two_sided)
        else:
            with pytest.raises(EvidenceError, match=r"allow 20 .* two-sided test .* least 40\."):
                check_resolution(design, table, 0.05, "it", two_sided=two_sided)
