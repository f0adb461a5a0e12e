"""Norms and turned queries: what the modules of transformers compute."""

import pytest
import torch
from sparse_products import WEIGHTS, random
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
