"""Building: once, by one of several processes, into a private cache; and what happens without."""

import os
import subprocess
import sys
import warnings

import pytest
import torch

from lmri.native import build_key, find_compiler, private_cache
from lmri.sparse.kernels import backend
from lmri.sparse.kernels.build import KERNELS
from lmri.sparse.kernels.cpu import load_cpu

USE = """
import torch
from lmri.sparse.kernels import backend
made = backend("cpu")
print(made.name, made.input_sparse(torch.ones(3), torch.ones(3, 2), torch.tensor(0.5)).tolist())
"""

COMPARE = """
import torch
from lmri.sparse.kernels import backend
print(torch.backends.cpu.get_cpu_capability())
cpu, reference = backend("cpu"), backend("reference")
torch.manual_seed(0)
x, threshold = torch.randn(3, 333), torch.tensor(0.4)
for dtype in (torch.float32, torch.bfloat16):
    weight = torch.randn(77, 333).to(dtype)
    index = torch.arange(1, 77, 3)
    for got, expected in (
        [one.input_sparse(x, weight.T.contiguous(), threshold) for one in (cpu, reference)],
        [one.output_sparse(x, weight, index) for one in (cpu, reference)],
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-4)
    weight_t, narrow = weight.T.contiguous(), x.bfloat16()
    got = cpu.input_sparse(narrow, weight_t, threshold)
    assert got.equal(cpu.input_sparse(narrow.float(), weight_t, threshold).bfloat16())
    q, k, v = (torch.randn(2, 3, n, 37).to(dtype) for n in (1, 50, 50))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    close = 1e-5 if dtype is torch.float32 else 1e-2
    torch.testing.assert_close(cpu.attend(q, k, v, 37**-0.5), expected, rtol=close, atol=close)
"""


@pytest.fixture
def unbuilt(monkeypatch, tmp_path):
    """A process that has not asked for the kernels yet, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_cpu.cache_clear()
    yield tmp_path / "lmri" / "kernels"
    load_cpu.cache_clear()


def test_two_processes_that_build_at_once_both_succeed(cpu, tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", USE]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=environment, **streams) for _ in range(2)]
    for process in both:
        output, errors = process.communicate(timeout=300)
        assert (output, process.returncode) == ("cpu [3.0, 3.0]\n", 0), errors
    folder = tmp_path / "lmri" / "kernels"
    assert len(list(folder.glob("*.so"))) == 1
    assert not list(folder.glob("*.partial*"))


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_every_set_of_instructions_gives_the_product(cpu, capability):
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability}
    command = [sys.executable, "-c", COMPARE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if done.stdout.strip().lower() != capability:
        pytest.skip(f"this processor has no {capability}")


def test_no_compiler_warns_once_and_computes(unbuilt, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.warns(RuntimeWarning, match=r"no C\+\+ compiler .*\(looked for g\+\+.*reference"):
        made = backend("cpu")
    assert made.name == "reference"
    assert made.input_sparse(torch.ones(3), torch.ones(3, 2), torch.tensor(0.5)).tolist() == [3, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backend("cpu").name == "reference"


def test_a_compiler_that_fails_leaves_nothing_and_says_why(unbuilt, monkeypatch, tmp_path):
    script = tmp_path / "broken compiler"
    script.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "error: no such standard" >&2\nexit 1\n'
    )
    script.chmod(0o700)
    monkeypatch.setenv("CXX", f"'{script}'")
    with pytest.warns(RuntimeWarning, match="broken compiler': error: no such standard"):
        assert backend("cpu").name == "reference"
    assert not list(unbuilt.glob("*.so"))


def test_a_library_that_cannot_be_loaded_is_not_used(cpu, unbuilt):
    path = private_cache(KERNELS) / f"{build_key(KERNELS, find_compiler(KERNELS))}.so"
    path.write_bytes(b"no library")
    with pytest.warns(RuntimeWarning, match="reference"):
        assert backend("cpu").name == "reference"
