"""Time sparse products of the backend ``triton`` on a GPU, beside dense ones.

Weights lie in memory several times over and take turns, as do all products, so that none finds in
a cache what an earlier one has read.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.sparsity.products import INPUTS, SPARSITIES, THRESHOLD, draw_input
from lmri.sparse.kernels import backend


def measure(
    dtype: torch.dtype, rows: int, columns: int, copies: int, rounds: int
) -> dict[str, list[float]]:
    """Time all products in turn.

    Parameters
    ----------
    dtype : torch.dtype
        Of weights, inputs and results.
    rows, columns : int
        Shape of the weights.
    copies : int
        How many times the weights are in memory.
    rounds : int
        Rounds; as many before them are not counted, since kernels are compiled in the first.

    Returns
    -------
    dict
        Seconds of every round by ``mv``, ``linear``, ``copy`` (of the weights, which reads and
        writes) and ``input N`` with the sparsity in per cent.
    """
    triton = backend("triton")
    torch.manual_seed(0)
    base = torch.randn(rows, columns).to(dtype)
    weights = [base.to("cuda") for _ in range(copies)]
    transposed = [triton.transposed(weight) for weight in weights]
    target, threshold = torch.empty_like(weights[0]), torch.tensor(THRESHOLD, device="cuda")
    inputs = {
        sparsity: [draw_input(columns, sparsity).to("cuda", dtype) for _ in range(INPUTS)]
        for sparsity in SPARSITIES
    }

    def x(turn: int, sparsity: int = 0) -> Tensor:
        return inputs[sparsity][turn % INPUTS]

    runs = {
        "mv": lambda turn: torch.mv(weights[turn % copies], x(turn)),
        "linear": lambda turn: F.linear(x(turn)[None], weights[turn % copies]),
        "copy": lambda turn: target.copy_(weights[turn % copies]),
    }
    for sparsity in SPARSITIES:
        runs[f"input {sparsity}"] = lambda turn, sparsity=sparsity: triton.input_sparse(
            x(turn, sparsity), transposed[turn % copies], threshold
        )
    spent: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for turn in range(2 * rounds):
            for name, run in runs.items():
                began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                # The GPU is kept busy meanwhile, so that it does not wait for this program.
                torch.cuda._sleep(1_000_000)
                began.record()
                run(turn)
                ended.record()
                torch.cuda.synchronize()
                if turn >= rounds:
                    spent[name].append(began.elapsed_time(ended) / 1e3)
    return spent
