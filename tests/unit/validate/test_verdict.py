"""The rule: every verdict is reached, and only by its own conditions."""

from dataclasses import replace

import pytest

from lmri.score import Effect
from lmri.validate import Evidence, decide, not_testable
from lmri.validate.job import _numbers

ENDPOINT = {
    "alpha": 0.05,
    "claims": 2,
    "margin": 0.1,
    "minimum_trials": 150,
    "shams": 99,
    "coherence": {"log_probability": -3.0, "repeats": 3, "share": 0.9},
}
CLEAR = Effect(0.9, 0.8, 1.0, 120, 10)
NOTHING = Effect(0.0, -0.03, 0.03, 120, 10)
CALM = Effect(0.0, -0.02, 0.02, 150, 12)
GOOD = Evidence(CLEAR, [0.0] * 99, {"benign": CALM}, 1.0, CLEAR, sham_sets=9)


def outcome(evidence: Evidence, **changes) -> str:
    return decide({**ENDPOINT, **changes}, evidence).verdict


def test_a_clear_specific_coherent_effect_is_confirmed():
    verdict = decide(ENDPOINT, GOOD)
    assert verdict.verdict == "confirmed"
    assert (verdict.p, verdict.p_corrected) == (0.01, 0.02)
    assert all(check.passed for check in verdict.checks)


def test_confirmation_does_not_need_the_positive_control():
    assert outcome(replace(GOOD, positive_control=NOTHING)) == "confirmed"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shams": [0.9] * 3 + [0.0] * 96}, "3 of 99 sham maps do as much"),
        ({"bystanders": {"benign": Effect(-0.2, -0.3, -0.1, 150, 12)}}, "benign changes by -0.20"),
        ({"bystanders": {"benign": replace(CALM, n=149)}}, "149 trials, needed 150"),
        ({"coherent": 0.89}, "0.89 of the responses are coherent"),
    ],
)
def test_one_failed_part_makes_it_inconclusive_and_is_named(change, words):
    verdict = decide(ENDPOINT, replace(GOOD, **change))
    assert verdict.verdict == "inconclusive"
    assert words in verdict.reason
    assert sum(not check.passed for check in verdict.checks) == 1


def test_an_effect_near_the_margin_is_neither_confirmed_nor_refuted():
    assert outcome(replace(GOOD, effect=Effect(0.15, 0.05, 0.25, 120, 10))) == "inconclusive"


def test_no_effect_is_refuted_when_the_positive_control_moves_the_behaviour():
    verdict = decide(ENDPOINT, replace(GOOD, effect=NOTHING))
    assert verdict.verdict == "refuted"
    assert "positive control moves it" in verdict.reason


def test_a_refutation_tells_what_else_broke():
    lost = {"benign": Effect(-1.0, -1.0, -0.97, 150, 12), "copying": Effect(-0.1, -0.2, 0, 150, 12)}
    broken = replace(GOOD, effect=NOTHING, coherent=0.0, bystanders=lost | {"relations": CALM})
    verdict = decide(ENDPOINT, broken)
    assert verdict.verdict == "refuted"
    assert verdict.reason.endswith(
        "; not all else stays: 0.00 of the responses are coherent, needed 0.9; 2 of 3 bystanders "
        "are not shown to stay, most changed is benign by -1.00 [-1.00, -0.97]"
    )
    assert "not all else stays" not in decide(ENDPOINT, replace(GOOD, effect=NOTHING)).reason
    unmoved = replace(broken, positive_control=NOTHING)
    assert "0.00 of the responses are coherent" in decide(ENDPOINT, unmoved).reason


def test_what_no_change_in_any_trial_leaves_open_is_told():
    same = Effect(0.0, -0.03, 0.03, 120, 10, carrier_bound=0.31)
    refuted = decide(ENDPOINT, replace(GOOD, effect=same))
    assert refuted.verdict == "refuted"
    assert "unchanged in all 120 trials of 10 carriers" in refuted.reason
    assert "changes up to 0.31 cannot be excluded" in refuted.reason
    bystanders = {"benign": replace(CALM, carrier_bound=0.26), "relations": CALM}
    confirmed = decide(ENDPOINT, replace(GOOD, bystanders=bystanders))
    assert confirmed.verdict == "confirmed"
    assert "1 of them unchanged in every trial" in confirmed.reason
    assert "changes up to 0.26 cannot be excluded" in confirmed.reason
    assert "cannot be excluded" not in decide(ENDPOINT, GOOD).reason


def test_the_different_sets_of_units_among_the_shams_are_counted():
    assert (
        "0 of 99 sham maps do as much (9 different sets of units;" in decide(ENDPOINT, GOOD).reason
    )


def test_too_few_shams_to_confirm_are_told():
    few = replace(GOOD, shams=[0.0] * 38)
    verdict = decide(ENDPOINT, few)
    assert verdict.verdict == "inconclusive"
    assert (
        "could not be confirmed: the subject can be run without 38 of the 99 sham" in verdict.reason
    )
    assert outcome(replace(GOOD, shams=[0.0] * 39)) == "confirmed"


def test_an_effect_without_an_interval_is_inconclusive():
    nan = float("nan")
    verdict = decide(ENDPOINT, replace(GOOD, effect=Effect(-0.0, nan, nan, 120, 10)))
    assert verdict.verdict == "inconclusive"
    assert "falls by 0.00 (no interval)" in verdict.reason


def test_no_effect_without_a_positive_control_is_inconclusive():
    assert outcome(replace(GOOD, effect=NOTHING, positive_control=NOTHING)) == "inconclusive"


def test_a_wide_interval_around_nothing_is_not_refuted():
    assert outcome(replace(GOOD, effect=Effect(0.0, -0.2, 0.2, 120, 10))) == "inconclusive"


def test_an_increase_is_never_confirmed():
    increase = replace(GOOD, effect=Effect(-0.9, -1.0, -0.8, 120, 10), shams=[-1.0] * 99)
    assert outcome(increase) == "inconclusive"


def test_more_claims_need_a_smaller_p():
    one_sham_as_large = replace(GOOD, shams=[0.9] + [0.0] * 98)
    assert outcome(one_sham_as_large, claims=2) == "confirmed"
    assert outcome(one_sham_as_large, claims=3) == "inconclusive"


def test_not_testable_says_why():
    verdict = not_testable("the behaviour is not there")
    assert (verdict.verdict, verdict.reason) == ("not testable", "the behaviour is not there")


def test_a_bystander_that_is_not_there_shows_nothing():
    both = {"benign": CALM, "other": CALM}
    some = decide(ENDPOINT, replace(GOOD, bystanders=both, absent=frozenset({"other"})))
    assert some.verdict == "confirmed"
    assert "all 1 bystanders stay within 0.1" in some.reason
    assert "nothing could be lost in other" in some.reason
    none = decide(ENDPOINT, replace(GOOD, bystanders=both, absent=frozenset(both)))
    assert none.verdict == "inconclusive"
    assert "no bystander is there to be lost" in none.reason
    # One that appears has changed, there or not.
    risen = {"benign": CALM, "other": Effect(0.5, 0.4, 0.6, 150, 12)}
    moved = decide(ENDPOINT, replace(GOOD, bystanders=risen, absent=frozenset({"other"})))
    assert moved.verdict == "inconclusive"
    assert "other changes by +0.50" in moved.reason


def test_a_bystander_that_is_not_there_is_not_counted_as_held():
    both = replace(GOOD, bystanders={"benign": CALM, "other": CALM}, absent=frozenset({"other"}))
    counted = _numbers(both, ENDPOINT)
    assert (counted["bystanders"], counted["bystanders_held"]) == (2, 1)
