from __future__ import annotations

import math

import pytest

from lmri.report import words

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.973, "0.97"),
        (-0.02, "−0.02"),
        (-0.001, "0.00"),
        (1, "1.00"),
        (1_431_000, "1431000.00"),
        (-4.531e65, "−4.53e65"),
        (NAN, "–"),
        (None, "–"),
    ],
)
def test_number(value, expected):
    assert words.number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, "+0.50"), (-0.5, "−0.50"), (0.0, "0.00"), (NAN, "–")]
)
def test_signed(value, expected):
    assert words.signed(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.01, "0.010"), (0.0005, "0.0005"), (1.0, "1.000"), (0.00001, "< 0.0001"), (NAN, "–")],
)
def test_probability_is_never_zero(value, expected):
    assert words.probability(value) == expected


def test_a_statistic_that_is_cut_is_no_number():
    assert words.statistic(1e6) == "+1e6 (cut: no variation)"
    assert words.statistic(-1e6) == "−1e6 (cut: no variation)"
    assert words.statistic(2e6) == words.signed(2e6)  # a difference of means may be larger
    assert words.statistic(NAN) == words.NOTHING


def test_plurals():
    assert words.plural(1, "place") == "1 place"
    assert words.plural(2, "place") == "2 places"
    assert [words.plural_of(noun) for noun in ("entity", "day")] == ["entities", "days"]


@pytest.mark.parametrize(
    ("status", "units", "mapped"),
    [("null", [], True), ("not_testable", [[0, 1]], True), ("not_testable", [], False)],
)
def test_was_mapped(status, units, mapped):
    assert words.was_mapped(status, units) is mapped


def test_interval():
    assert words.interval(-0.02, 0.04) == "−0.02 to 0.04"
    assert words.interval(NAN, 0.04) == ""


def test_a_narrow_interval_does_not_look_like_a_point():
    assert words.interval(0.996, 1.0) == "0.996 to 1.000"
    assert words.interval(-0.0246, 0.0253) == "−0.025 to 0.025"
    assert words.interval(0.0, 0.0) == "0.00 to 0.00"


@pytest.mark.parametrize(
    ("verdict", "role", "status", "units", "name"),
    [
        ("not testable", "negative_control", "null", "[]", "empty, as expected"),
        ("not testable", "negative_control", "not_testable", "[[0, 1]]", "false alarm"),
        ("not testable", "negative_control", "not_testable", "[]", "not testable"),  # no experts
        ("not testable", "hypothesis", "null", "[]", "not testable"),
        ("confirmed", "hypothesis", "testable", "[[0, 1]]", "confirmed"),
    ],
)
def test_verdicts(verdict, role, status, units, name):
    row = {"verdict": verdict, "role": role, "status": status, "units": units}
    assert words.verdict_name(row) == name


@pytest.mark.parametrize(
    ("items", "expected"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")],
)
def test_listing(items, expected):
    assert words.listing(items) == expected


@pytest.mark.parametrize("text", [None, math.nan, "", "[[]]", "[1]", "[", "{}", '["ab"]'])
def test_units_that_are_none(text):
    assert words.read_units(text) == []


def test_units():
    assert words.read_units("[[2, 16], [2, 17]]") == [[2, 16], [2, 17]]
    assert words.unit_names([[2, 16], [2, 17]]) == "2:16, 2:17"


@pytest.mark.parametrize("text", [None, "", "[", "[1]", '[{"check": "a"}]'])
def test_checks_that_are_none(text):
    assert words.read_checks(text) == []


def test_conditions():
    assert words.condition_name("relations", None) == "relations"
    assert words.condition_name("relations", "all") == "relations"
    assert words.condition_name("events_second", "near_miss") == "events second · near miss"
