"""Directions that nothing reads: one line, and a warning of an illusion."""

import pytest

from lmri.report.row_space import WARNING, is_illusory, row_space_line

FOUND = {
    "width": 64,
    "rank": 60,
    "effect": 2.0,
    "row_effect": 1.8,
    "null_effect": 0.1,
    "kept": 0.9,
    "illusory": False,
}


def finding(**changes) -> dict:
    return {"kind": "feature", "method": "relp", "row_space": FOUND | changes}


def test_a_faithful_direction_is_told_without_a_warning():
    lead, text = row_space_line(finding())
    assert lead == "Directions of the features:"
    assert "of 2.00 logits on the first token, 1.80 are by the part" in text
    assert "0.10 by the part that they do not: 0.90 is kept" in text
    assert "The weights read 60 of 64 directions" in text
    assert not is_illusory(finding())


def test_an_illusion_is_warned_of():
    own = finding(row_effect=0.58, kept=0.29, illusory=True)
    lead, text = row_space_line(own)
    assert lead == f"{WARNING}:"
    assert "0.29 is kept. Below .5" in text
    assert is_illusory(own)


def test_a_small_effect_is_not_taken_apart():
    _, text = row_space_line(finding(effect=0.04, kept=None, illusory=None))
    assert "0.04 logits, too small" in text
    assert "kept" not in text


def test_weights_that_read_everything_find_nothing():
    _, text = row_space_line(finding(rank=64))
    assert "read all 64 directions of the state, so that nothing could be found" in text


@pytest.mark.parametrize("own", [None, {}, {"row_space": None}, {"row_space": "?"}])
def test_findings_of_other_units_have_no_line(own):
    assert row_space_line(own) is None
    assert not is_illusory(own)
