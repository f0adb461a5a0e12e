"""Attention under rules against loops over single queries."""

import math

import pytest
import torch
from families import configuration, random_model, tiny_model, tokens
from sparse_cases import CLOSE, plan_of
from torch import nn

from lmri.sparse.kernels import backend
from lmri.sparse.rules import AttentionTopK, CacheHeads
from lmri.sparse.runtime import sparse
from lmri.sparse.runtime.attention import SparseAttention
from lmri.sparse.runtime.counts import Counts
from lmri.sparse.runtime.passes import PassReader
from lmri.sparse.runtime.products import Tools
from lmri.sparse.runtime.weights import Weights

QUERIES, KEYS, HEADS, KEY_HEADS, SIZE = 5, 12, 4, 2, 8


class Trunk(nn.Module):
    """What a pass is read from."""

    def forward(self, input_ids=None, attention_mask=None, past_key_values=None):
        """Do nothing."""


class Past:
    """A cache that knows its length."""

    def get_seq_length(self):
        """Positions before this pass."""
        return KEYS - QUERIES


@pytest.fixture
def qkv():
    """Queries, keys and values of one sequence."""
    generator = torch.Generator().manual_seed(1)
    shapes = (HEADS, QUERIES), (KEY_HEADS, KEYS), (KEY_HEADS, KEYS)
    return [torch.randn(1, *shape, SIZE, generator=generator) for shape in shapes]


def attend(qkv, top_k=None, cache=None):
    """Run the attention of a layer; also what it counted."""
    options = {"input_ids": torch.zeros(1, QUERIES), "past_key_values": Past()}
    now = PassReader(Trunk(), 0, False, True, True).read((), options)
    counts = Counts(1, 4, True)
    kernel = backend("reference")
    tools = Tools(kernel, Weights(kernel), counts, lambda: now)
    attention = SparseAttention(tools, 0, top_k, cache)
    output = attention(nn.Module(), *qkv, None, {"scaling": 0.5})
    return output[0].transpose(0, 1), counts.rules()  # (heads, queries, size)


def looped(qkv, keep, mean=None):
    """Attention of every head and query over a set of keys, and a mean of some with a weight."""
    query, key, value = (tensor[0].double() for tensor in qkv)
    output = torch.zeros(HEADS, QUERIES, SIZE, dtype=torch.float64)
    for head in range(HEADS):
        own = head // (HEADS // KEY_HEADS)
        for row in range(QUERIES):
            position = KEYS - QUERIES + row
            keys = [j for j in range(position + 1) if keep(own, head, row, j)]
            scores = [0.5 * float(query[head, row] @ key[own, j]) for j in keys]
            values = [value[own, j] for j in keys]
            dropped = [j for j in range(position + 1) if j not in keys]
            if mean and dropped:
                middle = key[own, dropped].mean(0)
                score = 0.5 * float(query[head, row] @ middle) + math.log(len(dropped))
                scores.append(score)
                values.append(value[own, dropped].mean(0))
            weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
            output[head, row] = weights @ torch.stack(values)
    return output.float()


@pytest.mark.parametrize("compensation", [True, False])
def test_heads_without_a_whole_cache(qkv, compensation):
    rule = CacheHeads(0, (1,), sinks=2, window=3, compensation=compensation)

    def keep(own, head, row, j):
        return own == 1 or j < 2 or j > KEYS - QUERIES + row - 3

    output, counts = attend(qkv, cache=rule)
    torch.testing.assert_close(output, looped(qkv, keep, compensation), **CLOSE)
    positions = range(KEYS - QUERIES, KEYS)
    held = sum(min(p + 1, 5 + compensation) for p in positions) + sum(p + 1 for p in positions)
    assert (counts[0].kept, counts[0].units) == (held, 2 * sum(p + 1 for p in positions))


def test_equal_keys_and_values_are_compensated_exactly(qkv):
    """Of what all heads drop, keys are equal and values are: their mean stands for them."""
    _, key, value = qkv
    key[:, :, 1:10] = key[:, :, 1:2]
    value[:, :, 1:10] = value[:, :, 1:2]
    output, _ = attend(qkv, cache=CacheHeads(0, (), sinks=1, window=2))
    everything = looped(qkv, lambda *place: True)
    torch.testing.assert_close(output, everything, **CLOSE)
    without, _ = attend(qkv, cache=CacheHeads(0, (), 1, 2, compensation=False))
    assert not torch.allclose(without, everything, atol=1e-2)


def test_a_window_over_everything_drops_nothing(qkv):
    output, counts = attend(qkv, cache=CacheHeads(0, (), 0, KEYS))
    torch.testing.assert_close(output, looped(qkv, lambda *place: True), **CLOSE)
    assert counts[0].sparsity == 0


def test_keys_below_the_cut_are_left_out(qkv):
    from statistics import NormalDist

    query, key, _ = (tensor[0].double() for tensor in qkv)
    rule = AttentionTopK(0, 4)

    def keep(own, head, row, j):
        count = KEYS - QUERIES + row + 1
        scores = 0.5 * (key[own, :count] @ query[head, row])
        cut = scores.mean() + scores.std(unbiased=False) * NormalDist().inv_cdf(1 - 4 / count)
        return bool(scores[j] >= cut)

    output, counts = attend(qkv, top_k=rule)
    torch.testing.assert_close(output, looped(qkv, keep), **CLOSE)
    assert 0.2 < counts[0].sparsity < 0.8


def test_rules_of_one_layer_leave_the_other_to_the_model():
    model, ids = tiny_model("llama"), tokens("llama", 1, 9)
    seen = []
    with torch.inference_mode():
        handle = model.model.layers[0].register_forward_hook(lambda m, a, o: seen.append(o))
        model(ids)
        with sparse(model, plan_of(AttentionTopK(1, 2)), "reference"):
            model(ids)
        handle.remove()
    torch.testing.assert_close(*seen)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_both_implementations(attention):
    model, ids = random_model(configuration("llama")), tokens("llama", 2, 9)
    model.set_attn_implementation(attention)
    plan = plan_of(CacheHeads(0, (), 0, 10_000), AttentionTopK(1, 10_000))
    with torch.inference_mode():
        dense = model(ids).logits
        with sparse(model, plan):
            torch.testing.assert_close(model(ids).logits, dense, **CLOSE)
    assert model.config._attn_implementation == attention


def test_a_static_cache_has_room_left():
    model, ids = tiny_model("llama"), tokens("llama", 1, 9)
    plan = plan_of(CacheHeads(0, (), 1, 3), CacheHeads(1, (0,), 1, 3))
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    options |= {"return_dict_in_generate": True, "output_logits": True}
    with torch.inference_mode(), sparse(model, plan):
        dynamic = model.generate(ids, **options)
        static = model.generate(ids, cache_implementation="static", disable_compile=True, **options)
    torch.testing.assert_close(torch.stack(dynamic.logits), torch.stack(static.logits), **CLOSE)
