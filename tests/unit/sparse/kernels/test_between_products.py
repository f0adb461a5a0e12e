"""Norms, turned queries and attention: what the modules of transformers and torch compute."""

import pytest
import torch
from sparse_products import WEIGHTS, assert_close, random
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb


@pytest.mark.parametrize("dtype", WEIGHTS)
@pytest.mark.parametrize("shape", [(1,), (7,), (1, 1, 2048), (2, 4, 100), (8, 33)], ids=str)
def test_a_norm_is_that_of_the_module(cpu, dtype, shape):
    norm = LlamaRMSNorm(shape[-1], eps=1e-5).to(dtype)
    norm.weight.data = random(shape[-1], seed=1, dtype=dtype)
    x = 3 * random(*shape, dtype=dtype)
    with torch.inference_mode():
        got, expected = cpu.rms_norm(x, norm.weight, 1e-5), norm(x)
    assert got.dtype == dtype and got.shape == x.shape
    # The mean is summed in another order: its last place may differ, and what is rounded by it.
    close = {torch.float32: 3e-7, torch.bfloat16: 2**-7}[dtype]
    torch.testing.assert_close(got, expected, rtol=close, atol=0)
    assert (got == expected).float().mean() > (0.99 if dtype is torch.bfloat16 else 0.0)


def test_a_norm_of_zeros_and_of_no_numbers(cpu):
    x = torch.zeros(2, 5)
    x[1, 2] = torch.nan
    got = cpu.rms_norm(x, torch.ones(5), 1e-6)
    assert got[0].eq(0).all() and got[1].isnan().all()


@pytest.mark.parametrize("dtype", WEIGHTS)
@pytest.mark.parametrize(("batch", "angles"), [(1, 1), (3, 1), (3, 3)])
def test_turned_queries_are_those_of_the_model_to_the_bit(cpu, dtype, batch, angles):
    q, k = (random(batch, 2, 8 * n, seed=n, dtype=dtype).view(batch, 2, n, 8) for n in (4, 2))
    angle = random(angles, 2, 8, seed=5)
    given = q.transpose(1, 2), k.transpose(1, 2), angle.cos().to(dtype), angle.sin().to(dtype)
    got, expected = cpu.rotary(*given), apply_rotary_pos_emb(*given)
    assert all(one.equal(other) for one, other in zip(got, expected, strict=True))
    apart = given[0].contiguous().mT.contiguous().mT  # values of a head not in one run
    assert cpu.rotary(apart, *given[1:])[0].equal(got[0])


@pytest.mark.parametrize("dtype", WEIGHTS)
@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (6, 2), (5, 1)])
@pytest.mark.parametrize(("batch", "keys"), [(1, 1), (3, 50), (8, 7), (1, 700)])
@pytest.mark.parametrize(("size", "value_size"), [(64, 64), (24, 16), (7, 9)])
def test_attention_is_that_of_torch(cpu, dtype, heads, key_heads, batch, keys, size, value_size):
    q = 2 * random(batch, heads, 1, size, seed=1, dtype=dtype)
    k = random(batch, key_heads, keys, size, seed=2, dtype=dtype)
    v = random(batch, key_heads, keys, value_size, seed=3, dtype=dtype)
    exact = scaled_dot_product_attention(
        q.double(), k.double(), v.double(), scale=0.3, enable_gqa=True
    )
    expected = exact.transpose(1, 2).to(dtype)
    got = cpu.attend(q, k, v, 0.3)
    assert got.is_contiguous()
    assert_close(got, expected)
    # As projections leave them: heads side by side at every position.
    apart = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
    assert cpu.attend(*apart, 0.3).equal(got)
    # As caches with more room give them.
    roomy = (torch.cat([5 * x, x, x], dim=2)[:, :, keys : 2 * keys] for x in (k, v))
    assert cpu.attend(q, *roomy, 0.3).equal(got)


def test_attention_of_equal_sequences_and_heads(cpu):
    q, k, v = random(1, 1, 1, 8), random(1, 1, 6, 8, seed=1), random(1, 1, 6, 8, seed=2)
    one = cpu.attend(q, k, v, 0.5)
    spread = (x.expand(3, 2, -1, -1) for x in (q, k, v))
    assert cpu.attend(*spread, 0.5).equal(one.expand(3, 1, 2, 8))


def test_attention_to_many_equal_keys_stays_exact(cpu):
    """Many small weights beside a large one would be lost in a sum in float32, one by one."""
    keys = 131_072
    k, v = torch.zeros(1, 1, keys, 2), torch.ones(1, 1, keys, 3)
    k[..., 0, 0], v[..., 0, :] = 1.0, 0.0
    for score in (5.0, 12.0):
        got = cpu.attend(torch.tensor([score, 0.0]).view(1, 1, 1, 2), k, v, 1.0)
        expected = (keys - 1) / (keys - 1 + torch.tensor(score).double().exp())
        assert_close(got.flatten(), expected.float().expand(3))


def test_attention_to_equal_keys_is_the_mean_and_to_a_loud_one_its_value(cpu):
    k, v = torch.ones(1, 1, 9, 4), random(1, 1, 9, 5)
    q = torch.ones(1, 1, 1, 4)
    torch.testing.assert_close(cpu.attend(q, k, v, 1.0)[0, 0, 0], v[0, 0].mean(0))
    k[0, 0, 3] = 1000.0  # exp of it would be infinite
    assert cpu.attend(q, k, v, 1.0)[0, 0, 0].equal(v[0, 0, 3])
    k[0, 0, 4, 2] = torch.nan
    assert cpu.attend(q, k, v, 1.0).isnan().all()


@pytest.mark.parametrize("keys", [2, 6, 16, 19])
def test_weights_of_attention_are_exponentials(cpu, keys):
    """Of every size, and 0 where they are too small for a normal number."""
    scores = torch.linspace(0, -87.3, 401).view(1, -1, 1, 1)
    k = torch.ones(1, 401, keys, 1)
    k[:, :, 0] = 0.0
    v = torch.zeros_like(k)
    v[:, :, -1] = 1.0
    weights = scores.double().flatten().exp()
    expected = weights / (1 + (keys - 1) * weights)
    got = cpu.attend(scores, k, v, 1.0).flatten().double()
    torch.testing.assert_close(got, expected, rtol=4e-7, atol=0)
    assert not cpu.attend(scores - 90, k, v, 1.0).any()


def test_attention_does_not_depend_on_the_number_of_threads(cpu):
    given = (random(2, 16, n, 64, seed=n) for n in (1, 900, 900))
    q, k, v = given
    before = torch.get_num_threads()
    try:
        made = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(cpu.attend(q, k, v, 0.1))
    finally:
        torch.set_num_threads(before)
    assert made[0].equal(made[1]) and made[0].equal(made[2])


@pytest.mark.parametrize("dtype", WEIGHTS)
@pytest.mark.parametrize(
    ("batch", "length", "angles"), [(1, 1, 1), (3, 1, 1), (3, 1, 3), (2, 4, 1)]
)
def test_inputs_of_attention_are_to_the_bit_what_they_are_made_of(
    cpu, dtype, batch, length, angles
):
    x, norm = random(batch, length, 24, dtype=dtype), random(24, seed=1, dtype=dtype)
    outputs = (32, 16, 16)
    weights_t = [random(24, n, seed=2 + i, dtype=dtype) for i, n in enumerate(outputs)]
    thresholds = [torch.tensor(0.3), random(24, seed=5).abs(), torch.tensor(0.0)]
    biases = [None, random(16, seed=6), random(16, seed=7, dtype=dtype)]
    angle = random(angles, length, 8, seed=8)
    angles = angle.cos().to(dtype), angle.sin().to(dtype)
    hidden = cpu.rms_norm(x, norm, 1e-5)
    made = (
        cpu.input_sparse(hidden, *given)
        for given in zip(weights_t, thresholds, biases, strict=True)
    )
    q, k, v = (y.view(batch, length, -1, 8).transpose(1, 2) for y in made)
    got = cpu.attention_inputs(x, norm, 1e-5, weights_t, thresholds, biases, *angles)
    expected = (*cpu.rotary(q, k, *angles), v)
    assert all(one.equal(other) for one, other in zip(got, expected, strict=True))


@pytest.mark.parametrize("dtype", WEIGHTS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_what_attention_adds_is_to_the_bit_what_it_is_made_of(cpu, dtype, batch, biased):
    q, k = random(batch, 4, 1, 8, dtype=dtype), random(batch, 2, 9, 8, seed=1, dtype=dtype)
    v, residual = random(batch, 2, 9, 6, seed=2, dtype=dtype), random(batch, 1, 20, dtype=dtype)
    product = random(24, 20, seed=3, dtype=dtype), torch.tensor(0.1)
    product = (*product, random(20, seed=4) if biased else None)
    heads = cpu.attend(q, k, v, 0.3).flatten(2)
    norm = random(20, seed=5, dtype=dtype), 1e-5
    expected = residual + cpu.input_sparse(heads, *product)
    added, normed = cpu.attention_added(residual, q, k, v, 0.3, *product, *norm)
    assert added.equal(expected) and normed.equal(cpu.rms_norm(expected, *norm))
