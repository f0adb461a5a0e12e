"""What skipping saves: sparse matrix-vector products against dense ones, and their share of memory.

Weights of 4096 x 14336 lie in memory several times over, so that every product reads them from
there; exactly the share that a row names is skipped, at random places. All products take turns in
one process, and the least of the rounds counts, of ``gpu`` and ``decode`` the median. With one
thread it is CPU time, which depends less on what else a machine does and is what an idle one takes;
with two, the time on the clock.

- ``float32``, ``bfloat16``: one thread, against the faster of ``torch.mv`` and ``F.linear``, which
  read all weights; and what is read a second against a sum over the same bytes.
- ``gpu``: the kernels of Triton in bfloat16, against ``torch.mv`` and against a copy. Not measured
  without a GPU.
- ``threads``: two threads against one. A miss says nothing on a machine that does other work, or
  where one thread alone uses up the memory, so that a sum gains no more from the second: it is
  reported as not measured.
- ``decode``: whole models under plans, see :mod:`benchmarks.sparsity.decode`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

import torch

from benchmarks.rows import Parts, Row, cheaper, idle, part_parser, printed, report_parts, run
from benchmarks.sparsity.decode import whole_model
from benchmarks.sparsity.gpu import measure
from benchmarks.sparsity.products import SPARSITIES

ROWS, COLUMNS, COPIES = 4096, 14336, 3
BARS = {
    "float32": {0: 0.95, 50: 1.9, 75: 3.6, 90: 8.5},
    "bfloat16": {0: 0.95, 50: 1.8, 75: 3.4, 90: 8.0},
}
"""How many times cheaper than dense, by dtype and sparsity in per cent."""

SHARE = 0.9
"""Of the bandwidth of a sum over the weights."""

SPEEDUP = 1.7
"""Of two threads over one."""

GPU_SPARSITY, GPU_SPEEDUP, GPU_SHARE = 50, 1.7, 0.75
"""On a GPU: times cheaper than ``torch.mv`` at a sparsity in per cent, and share of a copy."""


def one_thread(dtype: str, rounds: int) -> Iterator[Row]:
    """Compare with dense products.

    Parameters
    ----------
    dtype : str
        Of the weights.
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        CPU time, and bytes a second, of every sparsity.
    """
    measured = _measured(dtype, rounds, 1)
    least = _least(measured, "cpu")
    dense = min(least["mv"], least["linear"])
    bandwidth = measured["bytes"] / least["read"] / 1e9
    for sparsity, bar in BARS[dtype].items():
        seconds = least[f"input {sparsity}"]
        figure = f"{dtype}: {ROWS} x {COLUMNS}, {sparsity} % of inputs skipped"
        yield cheaper(f"{figure}, against dense", 1e3 * seconds, 1e3 * dense, bar, "CPU ms")
        reached = measured["bytes"] * (1 - sparsity / 100) / seconds / 1e9
        yield _at_least(f"{figure}, read a second", reached, bandwidth, SHARE, "GB/s")
    for sparsity in BARS[dtype]:
        for name, what, products in (
            ("output", "outputs", 1),
            ("mlp", "neurons of a gated MLP", 2),
        ):
            seconds = least[f"{name} {sparsity}"]
            figure = f"{dtype}: {ROWS} x {COLUMNS}, {sparsity} % of {what} skipped, against dense"
            yield printed(figure, 1e3 * seconds, "CPU ms", 1e3 * products * dense)


def threads(rounds: int) -> Iterator[Row]:
    """Compare two threads with one, on the clock.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        Time on the clock by dtype and sparsity.
    """
    alone = idle() and len(os.sched_getaffinity(0)) > 1
    for dtype, bars in BARS.items():
        one, two = (_least(_measured(dtype, rounds, count), "wall") for count in (1, 2))
        figure = f"threads: {dtype}, a sum over the weights, two against one"
        probe = printed(figure, 1e3 * two["read"], "ms", 1e3 * one["read"])
        yield probe
        for sparsity in bars:
            figure = f"threads: {dtype}, {sparsity} % of inputs skipped, two against one"
            ours, theirs = (1e3 * side[f"input {sparsity}"] for side in (two, one))
            row = cheaper(figure, ours, theirs, SPEEDUP, "ms")
            if row.status == "failed" and (not alone or probe.ratio < SPEEDUP):
                row = replace(row, status="not_measured")
            yield row


def gpu(rounds: int) -> Iterator[Row]:
    """Compare the kernels of Triton with dense products and with a copy of the weights.

    Parameters
    ----------
    rounds : int
        Rounds; the median counts.

    Yields
    ------
    Row
        Time and bytes a second of every sparsity; of one only without a GPU, not measured.
    """
    figure = f"gpu: bfloat16: {ROWS} x {COLUMNS}, {{}} % of inputs skipped, {{}}"
    bar = f"at least {GPU_SPEEDUP:g} times cheaper, at least {GPU_SHARE:g} of a copy"
    if not torch.cuda.is_available():
        missing = figure.format(GPU_SPARSITY, "against mv")
        yield Row(missing, None, None, None, bar, "ms", "not_measured")
        return
    spent = measure(torch.bfloat16, ROWS, COLUMNS, COPIES, rounds)
    medians = {name: median(seconds) for name, seconds in spent.items()}
    size = ROWS * COLUMNS * torch.bfloat16.itemsize
    copied = 2 * size / medians["copy"] / 1e9
    for sparsity in SPARSITIES:
        seconds = medians[f"input {sparsity}"]
        reached = size * (1 - sparsity / 100) / seconds / 1e9
        against = figure.format(sparsity, "against mv")
        read = figure.format(sparsity, "read a second, against a copy")
        if sparsity == GPU_SPARSITY:
            yield cheaper(against, 1e3 * seconds, 1e3 * medians["mv"], GPU_SPEEDUP, "ms")
            yield _at_least(read, reached, copied, GPU_SHARE, "GB/s")
        else:
            yield printed(against, 1e3 * seconds, "ms", 1e3 * medians["mv"])


PARTS: Parts = {
    "float32": lambda rounds: one_thread("float32", rounds),
    "bfloat16": lambda rounds: one_thread("bfloat16", rounds),
    "threads": threads,
    "gpu": gpu,
    "decode": whole_model,
}


def _measured(dtype: str, rounds: int, count: int) -> dict:
    sizes = (ROWS, COLUMNS, COPIES, rounds, count)
    threads_of = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(count))
    return json.loads(
        run("sparsity.products", dtype, *sizes, variables=threads_of).splitlines()[-1]
    )


def _least(measured: dict, clock: str) -> dict[str, float]:
    if measured["backend"] != "cpu":
        sys.exit("The kernels could not be built: there is nothing to measure.")
    return {name: min(seconds) for name, seconds in measured[clock].items()}


def _at_least(figure: str, ours: float, theirs: float, share: float, unit: str) -> Row:
    ratio = ours / theirs
    status = "held" if ratio >= share else "failed"
    return Row(figure, ours, theirs, ratio, f"at least {share:g} of it", unit, status)


def main() -> int:
    """Measure and report."""
    made = part_parser("sparse", "What skipping saves, beside dense products.", PARTS, rounds=15)
    return report_parts(PARTS, made.parse_args())


if __name__ == "__main__":
    sys.exit(main())
