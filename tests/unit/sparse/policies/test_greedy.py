"""The greedy allocation reaches its target within a step, and follows the error."""

import pytest
import torch
from families import FAMILIES

from lmri.errors import SparseError
from lmri.sparse.plan import SparsePlan
from lmri.sparse.policies import calibrate, greedy
from lmri.sparse.policies.greedy import _Block, _sample, search
from lmri.sparse.rules import InputThreshold
from lmri.sparse.runtime import sparse

WEIGHTS = {"query": 1.0, "key": 0.25, "gate": 3.5}


def weighted(shares):
    return sum(WEIGHTS[name] * share for name, share in shares.items()) / sum(WEIGHTS.values())


@pytest.mark.parametrize("target", [0.1, 0.25, 0.5, 0.8])
def test_the_target_is_hit_within_a_step_and_steps_weigh_the_same(target):
    shares = search(WEIGHTS, target, 0.05, lambda own: sum(v**2 for v in own.values()))
    step = 0.05 / sum(WEIGHTS.values())
    assert target - 1e-9 <= weighted(shares) < target + step
    for name, share in shares.items():
        steps = share * WEIGHTS[name] / 0.05
        assert steps == pytest.approx(round(steps))


def test_the_projection_that_matters_least_goes_first():
    shares = search(WEIGHTS, 0.5, 0.05, lambda own: own["query"] + own["key"])
    assert shares["query"] == shares["key"] == 0 and shares["gate"] > 0.6


def test_what_is_all_skipped_is_left_alone():
    shares = search(WEIGHTS, 0.9, 0.05, lambda own: own["query"] + own["key"])
    assert shares["gate"] <= 0.99 and shares["query"] > 0


def test_a_target_that_steps_cannot_reach_is_refused():
    with pytest.raises(SparseError, match="smaller 'step'"):
        search({"query": 1.0}, 0.95, 0.5, lambda own: 0.0)


def test_a_sparsity_of_0_asks_for_nothing():
    assert set(search(WEIGHTS, 0.0, 0.05, lambda own: 0.0).values()) == {0.0}


def test_a_search_goes_on_where_one_for_less_ended():
    asked = []

    def error(own):
        asked.append(own)
        return own["query"] + 0.3 * own["key"] + own["gate"] ** 2

    alone = search(WEIGHTS, 0.6, 0.05, error)
    steps, path = len(asked), []
    asked.clear()
    search(WEIGHTS, 0.25, 0.05, error, path)
    assert 0 < len(asked) < steps
    assert search(WEIGHTS, 0.6, 0.05, error, path) == alone == path[-1]
    assert len(asked) == steps


def test_shares_do_not_depend_on_what_was_asked_before(reading, monkeypatch):
    found = {}
    for order in ((0.3, 0.6), (0.6, 0.3)):
        activity = reading("qwen3_moe")
        for target in order:
            options = {"allocation": "greedy", "step": 0.4, "sparsity": target}
            plan = calibrate("teal", activity, options)
            found.setdefault(target, []).append([part.asked for part in plan.achieved])
        with monkeypatch.context() as patched:
            patched.setattr(greedy, "_Block", None)  # nothing is run for what was passed
            options["sparsity"] = 0.5
            calibrate("teal", activity, options)
    assert found[0.3][0] == found[0.3][1] != found[0.6][0] == found[0.6][1]


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_block_run_alone_is_the_block_in_the_model(reading, kind):
    activity = reading(kind)
    batches = list(activity.batches())
    block = _Block(activity, 1, batches)
    assert block.change() == 0
    rules = (InputThreshold(1, "query", torch.tensor(0.5)),)
    with sparse(activity.subject, SparsePlan("", "", rules), "reference"):
        alone = block.change()
        whole = _Block(activity, 1, batches)
    total = tokens = 0.0
    for batch, made, dense in zip(batches, whole._made, block._made, strict=True):
        norms = (made - dense)[batch.counted].double().norm(dim=-1)
        total, tokens = total + norms.sum().item(), tokens + len(norms)
    assert alone == pytest.approx(total / tokens, rel=1e-5) and alone > 0
    assert not any("forward" in module.__dict__ for module in activity.subject.model.modules())


def test_a_sample_has_short_texts_and_long_ones_and_about_the_tokens_wanted(reading):
    activity = reading("llama", texts=60, lengths=(4, 40))
    for tokens in (64, 200, 500):
        counts = [int(batch.counted.sum()) for batch in _sample(activity, tokens)]
        assert 0.4 * tokens < sum(counts) <= tokens
    lengths = [batch.ids.shape[1] for batch in _sample(activity, 500)]
    assert min(lengths) < 20 and max(lengths) > 30
    (one,) = _sample(activity, 1)  # the longest text
    assert int(one.counted.sum()) == max(len(own) for own in activity.texts.tokens) - 1
    everything = _sample(activity, 10**6)
    assert sum(int(batch.counted.sum()) for batch in everything) == activity.tokens


def test_every_block_skips_the_same_share_of_its_parameters(reading):
    plan = calibrate("teal", reading("qwen3_moe"), {"allocation": "greedy", "step": 0.4})
    for layer in (0, 1):
        own = [found for found in plan.achieved if found.layer == layer]
        parameters = sum(found.parameters for found in own)
        share = sum(found.skipped for found in own) / parameters
        step = 0.4 * own[0].parameters / parameters
        assert 0.5 - 2e-3 <= share < 0.5 + step + 2e-3
        assert len({found.asked for found in own}) > 1
