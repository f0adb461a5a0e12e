"""Rules of claims on synthetic arms with known answers: what holds, what fails, what is open."""

import math

import numpy as np
import pandas as pd
import pytest

from lmri.score import Effect
from lmri.store.claims import (
    CLAIMS,
    Where,
)
from lmri.validate.change import Carriers, Change
from lmri.validate.claims import rules
from lmri.validate.claims.judging import Judged, outcomes, untestable
from lmri.validate.verdict import Check, Evidence, Verdict

TRIALS = 120
SHARED = {
    "unit_kind": "expert",
    "units": ((0, 1), (0, 2)),
    "mode": "mask",
    "score": "refusal_onset",
    "margin": 0.1,
    "alpha": 0.05,
    "trials": Where("events", ("sensitive",)),
    "least": 60,
}
OWN = {
    "specificity": {"bystanders": (Where("copying"), Where("events", ("benign",)))},
    "dose": {"doses": (1, 2, 4)},
    "cumulativity": {"parts": (((0, 1),), ((0, 2),))},
    "jointness": {"parts": (((0, 1),), ((0, 2),))},
    "transfer": {"source": "a", "subject": "a"},
    "repair": {"source": "a", "subject": "a", "source_trials": Where("events", ("sensitive",))},
}
SHAMS = [0.0] * 98 + [0.05]


def claim(kind: str, **changes):
    return CLAIMS[kind](**{**SHARED, **OWN.get(kind, {}), **changes})


@pytest.fixture(scope="module")
def change():
    """The function that makes a change with a mean, some trials going the other way."""
    carriers = Carriers(pd.DataFrame({"carrier_place": np.arange(TRIALS) // 2}), 500, 0)

    def make(share: float, seed: int = 0) -> Change:
        differences = np.zeros(TRIALS)
        count = round(abs(share) * TRIALS)
        where = np.random.default_rng(seed).permutation(TRIALS)[:count]
        differences[where] = np.sign(share)
        return Change(differences, carriers, 0.95)

    return make


def word(judged: Judged, findings: int = 1) -> str:
    (outcome,) = outcomes([judged], findings)
    return outcome.outcome


def test_sufficiency_needs_the_behaviour_and_shams_that_lose_it(change):
    own = claim("sufficiency")
    assert word(rules.judge_sufficiency(own, change(0.02), 0.98, 1.0, [0.1] * 99)) == "holds"
    # It stays whatever is kept: then these units are nothing special.
    assert word(rules.judge_sufficiency(own, change(0.02), 0.98, 1.0, [1.0] * 99)) == "undecided"
    assert word(rules.judge_sufficiency(own, change(0.9), 0.1, 1.0, [0.0] * 99)) == "fails"
    assert word(rules.judge_sufficiency(own, change(0), 0.0, 0.0, [0.0] * 99)) == "not testable"


def test_a_dose_must_do_more_and_never_less(change):
    own = claim("dose")
    rising = [change(0.3), change(0.6), change(0.9)]
    assert word(rules.judge_dose(own, rising, [0.7, 0.4, 0.1])) == "holds"
    assert word(rules.judge_dose(own, [change(0.3)] * 3, [0.7] * 3)) == "fails"
    back = [change(0.3), change(0.9), change(0.5)]
    assert word(rules.judge_dose(own, back, [0.7, 0.1, 0.5])) == "fails"
    ended = rules.judge_dose(own, [change(1.0)] * 3, [0.0] * 3)
    assert ended.untestable and "first dose leaves 0.00" in ended.reason
    assert rules.judge_dose(own, rising[:1], [0.7]).untestable


def test_halves_add_up_or_one_does_it_all(change):
    own = claim("cumulativity")
    parts = [change(0.4, 1), change(0.3, 2)]
    assert word(rules.judge_cumulativity(own, change(0.9), parts)) == "holds"
    assert word(rules.judge_cumulativity(own, change(0.9), [change(0.9), change(0.0)])) == "fails"
    alone = claim("cumulativity", units=((0, 1),), parts=(((0, 1),), ()))
    assert rules.judge_cumulativity(alone, change(0.9), [change(0.9), change(0)]).untestable


def test_only_both_off(change):
    own = claim("jointness")
    assert word(rules.judge_jointness(own, change(1.0), [change(0.0), change(0.01)])) == "holds"
    assert word(rules.judge_jointness(own, change(1.0), [change(1.0), change(0.0)])) == "fails"
    assert word(rules.judge_jointness(own, change(0.0), [change(0.0), change(0.0)])) == "fails"
    near = [change(0.08), change(0.0)]
    assert word(rules.judge_jointness(own, change(1.0), near)) == "undecided"
    single = claim("jointness", parts=(((0, 1),),))
    assert rules.judge_jointness(single, change(1.0), [change(1.0)]).untestable


def test_another_behaviour_improves(change):
    own = claim("interference")
    assert word(rules.judge_interference(own, change(0.4), 0.5)) == "holds"
    assert word(rules.judge_interference(own, change(0.0), 0.5)) == "fails"
    assert word(rules.judge_interference(own, change(-0.4), 0.5)) == "fails"
    assert rules.judge_interference(own, change(0.0), 1.0).untestable


@pytest.mark.parametrize("kind", ["transfer", "repair"])
def test_an_effect_elsewhere_is_beyond_margin_and_shams(change, kind):
    own, rule = claim(kind), getattr(rules, f"judge_{kind}")
    intact = 0.95 if kind == "transfer" else 0.02
    assert word(rule(own, change(0.9), intact, SHAMS)) == "holds"
    assert word(rule(own, change(0.9), intact, [0.95] * 99)) == "undecided"
    assert word(rule(own, change(0.0), intact, SHAMS)) == "fails"
    assert word(rule(own, change(0.0), 1 - intact, SHAMS)) == "not testable"


def test_specificity_asks_for_the_planned_number_of_trials(change):
    own = claim("specificity", needed=(36, 100))
    stays = {"copying": change(0.01), "events, benign": change(0.0)}
    assert word(rules.judge_specificity(own, stays)) == "holds"
    few = claim("specificity", needed=(36, 500))
    judged = rules.judge_specificity(few, stays)
    assert judged.untestable and "events, benign has 120 trials" in judged.reason
    moved = {"copying": change(-0.5), "events, benign": change(0.0)}
    assert word(rules.judge_specificity(few, moved)) == "fails"
    told = rules.judge_specificity(own, stays, {"copying"})
    assert word(told) == "holds" and "nothing could be lost in copying" in told.reason
    assert "no bystander is there" in rules.judge_specificity(own, stays, set(stays)).reason
    assert word(rules.judge_specificity(own, stays, set(stays))) == "not testable"
    near = {"copying": change(0.08), "events, benign": change(0.0)}
    assert word(rules.judge_specificity(own, near)) == "undecided"


def evidence(mean: float) -> Evidence:
    effect = Effect(mean, mean - 0.02, mean + 0.02, 120, 20)
    return Evidence(effect, SHAMS, {}, 1.0, effect, 9)


def test_necessity_is_the_primary_rule_without_the_bystanders():
    names = (
        *("beyond the sham maps", "beyond the margin", "bystanders stay"),
        *("responses are coherent", "positive control"),
    )

    def judged(failing: str, word: str, p: float) -> Judged:
        checks = [Check(name, name != failing, name) for name in names]
        return rules.judge_necessity(
            claim("necessity"), Verdict(word, "", checks, p, p), evidence(0.9)
        )

    assert word(judged("", "confirmed", 0.01), findings=2) == "holds"
    assert word(judged("bystanders stay", "inconclusive", 0.01), findings=2) == "holds"
    assert word(judged("responses are coherent", "inconclusive", 0.01), findings=2) == "undecided"
    assert word(judged("beyond the sham maps", "inconclusive", 0.2), findings=2) == "undecided"
    assert word(judged("beyond the margin", "refuted", 0.5), findings=2) == "fails"


def test_secondary_claims_are_corrected_for_each_other_and_for_findings():
    def judged(kind: str, p: float, **changes) -> Judged:
        return Judged(claim(kind), "", None, p, **changes)

    claims = [judged("sufficiency", 0.01), judged("dose", 0.02), judged("transfer", 0.03)]
    alone = outcomes(claims, 1)
    assert [own.p_corrected for own in alone] == pytest.approx([0.03, 0.04, 0.04])
    assert {own.outcome for own in alone} == {"holds"}
    twice = outcomes(claims, 2)
    assert [own.p_corrected for own in twice] == pytest.approx([0.06, 0.08, 0.08])
    assert {own.outcome for own in twice} == {"undecided"}
    # What could not be tested is no test; what is primary belongs to another family.
    more = [*claims, untestable(claim("jointness"), "why"), judged("specificity", 0.04)]
    results = outcomes(more, 1)
    assert [own.p_corrected for own in results[:3]] == [own.p_corrected for own in alone]
    assert math.isnan(results[3].p_corrected) and results[3].outcome == "not testable"
    assert (results[4].p_corrected, results[4].outcome) == (0.04, "holds")
    assert "3 secondary claims" in results[0].family


def test_nothing_holds_under_the_null_more_often_than_alpha():
    """Both units do half of the time what the other does: no claim of transfer is true."""
    rng, held = np.random.default_rng(1), 0
    own = claim("transfer", margin=0.05)
    for _ in range(200):
        drawn = rng.normal(0.05, 0.3, size=60)
        carriers = Carriers(pd.DataFrame({"carrier_place": np.arange(60)}), 200, 0)
        judged = rules.judge_transfer(
            own, Change(drawn, carriers, 0.95), 0.9, rng.normal(0.0, 0.01, 99)
        )
        held += word(judged) == "holds"
    assert held <= 200 * 0.05
