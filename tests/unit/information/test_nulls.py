"""Nulls: what is exchanged, that they centre at 0, and what dependence does without groups."""

from dataclasses import replace

import closed_forms as known
import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.estimate import Estimate
from lmri.information.gaussian import gaussian, gaussian_copula, gaussian_with_null
from lmri.information.guards import guard
from lmri.information.kernel import kolchinsky_tracey
from lmri.information.neighbours import ksg, ross
from lmri.information.nulls import (
    block_orders,
    crossed_labels,
    exchanged_labels,
    independent_units,
    null_of,
    structure_null,
    with_label_null,
    with_order_null,
)
from lmri.information.plugin import choice_information
from lmri.information.samples import root_mean_square


@pytest.mark.parametrize("d", [1, 5])
def test_nulls_centre_at_zero(d):
    x, y = known.gaussian_pair(500, d, 0.6)
    found = with_order_null(
        ksg(x, y), lambda order: ksg(x, y[order]).value, block_orders(500, None, 30, 0)
    )
    assert abs(found.null.mean) < 3 * found.null.sd / np.sqrt(30) + 0.003
    assert found.null.p == pytest.approx(1 / 31)
    for copula, estimate in ((False, gaussian), (True, gaussian_copula)):
        fast = gaussian_with_null(x, y, copula=copula)
        assert fast.value == estimate(x, y).value
        assert abs(fast.null.mean) < 3 * fast.null.sd / np.sqrt(200) + 1e-3
        assert fast.null.upper > fast.null.mean
        assert fast.null.p == pytest.approx(1 / 201)


def test_labels_null():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    x = rng.normal(size=300) + y
    found = with_label_null(
        ross(x, y), lambda own: ross(x, own).value, exchanged_labels(y, None, 40, 1)
    )
    assert abs(found.null.mean) < 0.02
    assert found.null.p == pytest.approx(1 / 41)


def test_groups_keep_their_samples_together():
    groups = np.array([5, 5, 1, 1, 1, 9, 9, 2])
    codes = np.array([0, 0, 1, 1, 1, 1, 1, 0])
    drawn = exchanged_labels(codes, groups, 50, 0)
    for own in (0, 2, 5):
        size = int((groups == groups[own]).sum())
        assert (drawn[:, own : own + size] == drawn[:, own : own + 1]).all()
    first = drawn[:, [0, 2, 5, 7]]
    assert (first.sum(axis=1) == 2).all()  # as many groups of each label as before
    assert len(np.unique(first, axis=0)) == 6


def test_exchanging_tokens_finds_what_is_not_there():
    """Random labels of 20 texts with 50 alike tokens each: false, unless texts are exchanged."""
    false = {"tokens": 0, "texts": 0}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(20), 50)
        t = rng.normal(size=20)[groups] + 0.3 * rng.normal(size=1_000)
        y = rng.permutation(np.arange(20) % 2)[groups]
        value = gaussian(t, y + 1e-6 * rng.normal(size=1_000)).value
        for name, own in (("tokens", None), ("texts", groups)):
            drawn = [
                np.corrcoef(t, labels)[0, 1] ** 2 for labels in exchanged_labels(y, own, 60, seed)
            ]
            drawn = -0.5 * np.log1p(-np.array(drawn))
            false[name] += null_of(value, drawn).p < 0.05
    assert false["tokens"] > 10
    assert false["texts"] < 5


def test_crossed_carriers():
    place, year = (part.ravel() for part in np.meshgrid(np.arange(6), np.arange(4), indexing="ij"))
    class_place, class_year = place < 2, year < 1
    codes = (class_place & class_year).astype(np.int64)
    carriers = {"place": (place, class_place), "year": (year, class_year)}
    drawn = crossed_labels(codes, carriers, 60, 0)
    assert (drawn.sum(axis=1) == 2).all()
    for own in drawn:
        table = own.reshape(6, 4)
        assert np.array_equal(table, np.outer(table.any(axis=1), table.any(axis=0)))
    assert len(np.unique(drawn, axis=0)) > 30


def test_crossed_null_is_calibrated():
    """Experts that follow places and years, but not their classes: few p are small."""
    place, year = (part.ravel() for part in np.meshgrid(np.arange(14), np.arange(8), indexing="ij"))
    class_place, class_year = place % 2, year % 2
    codes = 2 * class_place + class_year
    carriers = {"place": (place, class_place), "year": (year, class_year)}
    small = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(14, 6))[place] + rng.normal(size=(8, 6))[year]
        rates = np.eye(6)[(logits + rng.gumbel(size=logits.shape)).argmax(axis=1)]
        drawn = crossed_labels(codes, carriers, 59, seed)
        values = choice_information(rates, np.concatenate([codes[None], drawn]))
        small += null_of(values[0], values[1:]).p <= 0.05
    assert small < 9  # 3 expected; 9 or more in 1 of 250


def test_orders_move_whole_groups():
    groups = np.repeat(["b", "a", "c"], 2)[[0, 2, 4, 1, 3, 5]]
    for order in block_orders(6, groups, 10, 0):
        assert sorted(order) == list(range(6))
        moved = groups[order]
        for name in "abc":
            assert len(set(moved[groups == name])) == 1
        assert (np.diff(order[groups == "b"]) > 0).all()


def test_p_counts_the_estimate_itself():
    null = null_of(1.0, [0.5, 1.0, 2.0])
    assert null.p == pytest.approx(3 / 4)
    assert null.mean == pytest.approx(3.5 / 3)


def test_what_is_refused():
    codes, groups = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    with pytest.raises(EvidenceError, match=r"same in all samples of a group\. 2 of 4"):
        exchanged_labels(codes, groups, 3, 0)
    with pytest.raises(EvidenceError, match="equal numbers of samples"):
        list(block_orders(4, np.array([0, 0, 0, 1]), 3, 0))
    with pytest.raises(EvidenceError, match="'draws' of a null"):
        exchanged_labels(codes, None, 0, 0)
    with pytest.raises(EvidenceError, match="must follow from the classes"):
        crossed_labels(codes, {"g": (np.arange(4), groups)}, 3, 0)
    with pytest.raises(EvidenceError, match="must have one class"):
        crossed_labels(codes, {"g": (groups, codes)}, 3, 0)


def test_independent_units_keep_what_each_does_alone():
    rng = np.random.default_rng(0)
    line = rng.normal(size=200)
    t = np.stack([line, 2 * line, -line], axis=1)
    for own in independent_units(t, 3, 0):
        np.testing.assert_array_equal(np.sort(own, axis=0), np.sort(t, axis=0))
        assert abs(np.corrcoef(own.T)[0, 1]) < 0.2
        assert root_mean_square(own) == pytest.approx(root_mean_square(t))


def test_a_layer_that_lies_on_a_line_tells_less_than_independent_units():
    rng = np.random.default_rng(0)
    line = np.outer(rng.normal(size=150), np.ones(8))
    spread = rng.normal(size=(150, 8))

    def found(t):
        value = kolchinsky_tracey(t, noise=[1.0])[0].value
        drawn = [
            kolchinsky_tracey(own, noise=[1.0])[0].value for own in independent_units(t, 39, 0)
        ]
        return value, structure_null(value, drawn)

    value, null = found(line)
    assert value < null.mean - 5 * null.sd
    assert null.p == pytest.approx(0.05)  # as small as 39 draws in two directions can make it
    assert found(spread)[1].p > 0.05


def test_a_value_among_its_draws_is_flagged_and_one_beyond_is_not():
    drawn = np.linspace(1, 2, 39)
    for value, flagged in ((1.5, True), (0.5, False), (2.5, False)):
        estimate = Estimate(
            value, "I(X;T)", "kt_upper", "kernel", {}, 100, 100, (0, 3), saturation=0.3
        )
        found = guard(replace(estimate, null=structure_null(value, drawn)))
        assert found.has("failed_null") == flagged
