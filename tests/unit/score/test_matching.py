"""Answers against references: known answers of the published normalisation."""

import math

import pytest

from lmri.score import exact_match, f1_match, normalised, numeric_match


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The  Queen, built a tower!", "queen built tower"),
        ("a", ""),
        ("another theory", "another theory"),
        ("It's", "its"),
        ("  \n", ""),
        ("Ångström", "ångström"),
    ],
)
def test_normalisation_is_that_of_squad(text, wanted):
    assert normalised(text) == wanted


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("the queen .", "Queen", 1, 1),
        ("queen built tower", "the queen built the mill", 0, 2 / 3),
        ("red red red", "red blue", 0, 2 / 5),
        ("", "", 1, 1),
        ("the", "queen", 0, 0),
        ("cat", "dog", 0, 0),
    ],
)
def test_known_matches(answer, reference, exact, f1):
    assert exact_match(answer, reference) == exact
    assert f1_match(answer, reference) == pytest.approx(f1)
    assert f1_match(reference, answer) == f1_match(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("it is 12 .", "12", 1),
        ("12 + 3 is 15.", "15.0", 1),
        ("15 or 16", "15", 0),
        ("1,200 people", "1200", 1),
        ("-3", "3", 0),
        ("\u22123", "-3", 1),
        ("+3", "3", 1),
        ("0.1", "0.10", 1),
        ("version2", "2", 0),
        ("none", "2", 0),
        ("2.", "2", 1),
        ("12,34", "34", 1),
    ],
)
def test_the_last_number_counts(answer, reference, wanted):
    assert numeric_match(answer, reference) == wanted


def test_a_reference_without_a_number_has_no_score():
    assert math.isnan(numeric_match("3", "three"))
