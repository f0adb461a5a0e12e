"""Baseline and size checks: what makes a finding not testable."""

import pandas as pd
import pytest

from lmri.config import ConditionOptions, ContrastOptions, EvidenceOptions
from lmri.localise.endpoint import baseline_check, size_check

CONTRAST = ContrastOptions(
    name="c",
    task="events",
    target=("sensitive",),
    controls=("benign",),
    bystanders=(ConditionOptions("events", "benign"), ConditionOptions("relations")),
)


def recorded(sensitive: float, benign: float) -> pd.DataFrame:
    rows = [("sensitive", sensitive)] * 10 + [("benign", benign)] * 10
    return pd.DataFrame(rows, columns=["condition", "refusal_onset"])


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
