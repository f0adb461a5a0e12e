"""Checks accept what is allowed and say what, whose, allowed and got."""

import pytest

from lmri.checks import check_choice, check_columns, check_range, check_slug, quoted, shortened
from lmri.errors import (
    ConfigError,
    EvidenceError,
    LmriError,
    StimuliError,
    StoreError,
    SubjectError,
)

ERRORS = (ConfigError, EvidenceError, StimuliError, StoreError, SubjectError)


def test_one_family_of_errors():
    assert all(issubclass(error, LmriError) for error in ERRORS)
    assert len(set(ERRORS)) == 5


def test_a_choice_is_one_of_those_allowed():
    check_choice("mask", ("zero", "mask"), "mode", "a plan")
    with pytest.raises(LmriError) as info:
        check_choice("fast", ("zero", "mask"), "mode", "a plan")
    assert str(info.value) == "The 'mode' of a plan must be one of 'mask', 'zero'. Got 'fast'."


@pytest.mark.parametrize(
    ("value", "low", "high"), [(0, 0, 1), (1, 0, 1), (-9, None, 1), (9, 0, None), (9, None, None)]
)
def test_bounds_are_inclusive_and_may_be_open(value, low, high):
    check_range(value, "alpha", "a map", low, high)


@pytest.mark.parametrize(
    ("value", "low", "high", "bounds"),
    [(1.5, 0, 1, "[0, 1]"), (-1, 0, None, "[0, inf]"), (2, None, 1, "[-inf, 1]")],
)
def test_outside_of_the_bounds_is_refused(value, low, high, bounds):
    with pytest.raises(LmriError) as info:
        check_range(value, "alpha", "a map", low, high)
    assert str(info.value) == f"The 'alpha' of a map must be in {bounds}. Got {value}."


@pytest.mark.parametrize("value", ["a", "0", "my_task_2", "a" * 64])
def test_slugs(value):
    check_slug(value, "name", "a study")


@pytest.mark.parametrize(
    "value", ["", "A", "_a", "a-b", "a b", "a/b", "..", "a\n", "é", "a" * 65, 3, None]
)
def test_what_cannot_name_a_folder_is_refused(value):
    with pytest.raises(LmriError, match="'name' of a study must be lower case letters") as info:
        check_slug(value, "name", "a study")
    assert str(info.value).endswith(f"Got {value!r}.")


def test_every_missing_column_is_named():
    check_columns(["a", "b", "c"], ["c", "a"], "t.csv")
    check_columns([], [], "t.csv")
    with pytest.raises(LmriError) as info:
        check_columns(["b", "a"], ["a", "d", "c"], "t.csv")
    assert str(info.value) == "The table t.csv lacks the column(s) 'c', 'd'. It has 'a', 'b'."


def test_columns_may_come_from_a_generator():
    with pytest.raises(LmriError, match="It has 'a', 'b'"):
        check_columns((name for name in "ab"), (name for name in "ca"), "t.csv")


@pytest.mark.parametrize("error", ERRORS)
def test_a_check_raises_the_error_asked_for(error):
    with pytest.raises(error):
        check_choice("x", (), "a", "b", error)
    with pytest.raises(error):
        check_range(1, "a", "b", 2, error=error)
    with pytest.raises(error):
        check_slug("X", "a", "b", error)
    with pytest.raises(error):
        check_columns((), ("x",), "b", error)


def test_quoted_values_are_sorted():
    assert quoted(["b", 1, "a"]) == "'1', 'a', 'b'"
    assert quoted([]) == "nothing"


def test_a_long_value_is_cut_and_stays_on_one_line():
    assert shortened("a\nb") == r"'a\nb'"
    assert shortened([1, 2]) == "[1, 2]"
    assert shortened("x" * 100) == "'" + "x" * 56 + "..."
