"""Plans as data: the same after a round trip, and what is none refused."""

import json

import numpy as np
import pytest

from lmri.errors import LmriError
from lmri.intervene import INTACT, Combined, Plan, plan_record, read_plan, steering_plan

MASK = Plan("mask", ((0, 1), (1, 7)), phase="prompt")
MEAN = Plan("mean", ((0, 1),), "head", (tuple(np.random.default_rng(0).normal(size=8).tolist()),))


def test_a_plan_survives_json_to_the_bit(tiny_subject):
    vectors = {1: np.random.default_rng(1).normal(size=32)}
    steer = steering_plan(tiny_subject.anatomy, vectors, 0.1, phase="response")
    for plan in (INTACT, MASK, MEAN, steer, Combined((MASK, MEAN)), Combined(())):
        assert read_plan(json.loads(json.dumps(plan_record(plan)))) == plan


def test_units_of_numpy_become_whole_numbers():
    plan = Plan("zero", ((np.int64(1), np.int64(2)),), "head")
    assert json.dumps(plan_record(plan)["units"]) == "[[1, 2]]"


def test_phase_and_values_may_be_missing():
    record = {"kind": "expert", "mode": "zero", "units": [[0, 3]]}
    assert read_plan(record) == Plan("zero", ((0, 3),))
    assert read_plan({"together": [record]}) == Combined((Plan("zero", ((0, 3),)),))


GOOD = {"kind": "expert", "mode": "zero", "units": [[0, 3]]}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ([], "must be a mapping"),
        ({"kind": "expert"}, "must have 'kind', 'mode' and 'units'"),
        (GOOD | {"extra": 1}, "Got 'extra', 'kind', 'mode', 'units'"),
        (GOOD | {"mode": 3}, "must be words"),
        (GOOD | {"units": [0, 3]}, "'units' .* lists of whole numbers"),
        (GOOD | {"units": [[0, 3.5]]}, "'units' .* lists of whole numbers"),
        (GOOD | {"units": [[0, True]]}, "'units' .* lists of whole numbers"),
        (GOOD | {"values": [["1"]]}, "'values' .* lists of numbers"),
        ({"together": GOOD}, "'together' alone, a list"),
        ({"together": [], "kind": "head"}, "'together' alone, a list"),
        ({"together": [3]}, "must be a mapping. Got 3"),
    ],
)
def test_what_is_no_plan_is_refused(record, words):
    with pytest.raises(LmriError, match=words) as info:
        read_plan(record, "finding 'f'")
    assert "finding 'f'" in str(info.value)
    assert "\n" not in str(info.value)
