"""What encoding costs: ridge of many units out of a store, against himalaya in memory.

5,000 rows, 500 features, 15,000 units, 10 penalties, 5 grouped folds. Every side runs in a process
of its own, whose CPU time (user and system, all threads) and largest memory count; imports and a
first small call do not. Sides take turns, and the least of the rounds counts.

- ``ridge``: against ``himalaya.ridge.RidgeCV`` on arrays that are in memory already;
- ``batches``: himalaya out of the same store, a batch of units after another: what streaming would
  cost without sums.

``--rows``, ``--features`` and ``--units`` measure something smaller, which says nothing of the bar.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.rows import Row, at_most, cheaper, parser, printed, report, run

SIZES = (5000, 500, 15_000)
SMALL = (60, 5, 8)

SLOWEST = 1.1
"""Times the CPU time of himalaya that is allowed."""

LARGEST = 0.5
"""Share of the memory of himalaya that is allowed."""


def measure(sizes: tuple[int, int, int], rounds: int, batched: bool) -> Iterator[Row]:
    """Measure all sides.

    Parameters
    ----------
    sizes : tuple of int
        Rows, features and units.
    rounds : int
        Rounds; the best counts.
    batched : bool
        Whether himalaya is called in batches too.

    Yields
    ------
    Row
        Time, memory and agreement.
    """
    sides = ["ours", "theirs", *(["batches"] if batched else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "full"
        for place, own in ((folder, sizes), (Path(name) / "small", SMALL)):
            place.mkdir()
            run("encoding.ridge", "write", place, *own)
        costs: dict[str, list[dict]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side in sides:
                costs[side].append(json.loads(run("encoding.ridge", side, folder)))
        found = {side: dict(np.load(folder / f"{side}.npz")) for side in sides}
    seconds = {side: min(own["seconds"] for own in all_) for side, all_ in costs.items()}
    peak = {side: max(own["peak"] for own in all_) for side, all_ in costs.items()}
    figure = "ridge: {} rows, {} features, {} units".format(*sizes)
    yield cheaper(figure, seconds["ours"], seconds["theirs"], 1 / SLOWEST, "CPU s")
    yield cheaper(f"{figure}, peak memory", peak["ours"], peak["theirs"], 1 / LARGEST, "MB")
    yield from _agreement(figure, found["ours"], found["theirs"])
    if batched:
        yield printed(
            f"{figure}, himalaya in batches", seconds["ours"], "CPU s", seconds["batches"]
        )
        yield printed(
            f"{figure}, himalaya in batches, peak memory", peak["ours"], "MB", peak["batches"]
        )


def _agreement(figure: str, ours: dict, theirs: dict) -> Iterator[Row]:
    """Rows that say whether both found the same."""
    # himalaya gives the exponential of a logarithm, in float32.
    same = np.isclose(ours["alpha"], theirs["alpha"], rtol=1e-3)
    yield at_most(f"{figure}: units with another penalty", float((~same).mean()), 0.05, "")
    size = np.linalg.norm(theirs["weights"][:, same])
    gap = np.linalg.norm((ours["weights"] - theirs["weights"])[:, same]) / size
    yield at_most(f"{figure}: difference in weights, of their norm", float(gap), 0.02, "")


def main() -> int:
    """Measure and report."""
    made = parser("encode", "What encoding costs.")
    made.add_argument("--rounds", type=int, default=2, help="rounds; the best counts")
    made.add_argument("--threads", type=int, default=1, help="threads of all products")
    made.add_argument("--batches", action="store_true", help="himalaya in batches too")
    for name, own in zip(("rows", "features", "units"), SIZES, strict=True):
        made.add_argument(f"--{name}", type=int, default=own)
    arguments = made.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    sizes = (arguments.rows, arguments.features, arguments.units)
    return report(list(measure(sizes, arguments.rounds, arguments.batches)), arguments)


if __name__ == "__main__":
    sys.exit(main())
