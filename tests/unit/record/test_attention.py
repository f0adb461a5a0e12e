"""Summaries of attention: known patterns, the library's own weights, blocks of queries."""

import math

import pytest
import torch
from families import FAMILIES, tiny_model, tokens

from lmri.errors import SubjectError
from lmri.record import attention as attention_module
from lmri.record import repeats as repeats_module
from lmri.record.attention import (
    Attention,
    observed_attention,
    summarise,
    value_norms,
    weights_of,
)
from lmri.record.repeats import Repeats


@pytest.fixture(autouse=True)
def no_gradients():
    """As in every run of the package."""
    with torch.inference_mode():
        yield


def pattern(weights, ids, content=None, **options):
    """Summaries of attention whose weights are given: (tokens, tokens), one head."""
    logs = weights.log().clamp_min(-1e4)
    size = len(weights)
    # Scores q . k with k the unit vectors are the rows of q.
    call = Attention(
        query=logs.view(1, 1, size, size),
        key=torch.eye(size).view(1, 1, size, size),
        value=torch.ones(1, 1, size, 3),
        mask=None,
        causal=options.get("causal", False),
        scaling=1.0,
        softcap=None,
        sinks=options.get("sinks"),
    )
    ids = torch.tensor([ids])
    inside = torch.ones_like(ids, dtype=torch.bool) if content is None else content
    found = summarise(call, Repeats(ids, inside), received=options.get("causal", False))
    return {name: v[0, :, 0] for name, v in found.items()}


def test_uniform_causal_attention_has_known_summaries():
    weights = torch.ones(5, 5).tril() / torch.arange(1, 6).unsqueeze(1)
    got = pattern(weights, [7, 8, 7, 8, 7])
    sizes = torch.arange(1.0, 6.0)
    torch.testing.assert_close(got["entropy"], sizes.log())
    torch.testing.assert_close(got["entropy_rest"], (sizes - 1).clamp_min(1).log())
    torch.testing.assert_close(got["sink"], 1 / sizes)
    torch.testing.assert_close(got["previous"], torch.tensor([0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]))
    # Token 2 (a 7) was seen at 0, token 3 (an 8) at 1, token 4 (a 7) at 0 and 2.
    torch.testing.assert_close(got["duplicate"], torch.tensor([0, 0, 1 / 3, 1 / 4, 2 / 5]))
    # What followed these: 1; 2; 1 and 3.
    torch.testing.assert_close(got["induction"], torch.tensor([0, 0, 1 / 3, 1 / 4, 2 / 5]))


def attend(targets):
    weights = torch.zeros(len(targets), len(targets))
    for query, key in enumerate(targets):
        weights[query, key] = 1
    return weights


def test_an_induction_head_scores_one_and_its_neighbour_nothing():
    text = [3, 4, 5, 6, 3, 4, 5, 6]
    after = attend([0, 0, 0, 0, 1, 2, 3, 4])  # the token after the previous occurrence
    onto = attend([0, 0, 0, 0, 0, 1, 2, 3])  # the previous occurrence itself
    assert pattern(after, text)["induction"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert pattern(after, text)["duplicate"].tolist() == [0] * 8
    assert pattern(onto, text)["induction"].tolist() == [0] * 8
    assert pattern(onto, text)["duplicate"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert pattern(after, text)["entropy"].abs().max() < 1e-5


def test_retrieval_needs_the_content_and_the_next_token():
    text = [9, 3, 4, 5, 8, 3, 4, 5]  # the content 3 4 5, then copied
    inside = torch.tensor([[False, True, True, True, False, False, False, False]])
    copying = attend([0, 0, 0, 0, 1, 2, 3, 0])
    assert pattern(copying, text, inside)["retrieval"].tolist() == [0, 0, 0, 0, 1, 1, 1, 0]
    early = attend([0, 0, 0, 0, 0, 1, 2, 0])
    assert pattern(early, text, inside)["retrieval"].sum() == 0
    assert pattern(copying, text, ~inside)["retrieval"].sum() == 0


def sunk(share, length):
    """A head that gives a share to the first token and keeps the rest."""
    weights = torch.eye(length) * (1 - share)
    weights[:, 0] += share
    return weights


@pytest.mark.parametrize(
    ("weights", "first"),
    [
        (torch.ones(64, 64).tril() / torch.arange(1, 65).unsqueeze(1), 0.0741),  # H_64 / 64
        (sunk(0.6, 64), 0.60625),  # (1 + 63 × .6) / 64
        (torch.eye(64), 0.0156),
    ],
)
def test_the_first_token_receives_what_the_sink_metric_says(weights, first):
    got = pattern(weights, list(range(3, 67)), causal=True)
    assert got["received"][0].item() == pytest.approx(first, abs=5e-5)
    # Mean over all queries of the weight of the first token: the same by its definition.
    torch.testing.assert_close(got["received"][0], got["sink"].mean())
    torch.testing.assert_close(got["received"][-1], weights[-1, -1])  # one query is left


def test_induction_scores_of_the_literature():
    """Fifty random tokens twice: 1 for the planted head, .0138 for a uniform one, 0 beside."""
    size = 50
    text = list(range(3, 3 + size)) * 2
    uniform = torch.ones(2 * size, 2 * size).tril() / torch.arange(1, 2 * size + 1).unsqueeze(1)
    late = range(size, 2 * size)
    planted = attend([*range(size), *(q - size + 1 for q in late)])
    beside = attend([*range(size), *(q - size for q in late)])
    means = [
        pattern(weights, text)["induction"][size:].mean().item()
        for weights in (planted, uniform, beside)
    ]
    assert means == pytest.approx([1.0, 0.0138, 0.0], abs=5e-5)


def test_a_learned_sink_takes_its_share():
    weights = torch.ones(4, 4) / 4
    got = pattern(weights, [3, 4, 5, 6], sinks=torch.zeros(1))  # weighs as much as all tokens
    torch.testing.assert_close(got["sink"], torch.full((4,), 1 / 8))
    torch.testing.assert_close(got["entropy"], torch.full((4,), 0.5 * math.log(8)))


def test_padding_repeats_nothing():
    ids = torch.tensor([[3, 3, -1, -1]])
    found = Repeats(ids, torch.ones_like(ids, dtype=torch.bool))
    block = found.block(slice(0, 1), slice(0, 4), slice(0, 4))
    assert block.duplicate.sum() == 1
    assert not block.induction[:, 2:].any()
    assert not block.copied[:, 1:].any()


def test_a_block_of_repeats_is_cut_from_the_whole():
    ids = torch.randint(3, 6, (3, 12), generator=torch.Generator().manual_seed(0))
    found = Repeats(ids, ids > 3)
    rows, queries, keys = slice(1, 3), slice(4, 9), slice(2, 9)
    whole, part = (
        found.block(slice(0, 3), slice(0, 12), slice(0, 12)),
        found.block(rows, queries, keys),
    )
    for name, values in vars(whole).items():
        assert torch.equal(getattr(part, name), values[rows, queries, keys]), name
    # Of a pass over a cache, whose first query is the fifth token.
    later = Repeats(ids, ids > 3, start=4).block(rows, slice(0, 5), keys)
    assert torch.equal(later.copied, part.copied)
    assert torch.equal(later.induction, part.induction)


def test_pairs_of_long_texts_are_not_kept(monkeypatch):
    ids, block = torch.full((1, 8), 3), (slice(0, 1), slice(0, 8), slice(0, 8))
    kept, found = (Repeats(ids, ids > 0) for _ in range(2))
    assert kept.pairs(*block) is kept.pairs(*block)
    monkeypatch.setattr(repeats_module, "PAIRS_KEPT", 0)
    first, again = found.pairs(*block), found.pairs(*block)
    assert first is not again
    assert len(first.duplicate[0]) == 8 * 7 // 2
    assert all(torch.equal(a, b) for a, b in zip(first.duplicate, again.duplicate, strict=True))


@pytest.mark.parametrize("kind", FAMILIES)
def test_weights_are_those_of_the_librarys_eager_attention(kind):
    model, ids, seen = tiny_model(kind), tokens(kind), {}
    before = model.config._attn_implementation
    with observed_attention(model, lambda layer, call: seen.update({layer: call})):
        model(input_ids=ids)
    model.set_attn_implementation("eager")
    try:
        theirs = model(input_ids=ids, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(before)
    assert sorted(seen) == [0, 1]
    for layer, call in seen.items():
        ours = weights_of(call, slice(0, 14))[0]
        torch.testing.assert_close(ours, theirs[layer], rtol=1e-5, atol=2e-6)
        assert (ours.sum(-1) < 0.999).any() == (kind == "gpt_oss")


@pytest.mark.parametrize("kind", FAMILIES)
def test_what_a_token_receives_is_the_mean_over_those_that_may_see_it(kind):
    model, ids, seen = tiny_model(kind), tokens(kind), {}
    lengths = torch.tensor([14, 9, 11]).unsqueeze(1)
    real = torch.arange(14) < lengths
    mask = {"attention_mask": real.long()} if kind == "bert" else {}
    with observed_attention(model, lambda layer, call: seen.update({layer: call})):
        model(input_ids=ids, **mask)
    found = Repeats(ids.masked_fill(~real, -1), real)
    for call in seen.values():
        got = summarise(call, found, received=True)["received"]
        weights = weights_of(call, slice(0, 14))[0] * real[:, None, :, None]
        for row, length in enumerate(lengths.flatten().tolist()):
            may_see = length if kind == "bert" else length - torch.arange(length)
            expected = weights[row].sum(1)[:, :length] / may_see  # (heads, keys)
            torch.testing.assert_close(got[row, :length].T, expected)


@pytest.mark.parametrize("rest", [1e-2, 1e-4])
def test_entropy_without_a_first_token_that_takes_nearly_all(rest):
    """Not the rounding of the whole, divided by the little that is left."""
    shares = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64)
    row = torch.cat([torch.tensor([1 - rest], dtype=torch.float64), rest * shares])
    got = pattern(row.expand(5, 5).float(), [7, 8, 9, 10, 11])
    expected = -(shares * shares.log()).sum().expand(5)
    torch.testing.assert_close(got["entropy_rest"].double(), expected, rtol=0, atol=2e-6)
    whole = -(row * row.log()).sum().expand(5)
    torch.testing.assert_close(got["entropy"].double(), whole, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", ["gpt_oss", "llama"])  # with a mask, and without
@pytest.mark.parametrize(
    ("name", "limit"), [("WEIGHTS_AT_ONCE", 3 * 4 * 14), ("QUERIES_AT_ONCE", 3)]
)
def test_blocks_of_rows_and_queries_give_the_same(kind, name, limit, monkeypatch):
    model, ids, seen = tiny_model(kind), tokens(kind), {}
    with observed_attention(model, lambda layer, call: seen.update({layer: call})):
        model(input_ids=ids)
    found = Repeats(ids, torch.ones_like(ids, dtype=torch.bool))
    for call in seen.values():
        whole = summarise(call, found, received=True)
        monkeypatch.setattr(attention_module, name, limit)
        parts = summarise(call, found, received=True)
        monkeypatch.undo()
        for summary in whole:
            torch.testing.assert_close(parts[summary], whole[summary], rtol=1e-5, atol=1e-6)


def test_values_shared_by_heads_have_the_same_norm():
    model, seen = tiny_model("llama"), {}
    with observed_attention(model, lambda layer, call: seen.update({layer: call})):
        model(input_ids=tokens("llama"))
    norms = value_norms(seen[0])
    assert norms.shape == (3, 14, 4)
    assert torch.equal(norms[..., 0], norms[..., 1])
    assert not torch.equal(norms[..., 1], norms[..., 2])
    torch.testing.assert_close(norms[..., 0], seen[0].value[:, 0].norm(dim=-1))


def test_attention_is_restored_after_an_error():
    model = tiny_model("llama")
    with pytest.raises(RuntimeError), observed_attention(model, lambda *a: None):
        raise RuntimeError
    assert model.config._attn_implementation == "sdpa"


def test_half_precision_does_not_round_the_scores():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, 20, 16, generator=generator) * 3 for _ in range(2))
    half = [part.bfloat16() for part in (query, key)]
    call = Attention(*half, half[1], None, True, 0.5, None, None)
    exact = Attention(*(p.float() for p in half), half[1].float(), None, True, 0.5, None, None)
    every = slice(0, 20)
    assert torch.equal(weights_of(call, every)[0], weights_of(exact, every)[0])


def test_another_implementation_is_refused(monkeypatch):
    model = tiny_model("llama")
    monkeypatch.setattr(model.config, "_attn_implementation_internal", "flex_attention")
    with (
        pytest.raises(SubjectError, match=r"'sdpa', 'eager'.*Got 'flex_attention'"),
        observed_attention(model, lambda *a: None),
    ):
        pass
