"""Verdicts that must survive cut responses, and the kernels at batch 1."""

import numpy as np
import pandas as pd
import pytest

from lmri.config import ValidateOptions
from lmri.errors import SparseError
from lmri.score import Effect
from lmri.sparse.rules import KeptHeads, KeptNeurons, SkippedExperts
from lmri.validate.arms import Arm, Part
from lmri.validate.kernel import KernelRepeat, plan_rules, repeat_on_kernel
from lmri.validate.plan_arms import INTACT_ARM
from lmri.validate.settling import bound_verdicts, settled
from lmri.validate.trials import TRIAL_SCORES, TrialScores
from lmri.validate.verdict import Evidence, Verdict, decide

ENDPOINT = {
    "claims": 1,
    "alpha": 0.05,
    "margin": 0.1,
    "score": "exact",
    "minimum_trials": 30,
    "shams": 39,
    "coherence": {"share": 0.9},
    "max_new_tokens": 3,
}
OPTIONS = ValidateOptions(bootstrap=200)
N = 60


def part(role: str) -> Part:
    trials = pd.DataFrame({"trial": np.arange(N).astype(str), "carrier_place": np.arange(N) // 2})
    return Part(role, "events", role, trials)


def scored(value: float, cut: int = 0) -> pd.DataFrame:
    frame = pd.DataFrame(dict.fromkeys(TRIAL_SCORES, np.full(N, value)))
    frame["ended"] = (np.arange(N) >= cut).astype(float)
    frame.loc[frame["ended"] == 0, "exact"] = 0.0
    return frame


def case(cut_target: int = 0, cut_bystander: int = 0, score: str = "exact"):
    """Exact answers end with the finding's units off; some responses are cut."""
    trials, parts = TrialScores(), [part("target"), part("bystander")]
    primary = Arm("finding", "mask", 1, primary=True)
    for own, value, cut in ((parts[0], 0.0, cut_target), (parts[1], 1.0, cut_bystander)):
        trials.add(INTACT_ARM, own, scored(1.0))
        trials.add(primary, own, scored(value, cut))
    trials.add(Arm("positive_control", "ablate"), parts[0], scored(0.0))
    full = Effect(1.0, 0.95, 1.0, N, 30)
    still = Effect(0.0, -0.05, 0.05, N, 30, 0.1)
    evidence = Evidence(full, [0.0] * 39, {"events, bystander": still}, 1.0, full, 39)
    endpoint = {**ENDPOINT, "score": score}
    return endpoint, evidence, trials, parts


def test_nothing_cut_needs_no_bounds():
    endpoint, evidence, trials, parts = case()
    verdicts, cut = bound_verdicts(endpoint, evidence, trials, parts, OPTIONS, 0)
    assert (verdicts, cut) == ([], 0)
    ruled = decide(endpoint, evidence)
    assert ruled.verdict == "confirmed"
    assert settled(ruled, verdicts, cut, KernelRepeat()) == ruled


def test_a_verdict_that_hangs_on_cut_responses_is_none():
    endpoint, evidence, trials, parts = case(cut_target=57)
    verdicts, cut = bound_verdicts(endpoint, evidence, trials, parts, OPTIONS, 0)
    assert cut == 57
    assert [own.verdict for own in verdicts] == ["inconclusive", "confirmed"]
    verdict = settled(decide(endpoint, evidence), verdicts, cut, KernelRepeat())
    assert verdict.verdict == "inconclusive"
    assert "57 responses were cut" in verdict.reason and "by its rule it is confirmed" in (
        verdict.reason
    )
    assert not verdict.checks[-1].passed


def test_a_few_cut_responses_change_nothing():
    endpoint, evidence, trials, parts = case(cut_target=3)
    verdicts, cut = bound_verdicts(endpoint, evidence, trials, parts, OPTIONS, 0)
    verdict = settled(decide(endpoint, evidence), verdicts, cut, KernelRepeat())
    assert (cut, verdict.verdict) == (3, "confirmed")
    assert verdict.checks[-1].check == "same at both bounds" and verdict.checks[-1].passed


def test_an_onset_is_known_of_a_cut_response_but_a_bystander_is_not():
    endpoint, evidence, trials, parts = case(cut_target=60, score="refusal_onset")
    assert bound_verdicts(endpoint, evidence, trials, parts, OPTIONS, 0) == ([], 0)
    endpoint, evidence, trials, parts = case(cut_bystander=30, score="refusal_onset")
    verdicts, cut = bound_verdicts(endpoint, evidence, trials, parts, OPTIONS, 0)
    assert cut == 30
    assert [own.verdict for own in verdicts] == ["confirmed", "inconclusive"]


def test_kernels_that_differ_leave_no_verdict():
    ruled = Verdict("refuted", "no effect")
    same = settled(ruled, [], 0, KernelRepeat("cpu", 8, 8))
    assert same.verdict == "refuted" and same.checks[-1].passed
    other = settled(ruled, [], 0, KernelRepeat("cpu", 8, 7, "1 of 8 trials differ"))
    assert other.verdict == "inconclusive" and "7 of 8 trials" in other.reason
    # What is open stays as it is, with the check beside it.
    opened = settled(Verdict("inconclusive", "why"), [], 0, KernelRepeat("cpu", 8, 7))
    assert opened.reason == "why" and not opened.checks[-1].passed
    assert settled(ruled, [], 0, KernelRepeat(reason="cannot")) == ruled


@pytest.fixture(scope="module")
def target(planted_trials) -> Part:
    keep = (planted_trials["condition"] == "sensitive") & (planted_trials["split"] == "evaluation")
    return Part("target", "events", "sensitive", planted_trials[keep].reset_index(drop=True))


def repeated(subject, finding, target, reference):
    return repeat_on_kernel(
        subject, finding, target, reference, limits=ENDPOINT["coherence"], trials=8, seed=0
    )


def test_kernels_repeat_a_planted_neuron(planted_subject, make_finding, target):
    finding = make_finding("neuron", [[1, 7]], [[[0, 1]]])
    off = np.zeros(len(target.trials))
    repeat = repeated(planted_subject, finding, target, off)
    assert (repeat.n, repeat.agreeing, repeat.disagrees) == (8, 8, False)
    assert repeat.backend in {"cpu", "reference"}
    wrong = repeated(planted_subject, finding, target, 1 - off)
    assert wrong.disagrees and wrong.agreeing == 0 and "8 of 8 trials differ" in wrong.reason


@pytest.mark.parametrize(("kind", "units", "mode"), [("residual", [[1, 63]], "zero")])
def test_what_the_runtime_cannot_do_is_said(
    planted_subject, make_finding, target, kind, units, mode
):
    finding = make_finding(kind, units, [[[0, 1]]], mode)
    repeat = repeated(planted_subject, finding, target, np.zeros(len(target.trials)))
    assert (repeat.n, repeat.backend) == (0, "")
    assert "cannot put residuals into the mode 'zero'" in repeat.reason


def test_units_become_rules(planted_subject, tiny_subject):
    anatomy = planted_subject.anatomy
    (heads,) = plan_rules("head", "zero", [(1, 0), (1, 2)], anatomy)
    assert isinstance(heads, KeptHeads) and heads.heads == (1, 3)
    (neurons,) = plan_rules("neuron", "zero", [(0, 5)], anatomy)
    assert isinstance(neurons, KeptNeurons) and len(neurons.neurons) == 47
    experts = plan_rules("expert", "mask", [(0, 5), (1, 2), (0, 3)], tiny_subject.anatomy)
    assert [(own.layer, own.experts, own.mode) for own in experts] == [
        (0, (3, 5), "mask"),
        (1, (2,), "mask"),
    ]
    assert isinstance(experts[0], SkippedExperts)
    with pytest.raises(SparseError, match="cannot put experts into the mode 'force'"):
        plan_rules("expert", "force", [(0, 1)], tiny_subject.anatomy)
