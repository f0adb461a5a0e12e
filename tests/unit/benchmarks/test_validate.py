"""Simulated studies: the nulls are hard ones, and the rows say so."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.validate import null_rows
from benchmarks.validation.simulated import NULLS, Outcome, World, grid, simulate

STUDIES = 6


@pytest.fixture(scope="module")
def outcomes():
    """Few studies of every null."""
    return {null: [simulate(null, seed) for seed in range(STUDIES)] for null in NULLS}


@pytest.mark.parametrize("null", NULLS)
def test_no_null_is_confirmed_more_often_than_by_chance(outcomes, null):
    # Two of six at a rate of .05: once in thirty; three, once in 450.
    assert sum(outcome.verdict == "confirmed" for outcome in outcomes[null]) <= 2
    assert sum(outcome.varied for outcome in outcomes[null]) >= STUDIES / 2


def test_each_part_of_the_rule_is_needed(outcomes):
    def confirmed(null, name):
        return sum(getattr(outcome, name) == "confirmed" for outcome in outcomes[null])

    assert confirmed("load", "by_layer") >= 3
    assert confirmed("load", "uncontrolled") == STUDIES
    # About one in eight: near-misses unmask what sham maps do not.
    assert any(simulate("entities", seed).unpaired == "confirmed" for seed in range(8, 14))
    assert confirmed("nothing", "uncontrolled") >= 1


def test_a_study_is_the_same_every_time(outcomes):
    assert simulate("load", 3) == outcomes["load"][3]


def test_harm_is_what_the_null_says():
    trials = grid("evaluation")
    target = (trials["condition"] == "sensitive").to_numpy()
    load = np.random.default_rng(1).random((3, 32))
    harms = {null: World(null, np.random.default_rng(0)).impact(trials, load) for null in NULLS}
    for null in ("nothing", "load"):
        assert (harms[null][~target] == 0).all()
        assert (harms[null][target] > 0).all()
    assert np.corrcoef(harms["load"][target].mean(axis=0).ravel(), load.ravel())[0, 1] > 0.95
    assert abs(np.corrcoef(harms["nothing"][target].mean(axis=0).ravel(), load.ravel())[0, 1]) < 0.3
    assert (harms["entities"] > 0).sum(axis=2).tolist() == [[2] * 3] * len(trials)


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({}, set()),
        ({"verdict": "confirmed"}, {'load: of 100 studies, "confirmed"'}),
        ({"varied": False}, {"load: of 100 studies, control draws vary"}),
        (
            {"by_layer": "inconclusive"},
            {'load: of 100 studies, "confirmed" with layer-matched draws deciding'},
        ),
    ],
)
def test_rows_fail_where_a_null_is_confirmed_or_proves_nothing(changes, failing):
    good = Outcome(True, True, "inconclusive", "confirmed", "inconclusive", "confirmed")
    rows = list(null_rows("load", [replace(good, **changes)] * 100))
    assert {row.figure for row in rows if row.status == "failed"} == failing
