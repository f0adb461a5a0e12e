"""Backends under test."""

import os

import pytest
import torch

from lmri.errors import BuildError
from lmri.native import find_compiler
from lmri.sparse.kernels import backend
from lmri.sparse.kernels.build import KERNELS

# In this process kernels of Triton run in its interpreter; test_triton.py starts one that has it.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(scope="session")
def reference():
    return backend("reference")


@pytest.fixture(scope="session")
def cpu():
    try:
        find_compiler(KERNELS)
    except BuildError:
        pytest.skip("there is no C++ compiler")
    made = backend("cpu")
    assert made.name == "cpu"
    return made


@pytest.fixture(scope="session")
def triton():
    pytest.importorskip("triton")
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("there is no GPU, and TRITON_INTERPRET is not 1")
    return backend("triton")


@pytest.fixture(params=["reference", "cpu", *(["triton"] if INTERPRETED else [])])
def any_backend(request):
    return request.getfixturevalue(request.param)
