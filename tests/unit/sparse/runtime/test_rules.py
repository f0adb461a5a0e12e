"""Every rule on every architecture: kernels against masked products, decoding against a prefill."""

import os

import pytest
import torch
from families import tiny_model, tokens
from sparse_cases import CASES, CLOSE, DECODED, LOOSER, plan_for

from lmri.sparse.runtime import sparse

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Set in the process that kernels/test_triton.py starts."""

OF_EVERY_FORM = ("llama", "gpt_oss")
"""Gated; with experts that are transposed and have biases. More take minutes in the interpreter."""


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_kernels_compute_what_masked_products_compute(kind, name):
    """A pass over few rows, so that every product is one of a kernel."""
    model, ids = tiny_model(kind), tokens(kind, 1, 8)
    plan = plan_for(kind, name)
    with torch.inference_mode():
        dense = model(ids).logits
        with sparse(model, plan, "reference") as session:
            expected = model(ids).logits
        assert session.backend == "reference"
        with sparse(model, plan, "cpu") as session:
            assert session.backend == "cpu"
            torch.testing.assert_close(model(ids).logits, expected, **CLOSE)
    assert not torch.allclose(expected, dense, rtol=1e-3, atol=1e-4)
    skipped = [count.sparsity for count in session.counts.rules()]
    assert any(0 < share < 1 for share in skipped) or name == "skipped_experts"


@pytest.mark.skipif(not INTERPRETED, reason="run by kernels/test_triton.py")
@pytest.mark.parametrize(("kind", "name"), [case for case in CASES if case[0] in OF_EVERY_FORM])
def test_triton_computes_what_masked_products_compute(kind, name):
    model, ids = tiny_model(kind), tokens(kind, 1, 8)
    plan = plan_for(kind, name)
    with torch.inference_mode():
        with sparse(model, plan, "reference"):
            expected = model(ids).logits
        with sparse(model, plan, "triton") as session:
            assert session.backend == "triton"
            torch.testing.assert_close(model(ids).logits, expected, **CLOSE)


@pytest.mark.parametrize(("kind", "name"), DECODED)
def test_generating_is_reading_with_masked_products(kind, name):
    """A prefill of many rows, then one token at a time from the cache, on kernels."""
    model, ids = tiny_model(kind), tokens(kind, 1, 11)
    plan = plan_for(kind, name, dense_tokens=2)
    with torch.inference_mode():
        with sparse(model, plan, "cpu") as session:
            made = model.generate(
                ids,
                max_new_tokens=5,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
        with sparse(model, plan, "reference"):
            expected = model(made.sequences).logits[:, 10:-1]
    close = CLOSE | LOOSER.get(kind, {})
    torch.testing.assert_close(torch.stack(made.logits, 1), expected, **close)
    assert session.counts.total("prefill").tokens == 11
    assert session.counts.total("decode").tokens == 4


@pytest.mark.parametrize("name", ["input_threshold", "neuron_threshold", "kept_neurons", "mixed"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2_moe", "gpt_oss"])
def test_bfloat16(kind, name):
    from families import configuration, random_model

    model = random_model(configuration(kind)).to(torch.bfloat16)
    ids = tokens(kind, 1, 6)
    plan = plan_for(kind, name)
    with torch.inference_mode():
        with sparse(model, plan, "reference"):
            expected = model(ids).logits.float()
        with sparse(model, plan, "cpu"):
            got = model(ids).logits.float()
    # A value beside its threshold may fall on either side of it after rounding.
    error = (got - expected).norm() / expected.norm()
    assert error < 0.05
