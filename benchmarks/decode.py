"""What decoding costs.

- ``probing``: probes of the conditions of every task of the default study, in every layer of an
  embedded subject at every position, tokens among them, with nested folds over carriers and the
  exchanged labels of the default study. One thread, as the rule has: its matrices are so small that
  a second one only waits.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.rows import Parts, Row, at_most, part_parser, printed, report_parts, run

THREADS = 1


def probing(rounds: int) -> Iterator[Row]:
    """Measure probes of an embedded subject.

    Parameters
    ----------
    rounds : int
        Rounds; the best counts.

    Yields
    ------
    Row
        Wall time, CPU time and memory.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    threads = dict.fromkeys(names, str(THREADS))
    with tempfile.TemporaryDirectory() as folder:
        said = [run("decoding.probing", folder, variables=threads) for _ in range(rounds)]
    measured = [json.loads(own.splitlines()[-1]) for own in said]
    best = min(measured, key=lambda own: own["wall"])
    figure = (
        f"probing: {best['cells']} layers x positions of {best['tasks']} tasks, "
        f"{best['draws']} exchanges"
    )
    yield at_most(f"{figure}, one thread", best["wall"], 120, "s")
    yield printed(f"{figure}, CPU time", best["cpu"], "s")
    yield at_most(f"{figure}, peak memory", max(own["peak"] for own in measured), 2000, "MB")


PARTS: Parts = {"probing": probing}


def main() -> int:
    """Measure and report."""
    return report_parts(PARTS, part_parser("decode", "What decoding costs.", PARTS, 1).parse_args())


if __name__ == "__main__":
    sys.exit(main())
