"""Benches: arms run together give what each gives alone; the short ways give the same scores."""

import numpy as np
import pandas as pd
import pytest

from lmri.intervene import INTACT, Plan
from lmri.validate.arms import Arm, Bench

ARMS = [
    Arm("intact", "none", plan=INTACT),
    Arm("finding", "mask", 2, plan=Plan("mask", ((0, 3), (1, 2))), primary=True),
    Arm("sham", "zero", 1, draw=4, plan=Plan("zero", ((1, 5),))),
    Arm("finding", "force", 1, plan=Plan("force", ((0, 6),))),
]
LIMITS = {"log_probability": -3.0, "repeats": 2}


@pytest.fixture(scope="module")
def trials(small_world):
    """Questions of two lengths; one of them has no refusal."""
    events = [small_world.event(place, "1901") for place in small_world.places[:5]]
    sequences = small_world.copying(6, np.random.default_rng(0))
    items = [*events, *sequences]
    refusals = [small_world.refusal()] * (len(items) - 1) + [""]
    return pd.DataFrame(
        {
            "trial": [str(i) for i in range(len(items))],
            "prompt": [item.prompt for item in items],
            "reference": [item.fact for item in items],
            "fact": [item.fact for item in items],
            "refusal": refusals,
        }
    )


def bench(subject, rows=1024) -> Bench:
    return Bench(subject, rows, max_new_tokens=5, limits=LIMITS)


def test_arms_run_together_give_what_each_gives_alone(tiny_subject, trials):
    together = bench(tiny_subject).run(ARMS, trials)
    for arm, scores in zip(ARMS, together, strict=True):
        (alone,) = bench(tiny_subject, rows=3).run([arm], trials)
        pd.testing.assert_frame_equal(scores, alone, rtol=1e-4, atol=1e-4)
    assert not together[1]["response"].equals(together[0]["response"])


@pytest.mark.parametrize("score", ["refusal_onset", "exact", "fact_told", "refusal_exact"])
def test_the_short_way_gives_the_score_of_the_free_response(tiny_subject, trials, score):
    free = [scores[score].to_numpy() for scores in bench(tiny_subject).run(ARMS, trials)]
    quick = bench(tiny_subject).quick(ARMS, trials, score)
    np.testing.assert_array_equal(quick, free)


def test_the_short_way_recognises_what_the_subject_says(tiny_subject, trials):
    # The reference is what each arm really says (or not): scores of 0 and 1 both occur.
    (intact,) = bench(tiny_subject).run(ARMS[:1], trials)
    said = trials.assign(reference=intact["response"], refusal=intact["response"])
    free = bench(tiny_subject).run(ARMS, said)
    for score in ("refusal_onset", "exact"):
        quick = bench(tiny_subject).quick(ARMS, said, score)
        np.testing.assert_array_equal(quick, [scores[score] for scores in free])
    assert free[0]["refusal_onset"].mean() == 1.0
    assert free[1]["refusal_onset"].mean() < 1.0
