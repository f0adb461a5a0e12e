"""A plan that cannot be carried out is refused before anything runs."""

from dataclasses import replace

import pytest

from lmri.errors import LmriError
from lmri.intervene import INTACT, MODES, OFF_MODES, Plan, check_plan, feasible, intervened
from lmri.intervene.plans import compile_plans


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
    message = "'mode' of an intervention must be one of 'force', 'mask', 'zero', .*Got 'off'"
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
