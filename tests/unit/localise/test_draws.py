"""Control draws: distinct, without the finding's units, re-selected from null carriers."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.localise import (
    CountedRates,
    Units,
    contrast_design,
    layer_matched,
    load_matched,
    sham_maps,
)
from lmri.localise.draws import massive_matched

UNITS = [(0, 3), (2, 5), (2, 6)]


def test_layer_matched_sets_keep_the_layers_and_leave_the_finding_out():
    draws = layer_matched(UNITS, Units.of("expert", (0, 1, 2), 16), draws=20, seed=0)
    assert len({frozenset(draw) for draw in draws}) == 20
    assert all(sorted(layer for layer, _ in draw) == [0, 2, 2] for draw in draws)
    assert not any(set(draw) & set(UNITS) for draw in draws)


def test_all_sets_are_given_where_fewer_exist():
    draws = layer_matched([(0, 0)], Units.of("expert", (0,), 4), draws=20, seed=0)
    assert sorted(draws) == [[(0, 1)], [(0, 2)], [(0, 3)]]


def test_load_matched_units_are_near_in_load():
    load = np.arange(48, dtype=float).reshape(3, 16)
    draws = load_matched([(1, 8)], load, Units.of("expert", (0, 1, 2), 16), draws=8, seed=0)
    assert len({frozenset(draw) for draw in draws}) == 8
    assert all(abs(load[unit] - load[1, 8]) <= 4 for draw in draws for unit in draw)
    assert not any((1, 8) in draw for draw in draws)


def test_massive_matched_dimensions_get_about_as_massive():
    ratios = np.ones((2, 30)) + np.arange(60).reshape(2, 30) / 100
    massive = [(0, 4), (0, 20), (1, 4), (1, 7), (1, 20)]
    for unit, ratio in zip(massive, (5000, 900, 4000, 1100, 800), strict=True):
        ratios[unit] = ratio
    known = Units.of("residual", (0, 1), 30)
    draws = massive_matched([(0, 4), (0, 0)], ratios, known, draws=20, seed=0)
    assert len({frozenset(draw) for draw in draws}) == 20
    near = sorted({draw[0] for draw in draws})
    # The four others that are massive come first among the eight that are drawn from.
    assert set(massive[1:]) <= set(near) and len(near) == 8
    assert not any({(0, 4), (0, 0)} & set(draw) for draw in draws)
    assert not any(draw[1] in massive for draw in draws)


def test_sham_maps_differ_from_the_planted_map(grid, crossed, planted):
    design = contrast_design(crossed, grid, ("place", "year"))
    maps = sham_maps(CountedRates(planted), design, grid, "benign", draws=99, most=8, seed=0)
    assert len(maps) == 99
    assert all(len(set(units)) == 8 for units in maps)
    # The planted expert answers to sensitive trials, which no sham map has seen.
    assert np.mean([units[0] == (2, 5) for units in maps]) < 0.1


def test_sham_maps_are_the_same_for_the_same_seed(grid, crossed, planted):
    design = contrast_design(crossed, grid, ("place", "year"))
    first, again, other = (
        sham_maps(CountedRates(planted), design, grid, "benign", draws=5, most=8, seed=seed)
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_sham_maps_that_cannot_be_run_are_drawn_again(grid, crossed, planted):
    design = contrast_design(crossed, grid, ("place", "year"))

    def draw(count, usable):
        return sham_maps(
            CountedRates(planted),
            design,
            grid,
            "benign",
            draws=count,
            most=3,
            seed=0,
            usable=usable,
        )

    everything = draw(120, lambda units: True)
    refused = everything[0][0]
    usable = [units for units in everything if refused not in units]
    assert len(usable) < 119
    again = draw(60, lambda units: refused not in units)
    assert again == usable[:60]  # the same splits in the same order, without those
    assert draw(20, lambda units: False) == []


def test_too_few_null_carriers_are_refused(grid, crossed, planted):
    few = grid[(grid["condition"] != "benign") | (grid["carrier_place"].isin(["p18", "p19"]))]
    few = few[(few["condition"] != "benign") | (few["carrier_year"].isin(["y16", "y17"]))]
    design = contrast_design(crossed, grid, ("place", "year"))
    with pytest.raises(EvidenceError, match="null condition 'benign' allow only 4 different"):
        sham_maps(CountedRates(planted), design, few, "benign", draws=99, most=8, seed=0)


def test_an_unknown_null_condition_is_named_with_the_known_ones(grid, crossed, planted):
    design = contrast_design(crossed, grid, ("place", "year"))
    with pytest.raises(EvidenceError, match=r"'null_condition'.*'benign'.*Got 'calm'"):
        sham_maps(CountedRates(planted), design, grid, "calm", draws=2, most=8, seed=0)
