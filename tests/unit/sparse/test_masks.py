"""What each rule keeps, against known answers."""

import math

import pytest
import torch
from torch.nn.functional import silu

from lmri.sparse.masks import (
    channels_read,
    chosen,
    cut_gate,
    experts_run,
    keys_attended,
    largest,
    neurons_computed,
    positions_kept,
    statistical_cut,
    weights_left,
)
from lmri.sparse.rules import (
    AttentionTopK,
    CacheHeads,
    ExpertRatio,
    GateCutoff,
    InputThreshold,
    InputTopK,
    NeuronThreshold,
)

NAN = float("nan")
EIGHT_PERCENT = float(torch.special.ndtri(torch.tensor(0.92, dtype=torch.float64)))


def threshold(value, projection="query"):
    return InputThreshold(0, projection, torch.tensor(value))


def test_a_value_equal_to_its_threshold_is_skipped_and_one_that_is_no_number_is_read():
    x = torch.tensor([0.5, -0.5, 0.5001, -2.0, 0.0, NAN])
    expected = [False, False, True, True, False, True]
    assert channels_read(threshold(0.5), x).tolist() == expected
    rule = NeuronThreshold(0, "dense", torch.tensor(0.5))
    assert neurons_computed(rule, x).tolist() == expected


def test_the_shifted_rectifier_keeps_a_value_equal_to_its_shift():
    gate = torch.tensor([0.5, 0.4999, -3.0, 2.0, NAN])
    cut = cut_gate(GateCutoff(0, "dense", "shifted_relu", 0.5), gate, silu)
    assert cut[:4].tolist() == [0.5, 0.0, 0.0, 2.0] and cut[4].isnan()


def test_a_tiny_shift_is_the_plain_rectifier():
    gate = torch.randn(200, generator=torch.Generator().manual_seed(0))
    relu = cut_gate(GateCutoff(0, "dense", "relu"), gate, silu)
    assert torch.equal(relu, gate.clamp(min=0))
    assert torch.equal(cut_gate(GateCutoff(0, "dense", "shifted_relu", 1e-30), gate, silu), relu)


def test_thresholds_of_experts_are_those_of_the_expert_of_each_row():
    rule = InputThreshold(0, "expert_down", torch.tensor([[0.0, 9.0], [9.0, 0.0]]))
    read = channels_read(rule, torch.ones(3, 2), torch.tensor([0, 1, 0]))
    assert read.tolist() == [[True, False], [False, True], [True, False]]


def test_top_k_keeps_exactly_k_of_equal_scores_those_of_lower_index():
    x = torch.tensor([[1.0, -1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    for kept in range(1, 6):
        assert channels_read(InputTopK(0, "query", kept), x).sum(-1).tolist() == [kept, kept]
    assert largest(x[1:], 2).tolist() == [[True, True, False, False, False]]


@pytest.mark.parametrize("kept", [1, 3, 7, 8])
def test_the_largest_are_those_of_a_stable_sort(kept):
    rng = torch.Generator().manual_seed(2)
    scores = torch.randint(0, 4, (200, 8), generator=rng).float()  # many are equal
    scores[::7, 5] = float("nan")
    order = scores.sort(dim=-1, descending=True, stable=True).indices[:, :kept]
    wanted = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order, True)
    assert torch.equal(largest(scores, kept), wanted)


def test_wina_is_top_k_for_equal_norms():
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    plain, scaled = InputTopK(0, "query", 5), InputTopK(0, "query", 5, torch.full((16,), 2.0))
    assert torch.equal(channels_read(plain, x), channels_read(scaled, x))


def test_wina_is_the_best_subset_for_orthogonal_columns_and_top_k_is_not():
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    weight = basis * torch.logspace(-1, 1, 8, dtype=torch.float64)  # columns of unequal norms
    x = torch.randn(100, 8, generator=generator, dtype=torch.float64)
    wina = InputTopK(0, "query", 4, weight.norm(dim=0).float())
    subsets = torch.tensor([s for s in map(_bits, range(256)) if sum(s) == 4], dtype=torch.bool)
    errors = ((x[:, None] * ~subsets) @ weight.T).norm(dim=-1)  # (rows, subsets)
    best = subsets[errors.argmin(dim=1)]
    assert torch.equal(channels_read(wina, x), best)
    assert not torch.equal(channels_read(InputTopK(0, "query", 4), x), best)


def test_wina_does_not_depend_on_the_scale_of_a_channel():
    generator = torch.Generator().manual_seed(2)
    x, scale = torch.randn(50, 16, generator=generator), torch.rand(16, generator=generator) + 0.1
    factor = 2.0 ** torch.randint(-3, 4, (16,), generator=generator)
    before = channels_read(InputTopK(0, "query", 5, scale), x)
    assert torch.equal(channels_read(InputTopK(0, "query", 5, scale / factor), x * factor), before)
    plain = InputTopK(0, "query", 5)
    assert not torch.equal(channels_read(plain, x * factor), channels_read(plain, x))


def test_the_statistical_cut_moves_with_a_shift_and_grows_with_a_scale():
    z = torch.randn(20, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cut = statistical_cut(z, EIGHT_PERCENT)
    torch.testing.assert_close(statistical_cut(z + 3, EIGHT_PERCENT), cut + 3)
    torch.testing.assert_close(statistical_cut(z * 4, EIGHT_PERCENT), cut * 4)
    torch.testing.assert_close(statistical_cut(z, 0.0), z.mean(-1, keepdim=True))  # k = d / 2


def test_the_statistical_cut_counts_right_on_a_normal_and_wrong_on_a_laplace():
    generator = torch.Generator().manual_seed(0)
    rule = GateCutoff(0, "dense", "statistical", EIGHT_PERCENT)
    asked, rows = 1106, 100
    normal = torch.randn(rows, 13_824, generator=generator)
    counts = (cut_gate(rule, normal, silu) != 0).sum(-1).double()
    assert abs(counts.mean() - asked) < 4 * 21.8 / math.sqrt(rows)
    uniform = torch.rand(rows, 13_824, generator=generator) - 0.5
    laplace = -uniform.sign() * torch.log1p(-2 * uniform.abs())
    counts = (cut_gate(rule, laplace, silu) != 0).sum(-1).double()
    # P(z > mean + 1.405 std) = exp(-1.405 sqrt 2) / 2 = 0.0685
    assert abs(counts.mean() - 13_824 * math.exp(-EIGHT_PERCENT * math.sqrt(2)) / 2) < 15
    assert counts.mean() < 0.9 * asked


def test_the_statistical_cut_is_soft_and_keeps_the_activation_function():
    gate = torch.tensor([[0.0, 1.0, 2.0, 5.0]])
    surplus = gate - statistical_cut(gate, 0.0)
    cut = cut_gate(GateCutoff(0, "dense", "statistical", 0.0), gate, silu)
    assert torch.equal(cut, torch.where(surplus > 0, silu(surplus), torch.zeros(())))
    one = cut_gate(GateCutoff(0, "dense", "statistical", 0.0), gate, torch.cosh)
    assert one[0, 0] == 0  # also where the function of 0 is not 0


def test_a_query_attends_to_all_keys_where_they_are_at_most_k_and_always_to_the_best():
    scores = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(12, 12, dtype=torch.bool).tril()
    kept = keys_attended(AttentionTopK(0, 4), scores, visible)
    assert torch.equal(kept[..., :4, :], visible[:4].expand(2, 3, 4, 12))
    assert not kept[..., ~visible].any()
    best = scores.masked_fill(~visible, -math.inf).argmax(-1, keepdim=True)
    assert kept.gather(-1, best).all()
    assert kept[..., 5:, :].sum(-1).float().mean() < 6


def test_keys_are_cut_at_the_quantile_of_the_visible_scores():
    scores = torch.tensor([[1.0, 2.0, 3.0, 6.0, 1e9]])
    visible = torch.tensor([True, True, True, True, False])
    kept = keys_attended(AttentionTopK(0, 2), scores, visible)  # half of them: the mean is 3
    assert kept.tolist() == [[False, False, True, True, False]]  # equal to the cut is kept
    shifted = keys_attended(AttentionTopK(0, 2), 2 * scores + 8, visible)
    assert torch.equal(shifted, kept)


def test_an_expert_is_skipped_below_the_share_of_the_largest_weight():
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.9, 0.06, 0.04]])
    run = experts_run(ExpertRatio(0, 0.5), weights)
    assert run.tolist() == [[True, True, True], [True, False, False]]
    assert weights_left(ExpertRatio(0, 0.5), weights)[1].tolist() == [weights[1, 0].item(), 0, 0]
    left = weights_left(ExpertRatio(0, 0.5, renormalise=True), weights)
    torch.testing.assert_close(left.sum(-1), weights.sum(-1))


def test_heads_that_are_not_chosen_keep_sinks_and_a_window():
    places = torch.arange(10)
    kept = positions_kept(CacheHeads(0, (1,), sinks=2, window=3), 2, places, places)
    assert kept[1].all()
    assert kept[0, 9].tolist() == [True, True] + [False] * 5 + [True] * 3
    padded = positions_kept(
        CacheHeads(0, (), sinks=1, window=2), 1, places, places, torch.tensor([0, 4])
    )
    assert padded[:, 0, 9].nonzero()[:, 1].tolist() == [0, 8, 9, *range(5), 8, 9]


@pytest.mark.parametrize("indices", [(), (0, 3)])
def test_a_list_becomes_a_mask(indices):
    assert chosen(indices, 4).nonzero().flatten().tolist() == list(indices)


def _bits(number):
    return [bool(number >> i & 1) for i in range(8)]
