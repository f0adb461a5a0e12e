"""CATS, CHESS and cutoffs of the gate: counts, round trips and how they relate."""

import pytest
import torch
from families import FAMILIES, configuration, random_model

from lmri.anatomy.linears import mlps
from lmri.errors import SparseError
from lmri.sparse.calibration import Score
from lmri.sparse.masks import neurons_computed
from lmri.sparse.policies import calibrate
from lmri.sparse.rules import AttentionTopK, GateCutoff, NeuronThreshold


def neurons(plan):
    return [rule for rule in plan.rules if isinstance(rule, NeuronThreshold)]


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("policy", ["cats", "chess", "fatrelu"])
def test_the_share_asked_for_is_skipped_in_every_group(reading, kind, policy):
    activity = reading(kind)
    plan = calibrate(policy, activity, {"sparsity": 0.8})
    found = [own for own in plan.achieved if own.denominator == "neurons"]
    groups = [group for own in activity.mlps.values() for group in own]
    assert len(found) == len(groups)
    assert all(own.achieved == pytest.approx(0.8, abs=2e-3) for own in found)


def test_cats_takes_the_quantile_of_the_gate_also_above_1(reading, collected):
    model = random_model(configuration("llama"))
    model.model.layers[0].mlp.gate_proj.weight *= 20  # beyond the bins of the released code
    activity = reading("llama", model=model)
    rule = calibrate("cats", activity, {"sparsity": 0.9}).rules[0]
    gates = collected(activity, Score((0, "dense"), lambda look: look.activation.abs()))
    count = int(0.9 * gates.numel() + 1e-9)
    assert rule.threshold == gates.flatten().kthvalue(count).values and rule.threshold > 1


def test_chess_makes_up_for_the_other_factor(reading, collected):
    activity = reading("qwen2_moe")
    means = activity.mean_squares(
        {
            site: Score(site, lambda look: look.up)
            for site in activity.sites
            if site[1] in mlps_of(activity, site[0])
        }
    )
    for rule in neurons(calibrate("chess", activity, {"sparsity": 0.4})):
        importance = means[rule.layer, rule.group] * rule.threshold.double() ** 2
        expected = importance.mean().expand(importance.shape)
        torch.testing.assert_close(importance, expected, rtol=1e-5, atol=0.0)
        assert rule.threshold.std() > 0


def mlps_of(activity, layer):
    return activity.mlps[layer]


def test_chess_is_cats_where_second_moments_are_equal(reading, monkeypatch, collected):
    activity = reading("qwen3_moe")

    def equal(scores):
        return {
            site: torch.full((8, 16) if site[1] == "expert" else (48,), 4.0).double()
            for site in scores
        }

    monkeypatch.setattr(activity, "mean_squares", equal)
    chess = neurons(calibrate("chess", activity, {"sparsity": 0.6, "attention": False}))
    cats = neurons(calibrate("cats", activity, {"sparsity": 0.6}))
    for one, other in zip(chess, cats, strict=True):
        assert torch.equal(one.threshold, other.threshold.expand(one.threshold.shape))
        score = Score((one.layer, one.group), lambda look: look.activation)
        gates = collected(activity, score)
        ids = (
            collected(activity, Score(score.site, lambda look: look.experts))
            if one.threshold.dim() == 2
            else None
        )
        assert torch.equal(neurons_computed(one, gates, ids), neurons_computed(other, gates))


def test_chess_sees_a_scale_moved_from_down_to_up(reading):
    model = random_model(configuration("llama"))
    before = neurons(calibrate("chess", reading("llama", model=model)))[0]
    mlp = model.model.layers[0].mlp
    mlp.up_proj.weight[3] *= 8
    mlp.down_proj.weight[:, 3] /= 8  # the same function
    after = neurons(calibrate("chess", reading("llama", model=model)))[0]
    assert after.threshold[3] < before.threshold[3] / 6


def test_chess_thresholds_queries_and_outputs_of_attention_alone(reading):
    plan = calibrate("chess", reading("llama"))
    sites = {rule.projection for rule in plan.rules if not isinstance(rule, NeuronThreshold)}
    assert sites == {"query", "attention_output"}
    assert len(calibrate("chess", reading("llama"), {"attention": False}).rules) == 2


def test_a_sparsity_of_0_has_no_statistical_cut(reading):
    assert calibrate("statistical_top_k", reading("llama"), {"sparsity": 0.0}).rules == ()
    keys = calibrate("statistical_top_k", reading("llama"), {"sparsity": 0.0, "keys": 3})
    assert [type(rule) for rule in keys.rules] == [AttentionTopK, AttentionTopK]


def test_the_statistical_cut_is_at_the_normal_quantile(reading):
    rule = calibrate("statistical_top_k", reading("llama"), {"sparsity": 0.95}).rules[0]
    assert rule.value == pytest.approx(1.6448536)
    half = calibrate("statistical_top_k", reading("llama"), {"sparsity": 0.5})
    assert half.rules[0].value == 0
    assert half.achieved[0].asked == 0.5 and half.achieved[0].achieved != 0.5  # counted


def test_a_normal_gate_is_cut_as_asked(reading):
    model = random_model(configuration("llama", intermediate_size=4000))
    plan = calibrate("statistical_top_k", reading("llama", model=model), {"sparsity": 0.92})
    for found in plan.achieved:
        assert found.achieved == pytest.approx(0.92, abs=0.01)


def test_fatrelu_keeps_the_value_equal_to_its_shift(reading, collected):
    activity = reading("llama")
    rule = calibrate("fatrelu", activity, {"sparsity": 0.8}).rules[0]
    gates = collected(activity, Score((0, "dense"), lambda look: look.gate))
    assert rule.cutoff == "shifted_relu" and (gates == rule.value).sum() == 1
    assert (gates < rule.value).sum() == int(0.8 * gates.numel() + 1e-9)


def test_fatrelu_is_the_rectifier_where_that_skips_enough(reading):
    few = calibrate("fatrelu", reading("llama"), {"sparsity": 0.2})
    plain = calibrate("relu", reading("llama"))
    assert [rule.cutoff for rule in few.rules] == ["relu"] * 2
    pairs = zip(few.achieved, plain.achieved, strict=True)
    assert all(one.achieved == other.achieved for one, other in pairs)
    assert all(isinstance(rule, GateCutoff) for rule in plain.rules)


def test_keys_must_be_at_least_one(reading):
    with pytest.raises(SparseError, match="'keys'"):
        calibrate("statistical_top_k", reading("llama"), {"keys": 0})


def test_groups_are_those_of_the_architecture(reading):
    plan = calibrate("cats", reading("deepseek_v3"))
    groups = [(rule.layer, rule.group) for rule in plan.rules]
    model = reading("deepseek_v3").subject.model
    assert sorted(groups) == sorted((i, g) for i, own in mlps(model).items() for g in own)
