"""The losses, against slow explicit references."""

import torch

from lmri.subjects import Recipe
from lmri.subjects.model import build_model, load_balance, router_z, weighted_cross_entropy


def test_weighted_cross_entropy_matches_a_loop():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=generator)
    ids = torch.randint(0, 7, (2, 5), generator=generator)
    weights = torch.rand(2, 5, generator=generator)
    total, mass = 0.0, 0.0
    for row in range(2):
        for t in range(1, 5):
            total -= weights[row, t] * logits[row, t - 1].log_softmax(-1)[ids[row, t]]
            mass += weights[row, t]
    assert torch.allclose(weighted_cross_entropy(logits, ids, weights), total / mass)


def test_load_balance_is_one_when_even_and_sees_each_layer():
    even = torch.eye(4).repeat(3, 1) * 20
    first_only = torch.zeros(12, 4)
    first_only[:, 0] = 20
    second_only = first_only.roll(1, dims=1)
    assert torch.allclose(load_balance((even,), top_k=1), torch.tensor(1.0), atol=1e-5)
    # Pooled over layers these two would look half as bad.
    both = load_balance((first_only, second_only), top_k=1)
    assert torch.allclose(both, torch.tensor(4.0), atol=1e-4)


def test_router_z_is_the_mean_squared_logsumexp():
    logits = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    expected = (torch.log(torch.tensor(2.0)) ** 2 + (1 + torch.log(torch.tensor(2.0))) ** 2) / 2
    assert torch.allclose(router_z((logits, logits)), expected)


def test_initialisation_is_seeded_and_leaves_the_global_state_alone():
    recipe = Recipe(layers=1, hidden=16, heads=2, experts=2, intermediate=8)
    before = torch.random.get_rng_state()
    one, same, other = (build_model(recipe, 30, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
