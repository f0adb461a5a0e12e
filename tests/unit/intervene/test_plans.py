"""A plan that cannot be carried out is refused before anything runs."""

from dataclasses import replace

import pytest

from lmri.errors import LmriError
from lmri.intervene import (
    INTACT,
    KINDS,
    MODES,
    OFF_MODES,
    Plan,
    check_plan,
    feasible,
    intervened,
    modes_of,
)
from lmri.intervene.tables import compile_plans


def first(count, layer=0):
    return tuple((layer, expert) for expert in range(count))


def refused(plan, anatomy, message):
    assert not feasible(plan, anatomy)
    with pytest.raises(LmriError, match=message) as info:
        check_plan(plan, anatomy)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("mode", MODES)
def test_no_units_and_few_units_are_feasible(tiny_subject, mode):
    assert feasible(Plan(mode), tiny_subject.anatomy)
    assert feasible(Plan(mode, ((0, 7), (1, 0))), tiny_subject.anatomy)
    assert mode == "force" or mode in OFF_MODES


def test_masking_leaves_as_many_experts_as_a_token_needs(tiny_subject):
    anatomy = tiny_subject.anatomy  # 8 experts, 2 per token
    check_plan(Plan("mask", first(6) + first(6, layer=1)), anatomy)
    message = r"'mask' must name at most 6 experts of a layer \(8 .*, 2 .*\)\. Got 7 in layer 1"
    refused(Plan("mask", first(6) + first(7, layer=1)), anatomy, message)


def test_no_more_experts_are_forced_than_a_token_has(tiny_subject):
    check_plan(Plan("force", first(2)), tiny_subject.anatomy)
    refused(Plan("force", first(3)), tiny_subject.anatomy, "'force' must name at most 2 .* Got 3")


@pytest.mark.parametrize("mode", ["zero", "zero_renormalise"])
def test_whole_layers_may_be_emptied(tiny_subject, mode):
    check_plan(Plan(mode, first(8)), tiny_subject.anatomy)


@pytest.mark.parametrize("unit", [(2, 0), (-1, 0), (0, 8), (0, -1)])
@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_unit_is_named(tiny_subject, mode, unit):
    message = rf"layers 0 to 1, experts 0 to 7\)\. Got layer {unit[0]}, expert {unit[1]}\."
    refused(Plan(mode, ((0, 1), unit)), tiny_subject.anatomy, message)


def test_a_layer_without_experts_has_no_units(tiny_subject):
    anatomy = replace(tiny_subject.anatomy, layers=3, moe_layers=(0, 2))
    assert feasible(Plan("mask", ((2, 0),)), anatomy)
    refused(Plan("mask", ((1, 0),)), anatomy, "Got layer 1, expert 0")


def test_a_unit_is_named_once(tiny_subject):
    refused(Plan("mask", ((0, 1), (0, 1))), tiny_subject.anatomy, "must be distinct")


def test_an_unknown_mode_is_named_with_those_allowed(tiny_subject):
    message = (
        "'mode' of an intervention must be one of 'force', 'gain', 'mask', 'zero', .*Got 'off'"
    )
    refused(Plan("off"), tiny_subject.anatomy, message)


def test_intact_changes_nothing(tiny_subject):
    assert INTACT.units == ()
    assert compile_plans([INTACT, Plan("zero")], tiny_subject.anatomy).masks == {}


def test_compiled_plans_are_masks_by_mode_layer_and_plan(tiny_subject):
    plans = [Plan("mask", ((1, 3), (1, 5))), INTACT, Plan("zero", ((0, 2),)), Plan("mask")]
    compiled = compile_plans(plans, tiny_subject.anatomy)
    assert compiled.at("mask", 1).nonzero().tolist() == [[0, 3], [0, 5]]
    assert compiled.at("zero", 0).nonzero().tolist() == [[2, 2]]
    assert compiled.at("zero", 0).shape == (4, 8)
    assert compiled.at("mask", 0) is None and compiled.at("force", 1) is None
    assert compiled.touches(0) and compiled.touches(1) and not compiled.touches(2)


def test_one_impossible_plan_among_many_stops_the_run(tiny_subject):
    before = tiny_subject.model.get_experts_implementation()
    with (
        pytest.raises(LmriError, match="Got layer 9"),
        intervened(tiny_subject, [INTACT, Plan("mask", ((9, 0),))]),
    ):
        pytest.fail("entered")
    assert tiny_subject.model.get_experts_implementation() == before


@pytest.fixture
def mixed(tiny_subject):
    """Three layers of 32 dimensions and 4 heads; the first has 48 neurons, the others experts."""
    changes = {"layers": 3, "dense_layers": (0,), "neurons": 48, "moe_layers": (1, 2)}
    return replace(tiny_subject.anatomy, **changes)


LAST = {
    "neuron": (0, 47),
    "expert_neuron": (2, 7, 15),
    "head": (2, 3),
    "residual": (2, 31),
    "layer": (2,),
}
WIDTH = {"head": 8, "layer": 32}


@pytest.mark.parametrize("kind", LAST)
def test_the_last_unit_of_every_kind_exists_and_the_next_does_not(mixed, kind):
    unit = LAST[kind]
    assert feasible(Plan("zero", (unit,), kind), mixed)
    numbers = WIDTH.get(kind, 1)
    assert feasible(Plan("mean", (unit,), kind, ((0.5,) * numbers,)), mixed)
    names = KINDS[kind].names
    for part in range(len(unit)):
        for wrong in (unit[part] + 1, -1):
            other = (*unit[:part], wrong, *unit[part + 1 :])
            got = ", ".join(f"{n} {p}" for n, p in zip(names, other, strict=True))
            refused(Plan("zero", (unit, other), kind), mixed, rf"Got {got}\.$")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("neuron", r"be neurons of dense MLPs of the subject \(layers 0 to 0, neurons 0 to 47\)"),
        ("expert_neuron", r"\(layers 1 to 2, experts 0 to 7, neurons 0 to 15\)"),
        ("head", r"be heads of the subject \(layers 0 to 2, heads 0 to 3\)"),
        (
            "residual",
            r"be dimensions of the residual of the subject \(layers 0 to 2, dimensions 0 to 31\)",
        ),
        ("layer", r"be layers of the subject \(layers 0 to 2\)"),
    ],
)
def test_units_that_exist_are_told(mixed, kind, message):
    refused(Plan("zero", ((9, 9, 9)[: len(LAST[kind])],), kind), mixed, message)


def test_kinds_that_a_subject_does_not_have_are_refused(tiny_subject, mixed):
    refused(Plan("zero", ((0, 0),), "neuron"), tiny_subject.anatomy, "'olmoe', which has none")
    dense = replace(mixed, dense_layers=(0, 1, 2), moe_layers=(), experts=0, top_k=0)
    refused(Plan("zero", ((0, 0, 0),), "expert_neuron"), dense, "neurons of experts .* has none")
    assert feasible(Plan("zero", (), "neuron"), tiny_subject.anatomy)


@pytest.mark.parametrize("unit", [(0,), (0, 1, 2), (0, 1.5), (0, "1")])
def test_a_unit_of_another_shape_is_refused(mixed, unit):
    refused(Plan("zero", (unit,), "head"), mixed, r"'head' must be \(layer, head\), whole numbers")


def test_kinds_and_modes_are_named_with_those_allowed(mixed):
    refused(
        Plan("zero", (), "circuit"), mixed, "'kind' of an intervention must be one of .*'circuit'"
    )
    message = "'mode' of an intervention on units of kind 'head' must be one of 'clamp', 'flip', "
    refused(Plan("mask", ((0, 0),), "head"), mixed, message)
    refused(Plan("zero", ((0, 0), (0, 0)), "head"), mixed, "must be distinct")
    refused(Plan("mean", ((1, 0),)), mixed, "'force', 'gain', 'mask', 'zero', .*Got 'mean'")


def test_means_are_needed_for_every_unit_and_of_its_width(mixed):
    units = ((0, 1), (2, 3))
    refused(Plan("mean", units, "head"), mixed, "must be 8 numbers for each of 2 units. Got 0 n")
    refused(Plan("mean", units, "head", ((1.0,) * 8,)), mixed, "Got 8 numbers for 1 units")
    refused(Plan("mean", units, "residual", ((1.0, 2.0), (3.0,))), mixed, "must be 1 numbers")
    refused(Plan("zero", units, "residual", ((1.0,), (3.0,))), mixed, "'zero' must be none")


def test_a_plan_picks_the_means_of_its_units():
    means = {(0, 1): [1.0], (2, 3): [2.0], (1, 1): [3.0]}
    assert Plan.of("mean", [(2, 3), (0, 1)], "residual", means).values == ((2.0,), (1.0,))
    assert Plan.of("zero", [(2, 3)], "residual", means) == Plan("zero", ((2, 3),), "residual")
    with pytest.raises(LmriError, match=r"needs the mean .* residual \(5, 5\) and 0 more"):
        Plan.of("mean", [(2, 3), (5, 5)], "residual", means)
    with pytest.raises(LmriError, match="needs the mean"):
        Plan.of("mean", [(2, 3)], "residual")


def test_modes_of_experts_and_of_the_rest():
    assert modes_of("expert") == modes_of("expert", means=True) == MODES
    assert modes_of("head") == ("zero",)
    assert modes_of("residual", means=True) == ("zero", "mean")


def test_compiled_tables_have_a_row_for_what_changes(mixed):
    plans = [
        INTACT,
        Plan("zero", ((2, 5, 1), (2, 5, 3), (2, 0, 3)), "expert_neuron"),
        Plan("mean", ((1, 2),), "head", (tuple(map(float, range(8))),)),
        Plan("mask", ((1, 0),)),
    ]
    compiled = compile_plans(plans, mixed)
    assert {kind: list(layers) for kind, layers in compiled.tables.items()} == {
        "expert_neuron": [2],
        "head": [1],
    }
    experts, heads = compiled.tables["expert_neuron"][2], compiled.tables["head"][1]
    assert experts.row_of.nonzero().tolist() == [[1, 0], [1, 5]]
    assert experts.chosen[experts.row_of[1, 5]].nonzero().flatten().tolist() == [1, 3]
    assert experts.chosen.shape == (3, 16)  # and not plans x experts
    assert not experts.chosen[0].any() and not experts.values.any()
    assert heads.row_of.tolist() == [[0], [0], [1], [0]]
    assert heads.values[1].tolist() == [0.0] * 16 + list(range(8)) + [0.0] * 8
    assert compiled.at("mask", 1) is not None and not compiled.touches(2)
