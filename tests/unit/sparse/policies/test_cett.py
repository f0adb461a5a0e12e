"""Tail errors and the search by perplexity."""

from itertools import pairwise

import pytest
import torch
from families import configuration, random_model

from lmri.errors import SparseError
from lmri.sparse.calibration import Score
from lmri.sparse.policies import Runs, calibrate
from lmri.sparse.policies.cett import largest_passing, sizes, tail_errors
from lmri.sparse.policies.draft import column_norms

SITES = [(0, "dense"), (1, "expert")]


def norms_of(activity):
    return {site: column_norms(activity.mlps[site[0]][site[1]].down.weight) for site in SITES}


def test_nothing_dropped_is_0_and_everything_is_1(reading):
    activity = reading("qwen3_moe")
    ends = {site: torch.tensor([0.0, 1e6]) for site in SITES}
    for _, errors in tail_errors(activity, norms_of(activity), ends).values():
        assert errors[0] == 0 and errors[1] == pytest.approx(1.0)


def test_orthogonal_columns_obey_pythagoras(reading, collected):
    model = random_model(configuration("llama", intermediate_size=24))
    down = model.model.layers[0].mlp.down_proj.weight
    basis = torch.linalg.qr(torch.randn(32, 24, generator=torch.Generator().manual_seed(0))).Q
    down.copy_(basis * torch.linspace(0.2, 3, 24))
    activity = reading("llama", model=model)
    norms = {(0, "dense"): column_norms(down)}
    grid = torch.linspace(0, 3, 12)
    ((_, errors),) = tail_errors(activity, norms, {(0, "dense"): grid}).values()
    own = collected(activity, Score((0, "dense"), lambda look: sizes(look, norms[0, "dense"])))
    squares = own.double().square()
    for threshold, error in zip(grid, errors, strict=True):
        tail = (squares * (own <= threshold)).sum(-1) / squares.sum(-1)
        assert error == pytest.approx(tail.sqrt().mean().item(), abs=1e-6)
    assert (errors.diff() >= 0).all()


@pytest.mark.parametrize("kind", ["llama", "qwen2_moe", "gpt2"])
def test_every_layer_has_the_tail_error_that_was_asked_for(reading, kind):
    plan = calibrate("cett", reading(kind), {"cett": 0.3})
    found = plan.parameters["found"]
    assert len(found) == len(plan.rules)
    assert all(0.27 < error <= 0.3 for error in found.values())


def test_a_larger_tail_skips_more(reading):
    activity = reading("llama")
    shares = [
        [own.achieved for own in calibrate("cett", activity, {"cett": value}).achieved]
        for value in (0.0, 0.1, 0.3, 0.6)
    ]
    assert shares[0] == [0, 0]
    for less, more in pairwise(shares):
        assert all(a < b for a, b in zip(less, more, strict=True))


def test_the_threshold_is_on_what_a_neuron_writes(reading):
    activity = reading("llama")
    rule = calibrate("cett", activity, {"cett": 0.3}).rules[0]
    product = rule.threshold * column_norms(activity.mlps[0]["dense"].down.weight)
    torch.testing.assert_close(product, product.mean().expand(48))
    assert rule.projection == "down"


@pytest.mark.parametrize("limit", [0.05, 0.31, 0.77])
def test_the_largest_value_that_passes_is_found(limit):
    value, ratio = largest_passing(lambda v: 1.0 if v <= limit else 2.0, 1.01, 24)
    assert limit - 0.01 < value <= limit and ratio == 1.0


def test_a_small_step_down_does_not_end_the_search():
    def bumpy(value):  # a bump above the bound from .2 to .3
        return 1.02 if 0.2 < value < 0.3 else 1.0 + 0.01 * (value > 0.6)

    value, ratio = largest_passing(bumpy, 1.005, 24)
    assert 0.58 < value <= 0.6 and ratio < 1.005


def test_where_nothing_passes_the_value_is_0():
    assert largest_passing(lambda v: float("nan"), 1.01, 8) == (0.0, 1.0)


def test_the_search_obeys_its_bound_and_evaluates_what_it_returns(reading):
    activity, seen = reading("llama"), {}

    def perplexity(plan):
        total = sum(float(rule.threshold.mean()) for rule in plan.rules)
        seen[total] = 10 * (1 + total)
        return seen[total]

    plan = calibrate("ppl_search", activity, {"percent": 5.0}, runs=Runs(perplexity=perplexity))
    ratio = perplexity(plan) / 10
    assert ratio < 1.05 and plan.parameters["found"]["perplexity_ratio"] == pytest.approx(ratio)
    assert len(seen) <= 17
    assert ratio > 1.03  # the largest, within the halvings
    assert 0 < plan.achieved[0].achieved < 1


@pytest.mark.parametrize(
    ("policy", "options", "runs", "message"),
    [
        ("cett", {"cett": 1.0}, None, r"'cett'.*\[0, 1\)"),
        ("ppl_search", {}, None, "'perplexity'.*use 'cett'"),
        ("ppl_search", {"percent": 0}, None, "'percent'"),
        ("ppl_search", {"tries": 1}, None, "'tries'"),
        ("ppl_search", {}, Runs(perplexity=lambda plan: float("nan")), "must be finite"),
    ],
)
def test_what_cannot_be_searched_is_refused(reading, policy, options, runs, message):
    with pytest.raises(SparseError, match=message):
        calibrate(policy, reading("llama"), options, runs=runs)
