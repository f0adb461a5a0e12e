"""What localisation costs: least squares and the max-statistic against nilearn, memory, counting.

Every row is measured in processes of its own, so that the most memory one ever held is that of the
row. Ours and nilearn's take turns on the same data in one process with the same number of threads,
and the least of the rounds counts. Comparisons are of CPU time (user and system, all threads),
which depends less on what else a machine does; with one thread, which is what is used unless asked
otherwise, that is the time an idle machine takes.

- ``glm``: 20,000 rows x 15,000 units x 20 columns in memory against ``run_glm`` with
  ``noise_model="ols"`` and ``compute_contrast``. Both precisions read the same values: random ones
  that float32 holds exactly. Half of nilearn's time is the system's, for 5 GB of new memory, and
  grows several times over beside other work, ours by a third: a bar that holds where other work
  runs says nothing and is reported as not measured. Printed beside: CPU seconds to read the units
  once, and to multiply as many from the cache.
- ``stream``: the same size from a recording of 1.2 GB, time of reading apart; and its rows ten
  times over, as 200,000 rows.
- ``permutation``: 500 trials x 15,000 units x 1,000 permutations, 3 confounds, against
  ``permuted_ols`` with one job.
- ``large``: 4,718,592 units, the expert neurons of 48 layers x 128 experts x 768; time without
  making them up, beside the multiplication of all relabellings with all units alone.
- ``resonance``: 5,000,000 tokens x 58 layers x 8 of 256 experts from a recording of 2.3 GB. It has
  no weights, which counting does not read; every token is of the phase that is counted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.rows import (
    Parts,
    Row,
    at_most,
    cheaper,
    idle,
    part_parser,
    printed,
    report_parts,
    run,
)

ROWS, UNITS, PERMUTATIONS = 20_000, 15_000, 1_000
EXPERT_NEURONS = 48 * 128 * 768
TOKENS = 5_000_000


def glm(rounds: int) -> Iterator[Row]:
    """Compare least squares in memory with nilearn's.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        Time and difference in t of both precisions, and the time that is the least of any way.
    """
    alone = idle()
    measured = _measured("glm", "compare", ROWS, UNITS, rounds)
    seconds = {side: min(all_) for side, all_ in measured["seconds"].items()}
    for precision, bar, limit in (("float64", 5.0, 1e-8), ("float32", 10.0, 1e-4)):
        figure = f"glm: {ROWS} x {UNITS} x 20 in memory, {precision}"
        row = cheaper(
            f"{figure}, against run_glm", seconds[precision], seconds["theirs"], bar, "CPU s"
        )
        yield row if alone or row.status == "failed" else replace(row, status="not_measured")
        for limit_of in ("read", "multiplied"):
            least = seconds[f"{limit_of} {precision}"]
            yield printed(f"{figure}, units only {limit_of}", least, "CPU s")
        yield at_most(f"{figure}: difference in t", measured["difference"][precision], limit, "")


def stream(rounds: int) -> Iterator[Row]:
    """Measure least squares from a store.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        Memory, time of reading, and what ten times the rows change.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run("glm", "write", folder, ROWS, UNITS)
        once, more = (
            min((_measured("glm", "stream", folder, times) for _ in range(rounds)), key=_seconds)
            for times in (1, 10)
        )
    figure = f"stream: {ROWS} x {UNITS} x 20 from a store"
    yield at_most(f"{figure}, peak memory", once["peak"], 800, "MB")
    yield printed(f"{figure}, time in all", once["seconds"], "s")
    yield printed(f"{figure}, of it reading", once["read"], "s")
    yield at_most(f"stream: {10 * ROWS} rows, peak memory", more["peak"], 800, "MB")
    ratio = more["cpu"] / once["cpu"]
    figure = f"stream: {10 * ROWS} rows, CPU time as a multiple of that of {ROWS} rows"
    yield at_most(figure, ratio, 11, "times")


def permutation(rounds: int) -> Iterator[Row]:
    """Compare the max-statistic with nilearn's.

    Parameters
    ----------
    rounds : int
        Rounds of ours; the best counts.

    Yields
    ------
    Row
        Time, and differences in t and p.
    """
    measured = _measured("permutation", "compare", UNITS, PERMUTATIONS, rounds)
    seconds = {side: min(all_) for side, all_ in measured["seconds"].items()}
    figure = f"permutation: 500 x {UNITS} x {PERMUTATIONS}, 3 confounds"
    yield cheaper(
        f"{figure}, against permuted_ols", seconds["ours"], seconds["theirs"], 50, "CPU s"
    )
    yield at_most(f"{figure}: difference in t", measured["t"], 1e-8, "")
    yield at_most(f"{figure}: difference in p", measured["p"], 4.5, "standard errors")


def large(rounds: int) -> Iterator[Row]:
    """Measure the max-statistic over millions of units.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        Memory, and time beside that of the multiplication.
    """
    measured = min(
        (_measured("permutation", "large", EXPERT_NEURONS, PERMUTATIONS) for _ in range(rounds)),
        key=_seconds,
    )
    figure = f"large: 500 x {EXPERT_NEURONS} x {PERMUTATIONS}"
    yield at_most(f"{figure}, peak memory", measured["peak"], 4000, "MB")
    yield printed(
        f"{figure}, time beside the multiplication alone",
        measured["seconds"],
        "CPU s",
        measured["limit"],
    )


def resonance(rounds: int) -> Iterator[Row]:
    """Measure counting chosen experts.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        Time, with reading and the part that is reading, and memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run("routing", "write", folder, TOKENS)
        all_ = [_measured("routing", "count", folder) for _ in range(rounds)]
    measured = min(all_, key=_seconds)
    figure = f"resonance: {TOKENS} tokens x 58 x 256 experts"
    yield at_most(f"{figure}, time in all", measured["seconds"], 60, "s")
    yield printed(f"{figure}, of it reading", measured["read"], "s")
    yield at_most(f"{figure}, peak memory", measured["peak"], 1000, "MB")


PARTS: Parts = {
    "glm": glm,
    "stream": stream,
    "permutation": permutation,
    "large": large,
    "resonance": resonance,
}


def _run(module: str, *arguments: object) -> str:
    return run(f"localisation.{module}", *arguments)


def _measured(module: str, *arguments: object) -> dict:
    return json.loads(_run(module, *arguments).splitlines()[-1])


def _seconds(measured: dict) -> float:
    return measured["seconds"]


def main() -> int:
    """Measure and report."""
    made = part_parser("localise", "What localisation costs, beside nilearn.", PARTS, rounds=3)
    made.add_argument("--threads", type=int, default=1, help="threads of ours and of nilearn")
    arguments = made.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    return report_parts(PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
