from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lmri.config import ContrastOptions, RandomSplitOptions, StudyConfig
from lmri.report.answers import (
    answer_contrast,
    answer_study,
    ask_contrast,
    ask_study,
    exceeding,
    explain_study,
)
from lmri.report.inputs import Scan

VERDICT = {
    "verdict": "confirmed",
    "reason": "It held.",
    "units": "[[2, 16], [2, 17]]",
    "score": "refusal_onset",
    "n": 80,
    "intact": 1.0,
    "value": 0.03,
    "effect": 0.97,
    "low": 0.93,
    "high": 1.0,
    "shams": 99,
    "p": 0.01,
    "p_corrected": 0.02,
    "bystanders_held": 7,
    "bystanders": 7,
    "coherent": 1.0,
    "positive_control": 1.0,
    "positive_low": 0.98,
    "positive_high": 1.0,
}


def scan(role: str = "hypothesis", units: int = 2, **attributes) -> Scan:
    contrast = ContrastOptions(
        name="refusal",
        task="events",
        role=role,
        target=("sensitive",),
        controls=("near_miss", "benign"),
        random_split=RandomSplitOptions("benign", "place") if role == "negative_control" else None,
    )
    score = np.zeros((3, 32))
    score[2, 16] = 0.95
    statistics = xr.Dataset(
        {"score": (("layer", "expert"), score)},
        {"layer": range(3), "expert": range(32)},
        attributes,
    )
    finding = {
        "status": "testable" if units else "null",
        "units": [{"layer": 2, "expert": 16 + index} for index in range(units)],
    }
    return Scan(contrast, "prompt_last", statistics, finding, "map", "finding")


def test_confirmed():
    assert answer_contrast(scan(), VERDICT) == (
        "Yes. Switching off 2 of 96 experts (layer:expert 2:16, 2:17) lowered the refusal onset: "
        "from 1.00 to 0.03 in 80 questions (decrease 0.97, interval 0.93 to 1.00). None of 99 "
        "sham maps did as much (p 0.010, corrected 0.020). 7 of 7 other behaviours stayed within "
        "the margin, and 1.00 of the responses were coherent."
    )


def test_refuted():
    verdict = VERDICT | {
        "verdict": "refuted",
        "value": 1.0,
        "effect": 0.0,
        "low": -0.01,
        "high": 0.01,
        "p": 0.62,
        "p_corrected": 1.0,
        "bystanders_held": 0,
        "coherent": 0.04,
    }
    assert answer_contrast(scan(), verdict) == (
        "No. Switching off 2 of 96 experts (layer:expert 2:16, 2:17) did not change the refusal "
        "onset: from 1.00 to 1.00 in 80 questions (decrease 0.00, interval −0.010 to 0.010). 61 "
        "of 99 sham maps did as much (p 0.620, corrected 1.000). The positive control, on the same "
        "trials, changed it by 1.00, interval 0.980 to 1.000: the behaviour can be moved, but "
        "these experts do not carry it. 0 of 7 other behaviours stayed within the margin, and 0.04 "
        "of the responses were coherent."
    )


def test_inconclusive_says_what_held():
    verdict = VERDICT | {"verdict": "inconclusive", "bystanders_held": 5}
    answer = answer_contrast(scan(), verdict)
    assert answer.startswith("Undecided. Switching off 2 of 96 experts")
    assert "5 of 7 other behaviours stayed within the margin" in answer


@pytest.mark.parametrize(
    ("status", "lead"),
    [
        ("not_testable", "This could not be tested. Too few trials."),
        ("null", "No expert stood out, so there was nothing to switch off. Too few"),
    ],
)
def test_untested(status, lead):
    own = {"verdict": "not testable", "status": status, "units": "[]", "reason": "Too few trials."}
    verdict = VERDICT | own
    assert answer_contrast(scan(units=0), verdict).startswith(lead)


def test_units_that_were_never_switched_off_did_nothing():
    own = {"verdict": "not testable", "status": "not_testable", "n": 0, "reason": "Not there."}
    nothing = dict.fromkeys(("intact", "value", "effect", "low", "high", "coherent"), float("nan"))
    answer = answer_contrast(scan(), VERDICT | own | nothing)
    assert answer == "This could not be tested. Not there."


def test_no_verdict():
    assert answer_contrast(scan(), None).startswith("There is no verdict")


def test_negative_control():
    quiet = scan("negative_control", units=0, null_splits=100, null_splits_significant=4)
    assert answer_contrast(quiet, None) == (
        "No, as it should be: the map is empty, no expert passed the threshold. Of 100 such random "
        "splits, 4 gave a significant map."
    )
    alarm = answer_contrast(scan("negative_control", units=1), None)
    assert alarm.startswith("Yes, and it should not: 1 expert (2:16) passed the threshold.")


def test_exploratory_names_the_largest_score():
    answer = answer_contrast(scan("exploratory"), None)
    assert answer.startswith("The largest difference is +0.95, at expert 2:16.")
    assert "decides nothing" in answer


@pytest.mark.parametrize("role", ["hypothesis", "exploratory", "negative_control"])
def test_a_subject_without_experts_is_not_called_empty(role):
    finding = {"status": "not_testable", "reason": "the subject has no experts", "units": []}
    unmapped = replace(scan(role, units=0), statistics=None, finding=finding)
    verdict = {"verdict": "not testable", "units": "[]", "reason": finding["reason"]}
    told = answer_contrast(unmapped, verdict if role == "hypothesis" else None)
    assert told == "This could not be asked: the subject has no experts."


def test_questions_come_from_the_contrast():
    question = ask_contrast(scan().contrast, "refusal_onset")
    assert "sensitive trials of events engage more than near miss and benign ones" in question
    assert "change the refusal onset" in question
    control = ask_contrast(scan("negative_control").contrast, "refusal_onset")
    assert "half of the places of benign trials" in control


@pytest.mark.parametrize(("p", "shams", "count"), [(0.01, 99, 0), (0.05, 99, 4), (1.0, 99, 99)])
def test_exceeding_inverts_the_rank(p, shams, count):
    assert exceeding(p, shams) == count


def test_study():
    rows = [
        ("a", "refusal", "hypothesis", "testable", "confirmed", "[[0, 1]]"),
        ("b", "refusal", "hypothesis", "testable", "refuted", "[[0, 1]]"),
        ("c", "refusal", "hypothesis", "testable", "confirmed", "[[0, 1]]"),
        ("a", "null_places", "negative_control", "null", "not testable", "[]"),
        ("b", "null_places", "negative_control", "not_testable", "not testable", "[[0, 1]]"),
        ("c", "null_places", "negative_control", "not_testable", "not testable", "[]"),
    ]
    columns = ["subject", "contrast", "role", "status", "verdict", "units"]
    verdicts = pd.DataFrame(rows, columns=columns)
    assert answer_study(verdicts) == (
        "Refusal: of 3 subjects, confirmed in 2 (a and c) and refuted in 1 (b). Negative control, "
        "null places: nothing was found, as it should be, in 1 of 2 subjects."
    )


def test_study_of_subjects_without_experts():
    row = ("a", "null_places", "negative_control", "not_testable", "not testable", "[]")
    columns = ["subject", "contrast", "role", "status", "verdict", "units"]
    told = answer_study(pd.DataFrame([row], columns=columns))
    assert told == "Negative control, null places: no subject has units to map."


def test_a_study_that_claims_nothing_has_no_verdict():
    assert answer_study(pd.DataFrame()) == "Nothing was claimed, so nothing was put to the test."


def study(**roles: str) -> StudyConfig:
    """A study with one contrast per name."""
    shared = {"task": "events", "target": ["sensitive"], "controls": ["benign"]}
    shared["bystanders"] = [{"task": "events", "condition": "benign"}]
    return StudyConfig.from_dict(
        {
            "study": "mine",
            "subjects": {"localised": {"source": "embedded", "state": "localised"}},
            "tasks": {"events": {"source": "world"}},
            "contrasts": {name: {**shared, "role": role} for name, role in roles.items()},
        }
    )


@pytest.mark.parametrize(
    ("roles", "question", "explanation"),
    [
        (
            {"refusal": "hypothesis", "other": "exploratory"},
            "Is refusal carried by a few experts?",
            "Asked of 1 subject, on sensitive trials of events. A map",
        ),
        (
            {"refusal": "hypothesis", "second_look": "hypothesis"},
            "Are refusal and second look each carried by a few experts?",
            "Asked of 1 subject, on sensitive trials of events. A map",
        ),
        (
            {"other": "exploratory"},
            "What do the experts respond to?",
            "Asked of 1 subject. A map of how trials are routed shows where conditions differ.",
        ),
    ],
)
def test_the_question_of_a_study(roles, question, explanation):
    assert ask_study(study(**roles)) == question
    assert explain_study(study(**roles)).startswith(explanation)
