"""Kernels of Triton against masked dense products: on a GPU, else in Triton's interpreter.

The interpreter is chosen when Triton is imported: the first test runs the others in a process of
its own, together with those of other files that take every backend.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sparse_products import WEIGHTS, random

from lmri.errors import SparseError
from lmri.sparse.kernels import backend
from lmri.sparse.kernels.gpu import load_triton
from lmri.sparse.kernels.reference import Reference

# The interpreter cuts what a bfloat16 result has no room for, and a GPU rounds: one unit of the
# last place.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7}
SHAPES = [(1, 1), (37, 65), (300, 7)]
DTYPES = [(WEIGHTS[0], WEIGHTS[0]), (WEIGHTS[1], WEIGHTS[1]), (WEIGHTS[1], WEIGHTS[0])]
ACTIVE = [0, 1, 3, 4, 5, 129, 300]


@pytest.fixture
def draw(triton):
    def drawn(*shape, seed=0, dtype=torch.float32):
        return random(*shape, seed=seed, dtype=dtype).to(triton.device)

    return drawn


@pytest.fixture
def masked(triton):
    return Reference(triton.device)


@pytest.fixture
def threshold(triton):
    return torch.tensor(0.7, device=triton.device)


@pytest.fixture
def unloaded():
    load_triton.cache_clear()
    yield
    load_triton.cache_clear()


def assert_close(got, expected):
    assert got.dtype == expected.dtype and got.shape == expected.shape
    error = torch.linalg.vector_norm(got.double() - expected.double())
    assert error <= TOLERANCE[got.dtype] * torch.linalg.vector_norm(expected.double())


def leading(rows):
    return () if rows is None else (rows,)


@pytest.mark.slow
def test_in_the_interpreter():
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("this is the process with the interpreter")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    kernels = Path(__file__).parent
    rules = kernels.parent / "runtime" / "test_rules.py"
    command = [sys.executable, "-m", "pytest", "-q", "-k", "triton", "--color=no"]
    command += ["-p", "no:xdist", str(kernels), str(rules)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout and " failed" not in done.stdout


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("weights", "activations"), DTYPES)
@pytest.mark.parametrize("rows", [None, 3])
def test_every_product_is_the_masked_one(
    triton, masked, draw, threshold, shape, weights, activations, rows
):
    n_in, n_out = shape
    x, bias = draw(*leading(rows), n_in, dtype=activations), draw(n_out, seed=2)
    weight_t, weight = (draw(n_in, n_out, seed=1, dtype=weights), draw(n_out, n_in, dtype=weights))
    a = draw(*leading(rows), n_out, seed=3, dtype=activations)
    up = draw(n_out, n_in, seed=4, dtype=weights)
    channels, outputs = (torch.arange(0, n, 3, device=triton.device) for n in shape)
    for name, arguments in (
        ("input_sparse", (x, weight_t, threshold, bias)),
        ("input_sparse", (x, weight_t, draw(n_in, seed=5).abs())),
        ("input_listed", (x, weight_t, channels, bias)),
        ("output_sparse", (x, weight, outputs, bias)),
        ("sparse_mlp", (a, x, up, weight, threshold, bias, draw(n_in))),
        ("sparse_mlp", (a, x, up, weight, draw(n_out, seed=5).abs())),
        ("sparse_mlp", (x, None, None, weight_t, threshold)),
    ):
        assert_close(getattr(triton, name)(*arguments), getattr(masked, name)(*arguments))
    first = draw(n_out, n_in, seed=6, dtype=weights)
    for read in (up, None):
        biases = draw(n_out, seed=8), None if read is None else bias, draw(n_in, seed=9)
        arguments = (x, first, read, weight, "silu", draw(n_out, seed=5).abs(), *biases)
        for got, expected in zip(
            triton.whole_mlp(*arguments), masked.whole_mlp(*arguments), strict=True
        ):
            assert_close(got, expected)


@pytest.mark.parametrize("active", ACTIVE)
def test_any_number_of_active_channels(triton, masked, draw, active):
    x = draw(300).abs() + 0.1
    order = torch.randperm(300, generator=torch.Generator().manual_seed(4)).to(triton.device)
    x[order[active:]] = 0
    index = order[:active].sort().values
    weight_t, zero = draw(300, 50, seed=1), torch.tensor(0.0, device=triton.device)
    got = triton.input_sparse(x, weight_t, zero)
    assert_close(got, masked.input_sparse(x, weight_t, zero))
    assert triton.input_listed(x, weight_t, index).allclose(got, atol=1e-5)
    assert got.count_nonzero() == (50 if active else 0)
    y = triton.output_sparse(draw(50), weight_t, index)
    assert_close(y, masked.output_sparse(draw(50), weight_t, index))


def test_what_is_skipped_is_not_read(triton, masked, draw, threshold):
    x, a = draw(3, 150), draw(3, 150, seed=7)
    index = torch.arange(1, 150, 7, device=triton.device)
    others = torch.ones(150, dtype=torch.bool, device=triton.device).index_fill(0, index, False)
    for row in range(3):
        idle = x[row].abs() <= threshold
        weight_t, up = draw(150, 60, seed=1), draw(150, 150, seed=2)
        clean = triton.input_sparse(x, weight_t, threshold)[row]
        clean_mlp = triton.sparse_mlp(x, a, up, weight_t, threshold)[row]
        weight_t[idle], up[idle] = torch.nan, torch.nan
        # Skipped by this row, active in others: each row has to skip on its own.
        assert triton.input_sparse(x, weight_t, threshold)[row].equal(clean)
        assert triton.sparse_mlp(x, a, up, weight_t, threshold)[row].equal(clean_mlp)
        assert masked.input_sparse(x, weight_t, threshold)[row].isnan().all()
    weight_t = draw(150, 60, seed=1)
    weight_t[others] = torch.nan
    assert triton.input_listed(x, weight_t, index).isfinite().all()
    assert triton.output_sparse(x[:, :60], weight_t, index).isfinite().all()
    assert masked.input_listed(x, weight_t, index).isnan().all()


def test_thresholds_are_strict_and_what_is_no_number_shows(triton, draw):
    x = torch.tensor([0.5, -0.5, 0.5000001, -0.5000001] * 9, device=triton.device)
    identity, half = (one.to(triton.device) for one in (torch.eye(36), torch.tensor(0.5)))
    y = triton.input_sparse(x, identity, half)
    assert y.tolist() == [0.0, 0.0, x[2].item(), x[3].item()] * 9
    x[17] = torch.nan
    limit = torch.tensor(1e9, device=triton.device)
    assert triton.input_sparse(x, draw(36, 3), limit).isnan().all()


def test_a_sum_of_many_parts_has_the_same_bits_each_time(triton, masked, draw, threshold):
    x, weight_t = draw(3000), draw(3000, 20, seed=1)
    first = triton.input_sparse(x, weight_t, threshold)
    assert_close(first, masked.input_sparse(x, weight_t, threshold))
    assert triton.input_sparse(x, weight_t, threshold).equal(first)


def test_without_a_gpu_the_error_says_what_to_do(unloaded, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SparseError, match=r"needs a GPU.*backend 'cpu'.*TRITON_INTERPRET=1"):
        backend("triton")


def test_without_triton_the_error_says_what_to_do(unloaded, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SparseError, match=r"needs the package triton.*pip install triton"):
        backend("triton")


@pytest.mark.parametrize("pointer", ["*bf16", "*fp32"])
@pytest.mark.parametrize("listed", [False, True])
def test_kernels_compile_for_a_gpu_that_is_not_here(monkeypatch, tmp_path, pointer, listed):
    """The interpreter takes what the compiler refuses."""
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter compiles nothing")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    from triton import compiler
    from triton.backends.compiler import GPUTarget

    from lmri.sparse.kernels import triton_kernels

    types = dict.fromkeys(("values", "deciding", "weight_t", "x", "weight", "bias", "y"), pointer)
    types |= {"threshold": "*fp32", "sums": "*fp32", "index": "*i64"}
    fixed = {"LISTED": listed, "EACH": True, "BIASED": True, "BLOCK_IN": 32, "BLOCK_OUT": 256}
    for kernel in (
        triton_kernels.add_channels,
        triton_kernels.add_parts,
        triton_kernels.multiply_rows,
    ):
        names = kernel.arg_names
        signature = {name: types.get(name, "i32") for name in names}
        signature |= {name: "constexpr" for name in fixed if name in names}
        values = {(names.index(name),): value for name, value in fixed.items() if name in names}
        source = compiler.ASTSource(fn=kernel, signature=signature, constexprs=values)
        compiled = compiler.compile(source, target=GPUTarget("cuda", 80, 32))
        assert "st.global" in compiled.asm["ptx"]
