"""What estimates of information cost: neighbours, kernels, and permutations.

Every row is measured in processes of its own, so that the most memory one ever held is that of the
row. Ours and the alternative take turns on the same data in one process with the same number of
threads, and the least of the rounds counts. Comparisons are of CPU time (user and system, all
threads), which depends less on what else a machine does.

- ``line``: KSG of two variables of one dimension, n = 10,000, against ``mutual_info_regression``
  with one pair. Its noise on the samples may change a count, and so the value, by very little.
- ``wide``: KSG in twice 20 dimensions, n = 10,000, against ``cKDTree`` in all three spaces, as in
  NPEET: a minute or two for the latter.
- ``kernel``: the bounds of Kolchinsky and Tracey at one noise, n = 20,000 and d = 512, beside
  multiplying the same pairs of blocks in the same precision and nothing else.
- ``permutation``: 200 permutations beside one estimate (copula), and beside 200 (Gaussian).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.rows import Row, at_most, cheaper, parser, report

KERNEL = (20_000, 512)
PERMUTED = ((1_000, 1), (1_000, 5), (10_000, 20))
DRAWS = 200


def line(rounds: int) -> Iterator[Row]:
    """Compare KSG of one dimension with scikit-learn's.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        Time and difference in value.
    """
    yield from _against(1, "mutual_info_regression", 1 / 1.5, 1e-6, rounds)


def wide(rounds: int) -> Iterator[Row]:
    """Compare KSG of twenty dimensions with trees.

    Parameters
    ----------
    rounds : int
        Rounds of ours; the best counts.

    Yields
    ------
    Row
        Time and difference in value.
    """
    yield from _against(20, "cKDTree", 5, 1e-12, rounds)


def kernel(rounds: int) -> Iterator[Row]:
    """Measure the bounds of Kolchinsky and Tracey.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        Memory, and the share of the rate of a matrix product.
    """
    all_ = [_measured("kernel", *KERNEL) for _ in range(rounds)]
    n, d = KERNEL
    figure = f"kernel: n = {n}, d = {d}"
    yield at_most(f"{figure}, peak memory", max(own["peak"] for own in all_), 1000, "MB")
    seconds = min(own["seconds"] for own in all_)
    product = min(own["product"] for own in all_)
    yield cheaper(f"{figure}, beside its matrix product alone", seconds, product, 0.5, "CPU s")


def permutation(rounds: int) -> Iterator[Row]:
    """Measure nulls beside single estimates.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        For both estimators and two sizes.
    """
    for n, d in PERMUTED:
        found = _measured("permutation", n, d, 2 * rounds + 1)
        figure = f"permutation: {DRAWS} of n = {n}, d = {d}"
        copula, gaussian = found["copula"], found["gaussian"]
        times = (copula["null"] - copula["one"]) / copula["one"]
        yield at_most(f"{figure}, copula, as a multiple of one estimate", times, 5, "times")
        share = (gaussian["null"] - gaussian["one"]) / (DRAWS * gaussian["one"])
        yield at_most(f"{figure}, Gaussian, as a share of {DRAWS} estimates", share, 0.3, "")


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "line": line,
    "wide": wide,
    "kernel": kernel,
    "permutation": permutation,
}


def _against(d: int, other: str, least: float, difference: float, rounds: int) -> Iterator[Row]:
    measured = _measured("ksg", d, rounds)
    seconds = {side: min(all_) for side, all_ in measured["seconds"].items()}
    figure = f"ksg: n = 10000, d = {d}, against {other}"
    yield cheaper(figure, seconds["ours"], seconds["theirs"], least, "CPU s")
    yield at_most(f"{figure}: difference in value", measured["difference"], difference, "nat")


def _measured(*arguments: object) -> dict:
    command = [sys.executable, "-m", "benchmarks.informing.estimators", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Measure and report."""
    made = parser("information", "What estimates of information cost.")
    made.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="NAME")
    made.add_argument("--rounds", type=int, default=3, help="rounds; the best counts")
    made.add_argument("--threads", type=int, default=1, help="threads of all products")
    arguments = made.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    rows = [row for name in arguments.only for row in PARTS[name](arguments.rounds)]
    return report(rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
