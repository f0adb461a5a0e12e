"""Every sham map gets the dose that a finding with its units would get."""

import numpy as np
import pandas as pd
import pytest

from lmri.config import EvidenceOptions
from lmri.localise.endpoint import calibrate_dose
from lmri.localise.sham_doses import sham_doses

LIMITS = {"log_probability": -100.0, "repeats": 3, "share": 0.9}
DOSES = [1, 2, 4]


@pytest.fixture(scope="module")
def questions(small_world):
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


def drawn(subject, count):
    rng = np.random.default_rng(0)
    every = [(layer, e) for layer in range(2) for e in range(subject.anatomy.experts)]
    return [
        [every[i] for i in rng.choice(len(every), max(DOSES), replace=False)] for _ in range(count)
    ]


def chosen(subject, questions, shams, calibration, score, target):
    return sham_doses(
        subject,
        shams,
        calibration,
        questions,
        score,
        target_effect=target,
        limits=LIMITS,
        max_new_tokens=4,
        kind="expert",
        mode="zero",
    )


@pytest.mark.parametrize("score", ["onset_margin", "fact_told"])
def test_a_sham_map_gets_the_dose_of_a_finding_with_its_units(tiny_subject, questions, score):
    shams = drawn(tiny_subject, 8)
    effects = {}
    for target in (-0.01, 0.001, 0.01):
        options = EvidenceOptions(score=score, target_effect=target)
        alone = [
            calibrate_dose(tiny_subject, units, DOSES, questions, options, LIMITS, 4, mode="zero")
            for units in shams
        ]
        effects[target] = [dose for dose, _ in alone]
        found = chosen(tiny_subject, questions, shams, alone[0][1], score, target)
        assert found == effects[target]
    if score == "onset_margin":  # the choice is one
        assert len({dose for own in effects.values() for dose in own}) > 1


def test_without_an_effect_it_is_the_largest_that_the_finding_speaks_at(tiny_subject, questions):
    rows = [
        {"dose": d, "effect": 0.0, "coherent": c} for d, c in zip(DOSES, (1, 1, 0.2), strict=True)
    ]
    shams = drawn(tiny_subject, 3)
    assert chosen(tiny_subject, questions, shams, rows, "onset_margin", 1e9) == [2, 2, 2]


def test_doses_that_cannot_be_carried_out_are_left_out(tiny_subject, questions):
    experts = tiny_subject.anatomy.experts
    whole = [(0, e) for e in range(experts)]  # a layer without any expert to choose
    rows = [{"dose": d, "effect": 0.0, "coherent": 1.0} for d in (1, experts)]
    arguments = {"limits": LIMITS, "max_new_tokens": 4, "kind": "expert", "mode": "mask"}
    found = sham_doses(
        tiny_subject, [whole], rows, questions, "onset_margin", target_effect=1e9, **arguments
    )
    assert found == [1]
