"""Random arguments of products, and how close results have to be.

Tolerances are of the relative L2 norm. Sums are in float32 on both sides: they differ by the order
of additions (1e-5), and with activations in bfloat16 also by the rounding of results (5e-3).
"""

import torch

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-3}
WEIGHTS = [torch.float32, torch.bfloat16]


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(got, expected):
    assert got.dtype == expected.dtype and got.shape == expected.shape
    error = torch.linalg.vector_norm(got.double() - expected.double())
    assert error <= TOLERANCE[got.dtype] * torch.linalg.vector_norm(expected.double())
