"""Sham maps that end early: what is run, what is kept, and that the verdict is the same."""

import pytest

from lmri.config import ValidateOptions
from lmri.store import write_table
from lmri.validate import decide
from lmri.validate.rerun import DRAWS_AT_ONCE, Rerun

OPTIONS = ValidateOptions(bootstrap=200, rows=256, control_bystander_trials=8)
HEADS = [[[layer, head]] for layer in (0, 1) for head in (1, 2, 3)] * 7
NEURONS = [[[layer, neuron]] for layer in (0, 1) for neuron in range(20, 45)]


@pytest.fixture(scope="module")
def stimuli(planted_trials, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stimuli")
    write_table(folder / "events.parquet", planted_trials)
    return folder


def judged(subject, finding, stimuli):
    arms, evidence, _ = Rerun(subject, finding, stimuli, OPTIONS, 0).confirm()
    return arms[arms["arm"] == "sham"], evidence, decide(finding["primary_endpoint"], evidence)


@pytest.mark.parametrize("stop", [3, DRAWS_AT_ONCE + 2])
def test_draws_end_where_so_many_do_as_much(planted_subject, make_finding, stimuli, stop):
    finding = make_finding("head", [[1, 0]], HEADS)
    _, _, whole = judged(planted_subject, finding, stimuli)
    finding["primary_endpoint"]["stop_after"] = stop
    arms, evidence, verdict = judged(planted_subject, finding, stimuli)
    assert len(evidence.shams) == stop  # every sham does as much: nothing
    shams = arms[(arms["trial_role"] == "target") & arms["primary"]]
    assert sorted(shams["draw"]) == list(range(stop))
    assert verdict.p == 1.0
    assert f"end by the rule of {stop}" in verdict.checks[0].detail
    assert verdict.verdict == whole.verdict == "refuted"


def test_draws_that_do_less_are_all_run(planted_subject, make_finding, stimuli):
    finding = make_finding("neuron", [[1, 7]], NEURONS)
    arms, evidence, whole = judged(planted_subject, finding, stimuli)
    finding["primary_endpoint"]["stop_after"] = 5
    again, stopped, verdict = judged(planted_subject, finding, stimuli)
    assert stopped.shams == evidence.shams and len(stopped.shams) == len(NEURONS)
    assert (verdict.verdict, verdict.p) == (whole.verdict, whole.p) == ("confirmed", 1 / 51)
    assert sorted(again["draw"]) == sorted(arms["draw"])
