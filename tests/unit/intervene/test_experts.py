"""Running chosen experts only: the same bits as the library's, and nothing that is not chosen."""

import pytest
import torch
import torch.nn.functional as F
from transformers import OlmoeConfig, OlmoeForCausalLM

from lmri.anatomy import expert_groups
from lmri.intervene import run_chosen, skipping_experts, tapped_experts
from lmri.intervene.experts import MOST_IN_ORDER, _in_bags, _pieces, changed_experts


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


@pytest.fixture
def experts(tiny_subject):
    """Fused experts of the first layer."""
    return expert_groups(tiny_subject.model)[0]


def draw(n_tokens):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(n_tokens, 32, generator=generator)
    scores = torch.rand(n_tokens, 8, generator=generator)
    weights, indices = scores.topk(2)
    return hidden, indices, weights


def by_hand(module, token, expert):
    """Neurons and output of one expert for one token."""
    gate, up = (module.gate_up_proj[expert] @ token).chunk(2)
    neurons = F.silu(gate) * up
    return neurons, module.down_proj[expert] @ neurons


def test_logits_are_those_of_the_library_to_the_bit(tiny_subject, prompts):
    model, ids = tiny_subject.model, torch.tensor(prompts[:10])
    assert model.get_experts_implementation() == {"": "grouped_mm"}
    before = model(input_ids=ids, use_cache=False).logits
    with skipping_experts(model):
        assert model.get_experts_implementation() == {"": "lmri"}
        ours = model(input_ids=ids, use_cache=False).logits
    assert torch.equal(ours, before)


def test_output_is_the_weighted_sum_of_the_chosen_experts(experts):
    hidden, indices, weights = draw(5)
    output = run_chosen(experts, hidden, indices, weights)
    for token in range(5):
        parts = [
            weight * by_hand(experts, hidden[token], expert)[1]
            for weight, expert in zip(weights[token], indices[token], strict=True)
        ]
        torch.testing.assert_close(output[token], sum(parts), atol=1e-5, rtol=0)


def test_an_empty_slot_adds_nothing(experts):
    hidden, indices, weights = draw(5)
    indices[1, 0] = 8  # past the last expert; its weight is ignored
    output = run_chosen(experts, hidden, indices, weights)
    wanted = weights[1, 1] * by_hand(experts, hidden[1], indices[1, 1])[1]
    torch.testing.assert_close(output[1], wanted, atol=1e-5, rtol=0)
    assert torch.equal(output[[0, 2]], run_chosen(experts, *draw(5))[[0, 2]])


def test_without_a_slot_the_output_is_exactly_zero(experts):
    hidden, indices, weights = draw(5)
    indices[3] = 8
    output = run_chosen(experts, hidden, indices, weights)
    assert output[3].abs().max() == 0
    assert output[[0, 1, 2, 4]].abs().min() > 0
    assert run_chosen(experts, hidden, torch.full_like(indices, 8), weights).abs().max() == 0


def test_every_product_is_with_rows_of_a_chosen_expert(experts, monkeypatch):
    hidden, indices, weights = draw(50)
    indices[indices == 3] = 8
    indices[:5] = 8
    multiply, rows = torch.mm, []

    def spy(left, right, **kwargs):
        rows.append((right.data_ptr(), len(left)))
        return multiply(left, right, **kwargs)

    monkeypatch.setattr(torch, "mm", spy)
    run_chosen(experts, hidden, indices, weights)
    counts = {e: int((indices == e).sum()) for e in range(8) if (indices == e).any()}
    for matrices, calls in (
        (experts.gate_up_proj, rows[: len(counts)]),
        (experts.down_proj, rows[len(counts) :]),
    ):
        assert calls == [(matrices[e].data_ptr(), count) for e, count in counts.items()]
    assert 3 not in counts


def test_the_tap_sees_neurons_in_the_order_of_the_slots(experts):
    hidden, indices, weights = draw(6)
    indices[2, 1] = 8
    seen = []
    experts.lmri_tap = lambda *values: seen.append(values)
    try:
        run_chosen(experts, hidden, indices, weights)
    finally:
        del experts.lmri_tap
    [(neurons, ids)] = seen
    assert neurons.shape == (6, 2, 16)
    assert torch.equal(ids, indices)
    assert neurons[2, 1].abs().max() == 0
    for token, slot in ((0, 0), (0, 1), (2, 0), (5, 1)):
        wanted, _ = by_hand(experts, hidden[token], indices[token, slot])
        torch.testing.assert_close(neurons[token, slot], wanted, atol=1e-5, rtol=0)


def test_every_layer_is_tapped_under_its_own_number(tiny_subject, prompts):
    shapes = {}
    with tapped_experts(tiny_subject.model, lambda layer, n, i: shapes.update({layer: n.shape})):
        tiny_subject.model(input_ids=torch.tensor(prompts[:3]))
    assert shapes == {0: (30, 2, 16), 1: (30, 2, 16)}


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
@pytest.mark.parametrize("fails", [False, True])
def test_what_was_there_before_is_restored(tiny_subject, implementation, fails):
    model = tiny_subject.model
    original = model.get_experts_implementation()
    model.set_experts_implementation(implementation)
    before = model.get_experts_implementation()
    try:
        with tapped_experts(model, print):
            assert model.get_experts_implementation() == {"": "lmri"}
            assert all(hasattr(group, "lmri_tap") for group in expert_groups(model).values())
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert model.get_experts_implementation() == before == {"": implementation}
    assert not any(hasattr(group, "lmri_tap") for group in expert_groups(model).values())
    model.set_experts_implementation(original)


def random_model(hidden_size, top_k):
    """One layer of eight experts or of twice as many as are chosen."""
    config = OlmoeConfig(
        vocab_size=64,
        hidden_size=hidden_size,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_experts=max(8, 2 * top_k),
        num_experts_per_tok=top_k,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return OlmoeForCausalLM(config).eval()


@pytest.mark.parametrize("threads", [1, 3, 5])
def test_bits_are_those_of_the_library_with_several_threads(threads, monkeypatch):
    monkeypatch.setattr("lmri.intervene.experts.PIECE_BYTES", 2**12)
    # Wide enough that threads meet within the neurons of a pair.
    model, before = random_model(hidden_size=32, top_k=2), torch.get_num_threads()
    ids = torch.randint(1, 64, (16, 128))
    torch.set_num_threads(threads)
    try:
        wanted = model(input_ids=ids, use_cache=False).logits
        with skipping_experts(model):
            assert torch.equal(model(input_ids=ids, use_cache=False).logits, wanted)
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def summed_in_bags(monkeypatch):
    """Whether outputs stayed in the order of experts, pass by pass; in one thread."""
    said, before = [], torch.get_num_threads()

    def noted(*arguments):
        said.append(_in_bags(*arguments))
        return said[-1]

    monkeypatch.setattr("lmri.intervene.experts._in_bags", noted)
    torch.set_num_threads(1)
    yield said
    torch.set_num_threads(before)


@pytest.mark.parametrize("top_k", [1, 4, 5, 8, 10, MOST_IN_ORDER, MOST_IN_ORDER + 1, 32])
@pytest.mark.parametrize("hidden_size", [64, 96, 320])
def test_bits_are_those_of_the_library_in_whatever_order(hidden_size, top_k, summed_in_bags):
    model, ids = random_model(hidden_size, top_k), torch.randint(1, 64, (4, 33))
    wanted = model(input_ids=ids, use_cache=False).logits
    with skipping_experts(model):
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, wanted)
    assert summed_in_bags == [hidden_size != 96 and top_k <= MOST_IN_ORDER]


def test_an_empty_slot_adds_nothing_to_the_others_in_any_order(summed_in_bags):
    (experts,) = expert_groups(random_model(64, 2)).values()
    hidden = torch.randn(5, 64)
    weights, indices = torch.rand(5, 8).topk(2)
    wanted = run_chosen(experts, hidden, indices, weights)
    indices[1, 0] = 8
    output = run_chosen(experts, hidden, indices, weights)
    assert summed_in_bags == [True, True]
    assert torch.equal(output[[0, 2, 3, 4]], wanted[[0, 2, 3, 4]])
    alone = run_chosen(experts, hidden[1:2], indices[1:2, 1:], weights[1:2, 1:])
    torch.testing.assert_close(output[1:2], alone)


def test_gradients_reach_the_weights():
    with torch.inference_mode(False), torch.enable_grad():
        (experts,) = expert_groups(random_model(64, 2)).values()
        weights, indices = torch.rand(5, 8).topk(2)
        run_chosen(experts, torch.randn(5, 64), indices, weights).sum().backward()
    assert experts.down_proj.grad.abs().max() > 0


@pytest.mark.parametrize("size", [16, 64])
def test_pieces_are_as_large_as_the_cache_allows(experts, size, monkeypatch):
    monkeypatch.setattr("lmri.intervene.experts.VECTORS", size)
    counts, hidden = [3, 2, 0, 2, 1], torch.zeros(4, 32)

    def sizes(rows, counts=counts):
        monkeypatch.setattr("lmri.intervene.experts.PIECE_BYTES", rows * 32 * 4)
        pieces = list(_pieces(experts, hidden, counts))
        assert [n for runs, _ in pieces for n in runs] == [
            (i, n) for i, n in enumerate(counts) if n
        ]
        return [(rows.start, rows.stop) for _, rows in pieces]

    # Neurons that do not fill vectors are never divided.
    assert sizes(1) == ([(0, 3), (3, 5), (5, 7), (7, 8)] if size == 16 else [(0, 8)])
    assert sizes(4) == ([(0, 3), (3, 7), (7, 8)] if size == 16 else [(0, 8)])
    assert sizes(8) == [(0, 8)]
    assert sizes(8, [0, 0]) == [(0, 0)]


def test_a_change_sees_all_pairs_at_once(tiny_subject, experts, monkeypatch):
    monkeypatch.setattr("lmri.intervene.experts.PIECE_BYTES", 1)
    monkeypatch.setattr("lmri.intervene.experts.VECTORS", 16)
    seen = []

    def change(neurons, pairs):
        seen.append(pairs)
        return neurons

    hidden, indices, weights = draw(5)
    with changed_experts(tiny_subject.model, 0, change):
        changed = run_chosen(experts, hidden, indices, weights)
    (pairs,) = seen
    assert pairs.experts.tolist() == sorted(indices.flatten().tolist())
    assert torch.equal(changed, run_chosen(experts, hidden, indices, weights))
