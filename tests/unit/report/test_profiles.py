"""A map is reduced to what is drawn of it, of the same size however many units it has."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from report_files import statistics_of

from lmri.report import words
from lmri.report.figures.strips import FAINTEST, shades
from lmri.report.map_figures import draw_profile, score_limits
from lmri.report.profiles import BINS, KEPT_UNITS, profile


def neurons(count: int = 1000, score: float = 9.0) -> xr.Dataset:
    values = np.zeros((2, count))
    values[1, 7], values[0, 3] = score, -score - 1
    p_max = np.where(np.abs(values) > 5, 0.001, 1.0)
    dims = ("layer", "neuron")
    return xr.Dataset(
        {"score": (dims, values), "p_max": (dims, p_max)},
        {"layer": [1, 5], "neuron": np.arange(count)},
        {"two_sided": 1},
    )


def test_two_sided_maps_select_both_ways():
    found = profile("neuron.welch_t", neurons(), 0.05)
    assert (found.units, found.selected, found.rising) == (2000, 2, 1)
    assert found.strongest_unit == [1, 3]
    assert found.by_layer == {1: 1, 5: 1}
    assert (found.low, found.high) == (-10, 9)


def test_one_sided_maps_select_what_rises():
    one_sided = neurons().assign_attrs(two_sided=0)
    found = profile("neuron.welch_t", one_sided, 0.05)
    assert (found.selected, found.rising, found.strongest_unit) == (1, 1, [5, 7])


def test_many_units_become_a_distribution_that_counts_all():
    found = profile("neuron.welch_t", neurons(), 0.05)
    assert found.cells is None
    assert found.distribution.units.shape == (2, BINS)
    assert found.distribution.units.sum() == 2000
    assert found.distribution.selected.sum(axis=1).tolist() == [1, 1]
    assert len(found.top) == KEPT_UNITS


def test_the_size_of_a_drawing_does_not_grow_with_the_units():
    small, large = (
        draw_profile(profile("neuron.welch_t", neurons(count), 0.05), [], {}, "key")
        for count in (1000, 100_000)
    )
    assert len(large) < 1.2 * len(small) < 20_000


@pytest.mark.parametrize("name", ["expert.welch_t", "head.welch_t", "layer.welch_t"])
def test_few_units_are_cells(name):
    found = profile(name, statistics_of(name, selected=2), 0.05)
    assert found.cells is not None
    assert "<image" in draw_profile(found, [found.strongest_unit], {"welch_t": 10}, "key")


def test_units_without_a_score_are_neither_strong_nor_drawn():
    made = statistics_of("head.welch_t", selected=0)
    made["score"][:] = np.nan
    found = profile("head.welch_t", made, 0.05)
    assert found.strongest_unit == []
    assert found.selected == 0
    assert math.isnan(found.high)
    assert found.largest == 0


def test_units_without_a_score_are_counted():
    made = statistics_of("head.welch_t", selected=0)
    made["score"][0] = np.nan
    assert profile("head.welch_t", made, 0.05).missing == 4
    assert "p = 1 and count among the units of q" in words.without_value(4)
    assert words.without_value(0) == ""


def test_the_routing_difference_is_that_of_the_expert_of_the_strongest_neuron():
    made = statistics_of("expert_neuron.welch_t")
    found = profile("expert_neuron.welch_t", made, 0.05)
    layer, expert, _ = found.strongest_unit
    assert found.routing == float(made["routing_difference"][layer, expert])
    without = made.drop_vars("routing_difference")
    assert math.isnan(profile("expert_neuron.welch_t", without, 0.05).routing)


def test_layers_that_are_not_counted_from_zero_keep_their_numbers():
    found = profile("neuron.welch_t", neurons(10), 0.05)
    drawing = draw_profile(found, [[5, 7]], {"welch_t": 10}, "key")
    assert ">5</text>" in drawing
    # The outline of row 1 (layer 5) lies inside the drawing.
    assert found.layers == (1, 5)


def test_a_single_unit_is_visible_and_a_selected_one_coloured():
    units = np.array([[1, 1000, 0, 1]])
    selected = np.array([[0, 0, 0, 1]])
    pixels = shades(units, selected)[0]
    assert pixels[0, 3] >= FAINTEST
    assert pixels[1, 3] == 255
    assert pixels[2, 3] == 0
    assert tuple(pixels[3, :3]) != tuple(pixels[0, :3])
    assert pixels[3, 3] >= 200


def test_statistics_do_not_share_a_scale():
    class Scan:
        others = ()

        def __init__(self, name, largest):
            self.profile = profile(name, statistics_of("head.welch_t"), 0.05)
            object.__setattr__(self.profile, "high", largest)
            object.__setattr__(self.profile, "low", 0.0)

    limits = score_limits([Scan("head.welch_t", 8.2), Scan("head.d_prime", 0.31)])
    assert limits == {"welch_t": 9.0, "d_prime": 0.4}
