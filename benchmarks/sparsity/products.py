"""Time sparse products beside dense ones: run in processes of its own.

``DTYPE ROWS COLUMNS COPIES ROUNDS THREADS`` times products of weights of shape (ROWS, COLUMNS),
all in turn, and prints JSON in its last line. Weights lie in memory several times over and take
turns, as do the inputs, so that no product finds in a cache what an earlier one has read.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lmri.sparse.kernels import Backend, backend

SPARSITIES = (0, 50, 75, 90)
INPUTS = 5
THRESHOLD = 0.5


@dataclass(frozen=True)
class Data:
    """Copies of the weights in both layouts, and inputs and indices by sparsity in per cent."""

    weights: list[Tensor]
    transposed: list[Tensor]
    inputs: dict[int, list[Tensor]]
    indices: dict[int, list[Tensor]]

    @classmethod
    def make(cls, dtype: torch.dtype, rows: int, columns: int, copies: int, cpu: Backend) -> Data:
        """Draw them; exactly the share asked for is at most the threshold, or is not named."""
        torch.manual_seed(0)
        weights = [torch.randn(rows, columns).to(dtype)]
        weights += [weights[0].clone() for _ in range(copies - 1)]
        transposed = [cpu.transposed(weight) for weight in weights]
        inputs, indices = {}, {}
        for sparsity in SPARSITIES:
            inputs[sparsity] = [draw_input(columns, sparsity).to(dtype) for _ in range(INPUTS)]
            named = rows - rows * sparsity // 100
            indices[sparsity] = [torch.randperm(rows)[:named].sort().values for _ in range(INPUTS)]
        return cls(weights, transposed, inputs, indices)


def measure(
    dtype: torch.dtype, rows: int, columns: int, copies: int, rounds: int, threads: int
) -> dict[str, object]:
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
        Rounds; one more before them is not counted.
    threads : int
        Threads of torch.

    Returns
    -------
    dict
        ``bytes`` of the weights, ``backend``, and ``cpu`` and ``wall``: seconds of every round by
        ``mv``, ``linear``, ``read`` (a sum of the weights), and ``input N``, ``output N`` and
        ``mlp N`` (an up and a down projection) with the sparsity in per cent.
    """
    torch.set_num_threads(threads)
    cpu = backend("cpu")
    data = Data.make(dtype, rows, columns, copies, cpu)
    runs = _runs(data, cpu)
    spent: dict[str, dict[str, list[float]]] = {
        clock: {name: [] for name in runs} for clock in ("cpu", "wall")
    }
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for name, run in runs.items():
                wall, used = time.perf_counter(), time.process_time()
                run(turn)
                if turn:
                    spent["cpu"][name].append(time.process_time() - used)
                    spent["wall"][name].append(time.perf_counter() - wall)
    return {"bytes": data.weights[0].nbytes, "backend": cpu.name} | spent


def _runs(data: Data, cpu: Backend) -> dict[str, Callable[[int], Tensor]]:
    copies, threshold = len(data.weights), torch.tensor(THRESHOLD)
    hidden = data.inputs[0][0][: len(data.weights[0])]
    # The memory that input-sparse products read, as float32, which sums fastest.
    words = [weight.view(torch.float32) for weight in data.transposed]

    def x(turn: int, sparsity: int = 0) -> Tensor:
        return data.inputs[sparsity][turn % INPUTS]

    runs: dict[str, Callable[[int], Tensor]] = {
        "mv": lambda turn: torch.mv(data.weights[turn % copies], x(turn)),
        "linear": lambda turn: F.linear(x(turn)[None], data.weights[turn % copies]),
        "read": lambda turn: words[turn % copies].sum(),
    }
    for sparsity in SPARSITIES:
        runs[f"input {sparsity}"] = lambda turn, sparsity=sparsity: cpu.input_sparse(
            x(turn, sparsity), data.transposed[turn % copies], threshold
        )
        # Of other copies than the input-sparse product, which has just read the same rows.
        runs[f"mlp {sparsity}"] = lambda turn, sparsity=sparsity: cpu.sparse_mlp(
            x(turn, sparsity),
            hidden,
            data.transposed[(turn + 1) % copies],
            data.transposed[(turn + 2) % copies],
            threshold,
        )
        runs[f"output {sparsity}"] = lambda turn, sparsity=sparsity: cpu.output_sparse(
            x(turn), data.weights[turn % copies], data.indices[sparsity][turn % INPUTS]
        )
    return runs


def draw_input(columns: int, sparsity: int) -> Tensor:
    """Draw values of which exactly a share, anywhere, is at most the threshold.

    Parameters
    ----------
    columns : int
        How many values.
    sparsity : int
        The share, in per cent.

    Returns
    -------
    Tensor of shape (columns,), float32
        The values.
    """
    skipped = torch.randperm(columns)[: columns * sparsity // 100]
    x = torch.rand(columns) + 1.2 * THRESHOLD
    x[skipped] = torch.rand(len(skipped)) * 0.8 * THRESHOLD
    return x * torch.randint(0, 2, (columns,)).mul(2).sub(1)


def main(dtype: str, *sizes: str) -> int:
    """Run what the command line names and print what it returns."""
    print(json.dumps(measure(getattr(torch, dtype), *map(int, sizes))))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
