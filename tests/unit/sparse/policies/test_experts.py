"""Experts skipped by a list or by the ratio of their weights."""

import pytest

from lmri.errors import LmriError, SparseError
from lmri.sparse.calibration import Score
from lmri.sparse.policies import calibrate
from lmri.sparse.rules import ExpertRatio


def test_experts_of_a_list_are_skipped_in_their_mode(reading):
    options = {"experts": [[1, 5], [0, 2], [1, 0]], "mode": "zero"}
    plan = calibrate("skip_experts", reading("olmoe"), options)
    assert [(r.layer, r.experts, r.mode) for r in plan.rules] == [
        (0, (2,), "zero"),
        (1, (0, 5), "zero"),
    ]


def test_the_ratio_is_the_median_of_the_second_weight_by_the_first(reading, collected):
    activity = reading("mixtral")
    plan = calibrate("skip_experts", activity)
    for rule, found in zip(plan.rules, plan.achieved, strict=True):
        weights = collected(activity, Score((rule.layer, "router"), lambda look: look.input))
        ratios = weights.amin(-1) / weights.amax(-1)
        skipped = (ratios < rule.ratio).sum().item()
        assert isinstance(rule, ExpertRatio)
        assert abs(skipped - len(ratios) // 2) <= 1  # rounding of the ratio itself
        assert found.asked == 0.25
        assert found.achieved == pytest.approx(0.25, abs=0.01) and found.denominator == "slots"


def test_a_quantile_of_0_skips_none(reading):
    for found in calibrate("skip_experts", reading("mixtral"), {"quantile": 0.0}).achieved:
        assert found.achieved <= 0.01


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("llama", {}, "runs experts one by one"),
        ("llama4_text", {"experts": [[1, 0]]}, "runs experts one by one"),
        ("olmoe", {"experts": [[0, 8]]}, "experts of the subject"),
        ("olmoe", {"experts": [[0, i] for i in range(7)]}, "at most 6 experts"),
        ("olmoe", {"mode": "force"}, "'mode'"),
        ("olmoe", {"quantile": 1.0}, r"'sparsity'.*'quantile'.*\[0, 1\)"),
    ],
)
def test_experts_that_cannot_be_skipped_are_refused(reading, kind, options, message):
    with pytest.raises(LmriError, match=message):
        calibrate("skip_experts", reading(kind), options)


def test_one_expert_a_token_has_no_ratio(reading):
    from families import configuration, random_model

    model = random_model(configuration("mixtral", num_experts_per_tok=1))
    with pytest.raises(SparseError, match="at least 2 experts per token"):
        calibrate("skip_experts", reading("mixtral", model=model))
