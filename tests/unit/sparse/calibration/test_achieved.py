"""What is achieved equals the count of the masks, weighted by parameters."""

import pytest
import torch
from families import FAMILIES, tiny_model
from sparse_cases import plan_of

from lmri.sparse.calibration import Score
from lmri.sparse.calibration.achieved import achieved
from lmri.sparse.masks import (
    channels_read,
    cut_gate,
    keys_attended,
    neurons_computed,
)
from lmri.sparse.rules import (
    AttentionTopK,
    CacheHeads,
    ExpertRatio,
    GateCutoff,
    InputThreshold,
    InputTopK,
    KeptHeads,
    KeptNeurons,
    NeuronThreshold,
    SkippedExperts,
)
from lmri.sparse.runtime import sparse


def count(activity, rule, asked=None):
    return achieved(activity, [rule], [asked])[0]


def test_inputs_are_counted_in_channels(reading, collected):
    activity = reading("llama")
    rule = InputThreshold(1, "down", torch.tensor(0.3))
    rows = collected(activity, Score((1, "dense"), lambda look: look.neurons))
    found = count(activity, rule, 0.5)
    share = (~channels_read(rule, rows)).sum().item() / rows.numel()
    assert found.achieved == share and 0.1 < share < 0.9
    assert (found.parameters, found.skipped) == (32 * 48, share * 32 * 48)
    assert (found.asked, found.denominator, found.site) == (0.5, "channels", "down")


def test_an_exact_top_k_is_met_to_the_channel(reading):
    found = count(reading("llama"), InputTopK(0, "query", 5))
    assert found.achieved == 27 / 32 and found.skipped == 27 * 32


def test_neurons_govern_up_and_down(reading, collected):
    activity = reading("llama")
    rule = NeuronThreshold(0, "dense", torch.tensor(0.1))
    gates = collected(activity, Score((0, "dense"), lambda look: look.activation))
    found = count(activity, rule)
    assert found.achieved == (~neurons_computed(rule, gates)).sum().item() / gates.numel()
    assert found.parameters == 2 * 32 * 48 and found.denominator == "neurons"
    cutoff = GateCutoff(0, "dense", "statistical", 0.3)
    raw = collected(activity, Score((0, "dense"), lambda look: look.gate))
    cut = cut_gate(cutoff, raw, activity.mlps[0]["dense"].activation)
    assert count(activity, cutoff).achieved == (cut == 0).sum().item() / cut.numel()


def test_without_a_gate_only_down_is_governed(reading):
    found = count(reading("gpt2"), NeuronThreshold(0, "dense", torch.tensor(0.1)))
    assert found.parameters == 32 * 128


def test_experts_govern_what_a_token_reads_of_them(reading, collected):
    activity = reading("qwen3_moe")
    rule = InputThreshold(1, "expert_down", torch.rand(8, 16))
    site = (1, "expert")
    rows = collected(activity, Score(site, lambda look: look.neurons))
    ids = collected(activity, Score(site, lambda look: look.experts))
    found = count(activity, rule)
    assert found.achieved == (~channels_read(rule, rows, ids)).sum().item() / rows.numel()
    assert found.parameters == 2 * 32 * 16


def test_static_sets_are_counted_without_looking(reading):
    activity = reading("qwen3_moe")
    neurons = count(activity, KeptNeurons(0, "dense", tuple(range(12))))
    assert (neurons.achieved, neurons.parameters) == (0.75, 3 * 32 * 48)
    one = count(activity, KeptNeurons(1, "expert", (), expert=2))
    assert (one.achieved, one.parameters, one.site) == (1.0, 3 * 32 * 16, "expert 2")
    heads = count(activity, KeptHeads(0, (1,)))
    assert (heads.achieved, heads.denominator, heads.parameters) == (0.75, "heads", 64 * 32)


def test_slots_that_are_refilled_save_nothing_and_empty_ones_do(reading, collected):
    activity = reading("qwen3_moe")
    masked = count(activity, SkippedExperts(1, (0, 5), "mask"))
    assert (masked.denominator, masked.achieved, masked.skipped) == ("experts", 0.25, 0.0)
    ids = collected(activity, Score((1, "router"), lambda look: look.experts))
    share = ((ids == 0) | (ids == 5)).sum().item() / ids.numel()
    zeroed = count(activity, SkippedExperts(1, (0, 5), "zero"))
    assert (zeroed.denominator, zeroed.achieved) == ("slots", share)
    assert zeroed.skipped == share * 2 * 3 * 32 * 16
    half = count(activity, ExpertRatio(1, 0.999999))
    assert half.achieved == 0.5 and half.denominator == "slots"


@pytest.mark.parametrize(
    ("kind", "seen"),
    [("llama", 55), ("gemma2", 55), ("gpt_oss", 52), ("deepseek_v3", 55), ("bert", 100)],
)
def test_keys_are_those_that_queries_may_see(reading, kind, seen):
    """Of 10 tokens; the first layer of GPT-OSS sees a window of 8."""
    activity = reading(kind, left_out=0, texts=1, lengths=(10, 11), least_tokens=1)
    found = count(activity, AttentionTopK(0, 4))
    skipped = found.achieved * 4 * seen
    assert skipped == pytest.approx(round(skipped), abs=1e-6)
    assert 0 < found.achieved < 0.8 and found.denominator == "keys" and found.skipped == 0


def test_a_cut_of_more_keys_than_there_are_skips_none(reading):
    assert count(reading("llama"), AttentionTopK(0, 100)).achieved == 0


def test_a_cache_is_counted_position_by_position(reading):
    activity = reading("llama", texts=2, lengths=(9, 13), least_tokens=1)
    rule = CacheHeads(0, (1,), sinks=1, window=3)
    held = total = 0
    for tokens in activity.texts.tokens:
        for query in range(len(tokens)):
            total += 2 * (query + 1)  # two heads of keys and values
            held += query + 1 + sum(k < 1 or k > query - 3 for k in range(query + 1))
    found = count(activity, rule)
    assert found.achieved == pytest.approx(1 - held / total) and found.denominator == "cache"
    assert count(activity, CacheHeads(0, (0, 1))).achieved == 0


@pytest.mark.parametrize("kind", FAMILIES)
def test_counts_are_those_of_the_runtime_where_nothing_comes_before(reading, kind):
    activity = reading(kind, left_out=0)
    rule = InputThreshold(0, "query", torch.tensor(0.2))
    with sparse(tiny_model(kind), plan_of(rule), "reference") as session:
        for tokens in activity.texts.tokens:  # alone: no padding
            with torch.inference_mode():
                tiny_model(kind)(torch.from_numpy(tokens)[None])
    (ran,) = session.counts.rules()
    found = count(activity, rule)
    assert ran.units > 0
    assert found.achieved == pytest.approx(1 - ran.kept / ran.units, abs=2e-3)


def test_the_mask_of_keys_is_that_of_the_scores():
    scores = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(6, 6, dtype=torch.bool).tril()
    logs = scores.masked_fill(~visible, -torch.inf).log_softmax(-1).masked_fill(~visible, 0.0)
    rule = AttentionTopK(0, 2)
    assert torch.equal(keys_attended(rule, scores, visible), keys_attended(rule, logs, visible))
