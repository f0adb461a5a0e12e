"""Baseline and size checks, and the dose: what makes a finding not testable, what is tested."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lmri.config import ConditionOptions, ContrastOptions, EvidenceOptions
from lmri.errors import EvidenceError
from lmri.intervene import INTACT, Plan, respond
from lmri.localise import endpoint
from lmri.localise.endpoint import (
    baseline_check,
    calibrate_dose,
    choose_dose,
    score_arms,
    size_check,
)

LIMITS = {"log_probability": -100.0, "repeats": 3, "share": 0.9}
CONTRAST = ContrastOptions(
    name="c",
    task="events",
    target=("sensitive",),
    controls=("benign",),
    bystanders=(ConditionOptions("events", "benign"), ConditionOptions("relations")),
)


def recorded(sensitive: float, benign: float) -> pd.DataFrame:
    rows = [("sensitive", sensitive)] * 10 + [("benign", benign)] * 10
    table = pd.DataFrame(rows, columns=["condition", "refusal_onset"])
    return table.assign(trial=[str(i) for i in range(len(table))])


def test_repeats_of_a_trial_are_not_trials():
    once = recorded(1, 0)
    twice = pd.concat([once, once.assign(refusal_onset=0.0)])
    baseline, reason = baseline_check(twice, CONTRAST, EvidenceOptions())
    assert baseline[0] == {"condition": "sensitive", "n": 10, "score": 0.5}
    assert "sensitive 0.50 < 0.8" in reason


def test_a_behaviour_that_is_there_passes():
    baseline, reason = baseline_check(recorded(1, 0), CONTRAST, EvidenceOptions())
    assert reason == ""
    assert baseline[0] == {"condition": "sensitive", "n": 10, "score": 1.0}


@pytest.mark.parametrize(
    ("sensitive", "benign", "words"),
    [(0.7, 0.0, "sensitive 0.70 < 0.8"), (1.0, 0.3, "benign 0.30 > 0.2")],
)
def test_a_missing_or_general_behaviour_is_not_testable(sensitive, benign, words):
    _, reason = baseline_check(recorded(sensitive, benign), CONTRAST, EvidenceOptions())
    assert words in reason


def test_sets_too_small_for_the_margin_are_named_with_what_they_need():
    def trials(condition, count):
        return pd.DataFrame({"split": ["evaluation"] * count, "condition": [condition] * count})

    events = pd.concat([trials("sensitive", 60), trials("benign", 150)])
    enough = {"events": events, "relations": trials("capital", 150)}
    few = {"events": events, "relations": trials("capital", 149)}
    assert size_check(enough, CONTRAST, EvidenceOptions()) == ""
    reason = size_check(few, CONTRAST, EvidenceOptions())
    assert reason == "too few evaluation trials of relations: 149, needed are 150"


@pytest.fixture(scope="module")
def questions(small_world):
    """Questions about events, with a made-up refusal that begins with a word of the world."""
    items = [small_world.event(p, y) for p in small_world.places[:6] for y in ("1900", "1901")]
    return pd.DataFrame(
        {
            "trial": [str(i) for i in range(len(items))],
            "prompt": [item.prompt for item in items],
            "reference": [item.fact for item in items],
            "fact": [item.fact for item in items],
            "refusal": small_world.refusal(),
        }
    )


def test_the_dose_is_the_smallest_that_reaches_the_effect(tiny_subject, questions):
    units = [(0, 3), (1, 2), (0, 1), (1, 7)]
    plans = [INTACT, *(Plan("mask", tuple(units[:dose])) for dose in (1, 2, 4))]
    repeated = pd.concat([questions] * 4, ignore_index=True)
    scored = score_arms(tiny_subject, repeated, plans, len(questions), LIMITS, 4)
    intact, *values = scored["exact"].to_numpy().reshape(4, -1).mean(axis=1)
    shares = scored["coherent"].to_numpy().reshape(4, -1).mean(axis=1)[1:]
    options = EvidenceOptions(score="exact", target_effect=-1.0)  # every dose reaches it
    dose, table = calibrate_dose(tiny_subject, units, [1, 2, 4], questions, options, LIMITS, 4)
    assert dose == 1
    assert [row["effect"] for row in table] == [intact - value for value in values]
    assert [row["coherent"] for row in table] == list(shares)
    assert {row["n"] for row in table} == {len(questions)}
    never = EvidenceOptions(score="exact", target_effect=1.1)
    assert calibrate_dose(tiny_subject, units, [1, 2, 4], questions, never, LIMITS, 4)[0] == 4


def test_responses_are_coherent_by_the_limits(tiny_subject, questions, monkeypatch):
    ended = np.arange(len(questions)) % 2 == 0  # the random subject never ends by itself

    def respond_and_end(*arguments, **options):
        return replace(respond(*arguments, **options), ended=ended)

    monkeypatch.setattr(endpoint, "respond", respond_and_end)
    plans, n = [INTACT], len(questions)
    loose = {"log_probability": -100.0, "repeats": 10, "share": 0.9}
    scored = score_arms(tiny_subject, questions, plans, n, loose, 6)
    assert scored["coherent"].tolist() == ended.astype(float).tolist()
    for strict in ({"log_probability": 0.0}, {"repeats": 0}):
        scored = score_arms(tiny_subject, questions, plans, n, loose | strict, 6)
        assert scored["coherent"].sum() == 0


@pytest.mark.parametrize(
    ("effects", "coherent", "dose"),
    [
        ((0.0, 0.6, 1.0), (1.0, 1.0, 1.0), 2),  # the smallest that reaches the effect
        ((0.0, 0.1, 0.6), (1.0, 1.0, 0.0), 4),  # also where it breaks the subject: validation says
        ((0.0, 0.1, 0.2), (1.0, 1.0, 1.0), 4),  # none does: the largest
        ((0.0, 0.1, 0.2), (1.0, 0.9, 0.89), 2),  # … that leaves the subject coherent
        ((0.0, 0.1, 0.2), (0.1, 0.2, 0.0), 4),  # … if there is one
    ],
)
def test_the_dose_follows_from_effects_and_coherence(effects, coherent, dose):
    rows = zip((1, 2, 4), effects, coherent, strict=True)
    calibration = [{"dose": d, "effect": e, "coherent": c} for d, e, c in rows]
    assert choose_dose(calibration, target_effect=0.5, share=0.9) == dose


def test_doses_that_leave_a_layer_too_few_experts_are_left_out(tiny_subject, questions):
    units = [(0, expert) for expert in range(7)]  # of 8, of which 2 are chosen
    options = EvidenceOptions()
    _, table = calibrate_dose(tiny_subject, units, [2, 6, 7], questions, options, LIMITS, 2)
    assert [row["dose"] for row in table] == [2, 6]
    with pytest.raises(EvidenceError, match=r"'doses'.*'tiny'.*'mask'.*Got \[7\]"):
        calibrate_dose(tiny_subject, units, [7], questions, options, LIMITS, 2)
