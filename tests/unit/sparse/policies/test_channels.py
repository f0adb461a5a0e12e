"""TEAL, WINA and the exact top-k: thresholds, counts and how they relate."""

import pytest
import torch
from families import FAMILIES, configuration, random_model

from lmri.anatomy.linears import linears
from lmri.errors import SparseError
from lmri.sparse.calibration import Score
from lmri.sparse.masks import channels_read
from lmri.sparse.plan_checks import check_plan_fits
from lmri.sparse.policies import calibrate
from lmri.sparse.rules import InputThreshold

SHARES = (0.25, 0.4, 0.5, 0.65, 0.8, 0.9)


@pytest.mark.parametrize("kind", FAMILIES)
def test_teal_skips_the_share_it_is_asked_for_everywhere(reading, kind):
    activity = reading(kind)
    plan = calibrate("teal", activity, {"sparsity": 0.65})
    names = [
        (layer, name) for layer, own in linears(activity.subject.model).items() for name in own
    ]
    assert sorted((r.layer, r.projection) for r in plan.rules) == sorted(names)
    for found in plan.achieved:
        # Equal values, as of a token met twice, are skipped together.
        assert found.achieved == pytest.approx(0.65, abs=4e-3)
    check_plan_fits(plan, None, activity.subject.anatomy, "plan")


def test_the_threshold_is_the_value_of_its_rank(reading, collected):
    activity = reading("llama")
    values = collected(activity, Score((1, "dense"), lambda look: look.neurons.abs())).flatten()
    for share in SHARES:
        (rule,) = (
            r
            for r in calibrate("teal", activity, {"sparsity": share, "projections": ["down"]}).rules
            if r.layer == 1
        )
        count = int(share * len(values) + 1e-9)
        assert rule.threshold == values.kthvalue(count).values
        assert (values <= rule.threshold).sum() == count


def test_a_sparsity_of_0_skips_zeros_alone(reading):
    for policy in ("teal", "wina", "top_k"):
        options = {"sparsity": 0.0, **({"by": "threshold"} if policy == "wina" else {})}
        plan = calibrate(policy, reading("llama"), options)
        assert all(found.achieved == 0 for found in plan.achieved)


def test_thresholds_grow_with_the_sparsity(reading):
    activity = reading("qwen3_moe")
    plans = [calibrate("teal", activity, {"sparsity": share}) for share in SHARES]
    for rules in zip(*(plan.rules for plan in plans), strict=True):
        thresholds = [float(rule.threshold) for rule in rules]
        assert thresholds == sorted(thresholds) and thresholds[0] < thresholds[-1]


def test_wina_is_teal_where_columns_have_equal_norms(reading):
    model = random_model(configuration("llama"))
    for found in linears(model).values():
        for part in found.values():
            # A power of two divides and multiplies without rounding.
            part.matrix.copy_(torch.full(part.matrix.shape, 2.0))
            part.matrix[1:] = 0
    activity = reading("llama", model=model)
    teal = calibrate("teal", activity)
    wina = calibrate("wina", activity, {"by": "threshold"})
    for one, other in zip(teal.rules, wina.rules, strict=True):
        assert torch.equal(one.threshold.expand(other.threshold.shape), other.threshold)
    exact, scaled = calibrate("top_k", activity), calibrate("wina", activity)
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    for one, other in zip(exact.rules, scaled.rules, strict=True):
        if one.projection != "down":
            assert torch.equal(channels_read(one, x), channels_read(other, x))


def test_wina_skips_by_what_a_channel_writes(reading, collected):
    activity = reading("llama")
    plan = calibrate("wina", activity, {"by": "threshold", "sparsity": 0.4})
    rule = next(r for r in plan.rules if (r.layer, r.projection) == (1, "gate"))
    x = collected(activity, Score((1, "dense"), lambda look: look.input))
    scores = x.abs() * linears(activity.subject.model)[1]["gate"].weight.norm(dim=0)
    count = int(0.4 * x.numel())
    expected = scores > scores.flatten().kthvalue(count).values
    assert (channels_read(rule, x) != expected).sum() <= 1  # rounding of the channel thresholds


def test_the_released_wina_has_norms_for_keys_and_gates_alone(reading):
    plan = calibrate("wina", reading("qwen3_moe"), {"norms": "k_gate"})
    scaled = {rule.projection for rule in plan.rules if rule.scale is not None}
    assert scaled == {"key", "gate", "expert_gate"}
    plan = calibrate("wina", reading("qwen3_moe"), {"norms": "k_gate", "by": "threshold"})
    assert {r.projection for r in plan.rules if r.threshold.dim()} == scaled


@pytest.mark.parametrize("sparsity", SHARES)
def test_top_k_reads_exactly_k(reading, sparsity):
    for found in calibrate("top_k", reading("llama"), {"sparsity": sparsity}).achieved:
        channels = 48 if found.site == "down" else 32
        assert found.achieved == int(sparsity * channels + 1e-9) / channels


def test_a_column_of_zeros_is_never_read_and_a_threshold_of_zero_stays_zero():
    from lmri.sparse.policies.draft import per_channel

    scale = torch.tensor([2.0, 0.0, 0.5])
    assert per_channel(torch.tensor(1.0), scale).tolist() == [0.5, float("inf"), 2.0]
    assert per_channel(torch.tensor(0.0), scale).tolist() == [0.0, 0.0, 0.0]


def test_the_attention_alone_can_be_asked_for(reading):
    plan = calibrate("teal", reading("llama"), {"projections": ["query", "attention_output"]})
    assert len(plan.rules) == 4 and all(isinstance(rule, InputThreshold) for rule in plan.rules)


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("teal", {"sparsity": 1.0}, r"'sparsity'.*\[0, 1\)"),
        ("teal", {"sparsity": -0.1}, r"'sparsity'.*\[0, 1\)"),
        ("teal", {"sparsity": "half"}, r"'sparsity'.*\[0, 1\)"),
        ("teal", {"allocation": "best"}, "'allocation'"),
        ("teal", {"projections": ["gates"]}, "'projections'"),
        ("teal", {"projections": ["shared_up"]}, "'projections'.*that the subject has"),
        ("teal", {"step": 0}, "'step'"),
        ("wina", {"norms": "some"}, "'norms'"),
        ("wina", {"by": "rank"}, "'by'"),
        ("top_k", {"speed": 3}, "must be among 'sparsity'.*'speed'"),
        ("guess", {}, "'policy'"),
        ("keep_heads", {}, "not complete.*heads"),
    ],
)
def test_options_that_make_no_sense_are_refused(reading, policy, options, message):
    with pytest.raises(SparseError, match=message):
        calibrate(policy, reading("llama"), options)
