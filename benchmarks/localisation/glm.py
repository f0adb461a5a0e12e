"""Least squares against nilearn, in memory and from a store: run in processes of its own.

``compare ROWS UNITS ROUNDS`` times both on the same data in memory, in turn; ``write FOLDER ROWS
UNITS`` makes a recording of random neurons; ``stream FOLDER TIMES`` fits it, its rows so many times
over. The last line that each prints is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.memory import peak_memory
from lmri.localise.least_squares import ORDER, least_squares, least_squares_stream
from lmri.store import Recording, RecordingWriter

COLUMNS = tuple(f"x{i}" for i in range(19)) + ("constant",)
CONTRAST = {"x0": 1.0, "x1": -1.0}
LAYERS = 20
LIMIT_ROWS = 50
"""Rows that stay in the cache."""
NEURONS = "tokens/neuron/activation"


def design(rows: int) -> np.ndarray:
    """Make a design matrix of 19 random columns and an intercept."""
    rng = np.random.default_rng(1)
    return np.column_stack([rng.normal(size=(rows, len(COLUMNS) - 1)), np.ones(rows)])


def compare(rows: int, units: int, rounds: int) -> dict[str, object]:
    """Time ours, in both precisions, and nilearn's in turn, in CPU seconds.

    Parameters
    ----------
    rows, units : int
        Size of the data.
    rounds : int
        Rounds.

    Returns
    -------
    dict
        Seconds of every round by side, and the largest difference in t by precision. Sides
        ``read`` and ``multiplied`` are limits: one sum over the units, and ``X'Y`` of a part that
        stays in the cache, as often as there are such parts.
    """
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import run_glm

    X = design(rows)
    single = np.random.default_rng(0).standard_normal((rows, units), dtype=np.float32) + 1
    double = single.astype(np.float64)
    weights = np.array([CONTRAST.get(name, 0.0) for name in COLUMNS])
    runs = {
        "theirs": lambda: compute_contrast(*run_glm(double, X, noise_model="ols"), weights).stat(),
        "float64": lambda: least_squares(X, double, COLUMNS).contrast(CONTRAST).statistic,
        "float32": lambda: (
            least_squares(X, single, COLUMNS, dtype=np.float32).contrast(CONTRAST).statistic
        ),
        "read float64": torch.from_numpy(double).sum,
        "read float32": torch.from_numpy(single).sum,
        "multiplied float64": lambda: _multiply(X, double),
        "multiplied float32": lambda: _multiply(X, single),
    }
    seconds: dict[str, list[float]] = {side: [] for side in runs}
    t = {}
    for _ in range(rounds):
        for side, run in runs.items():
            start = time.process_time()
            t[side] = run()
            seconds[side].append(time.process_time() - start)
    difference = {
        side: float(np.abs(t[side] - t["theirs"]).max()) for side in ("float64", "float32")
    }
    return {"seconds": seconds, "difference": difference}


def _multiply(X: np.ndarray, Y: np.ndarray) -> None:
    part, few = Y[:LIMIT_ROWS].copy(), X[:LIMIT_ROWS].astype(Y.dtype)
    product = np.empty((X.shape[1], Y.shape[1]), dtype=Y.dtype, order=ORDER[Y.dtype])
    for _ in range(len(Y) // len(part)):
        np.matmul(few.T, part, out=product)


def write(folder: Path, rows: int, units: int) -> None:
    """Write a recording of random neurons in float32.

    Parameters
    ----------
    folder : Path
        Where ``0.zarr`` is made.
    rows, units : int
        Tokens, and neurons of all layers.
    """
    rng = np.random.default_rng(0)
    with RecordingWriter(folder / "0.zarr", {}, compression="none") as writer:
        for start in range(0, rows, 500):
            shape = (min(500, rows - start), LAYERS, units // LAYERS)
            values = rng.standard_normal(shape, dtype=np.float32) + 1
            writer.append("tokens/neuron", "activation", values, ("token", "layer", "neuron"))
        writer.append_trials(pd.DataFrame({"trial": ["t0"]}))


def stream(folder: Path, times: int) -> dict[str, float]:
    """Fit the neurons of a recording.

    Parameters
    ----------
    folder : Path
        With the recording.
    times : int
        How often its rows are read, as if there were so many more.

    Returns
    -------
    dict of str to float
        ``seconds`` in all, ``read`` of them for reading, ``cpu`` seconds, ``peak`` in MB.
    """
    recording = Recording(folder / "0.zarr")
    X = design(recording.array(NEURONS).shape[0])
    reading = 0.0

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal reading
        for _ in range(times):
            source, row = recording.stream(NEURONS), 0
            while True:
                start = time.perf_counter()
                (values,) = next(source, (None,))
                reading += time.perf_counter() - start
                if values is None:
                    break
                yield X[row : row + len(values)], values.reshape(len(values), -1)
                row += len(values)

    start, spent = time.perf_counter(), time.process_time()
    t = least_squares_stream(blocks(), COLUMNS).contrast(CONTRAST).statistic
    seconds, spent = time.perf_counter() - start, time.process_time() - spent
    if not np.isfinite(t).all():
        raise RuntimeError("a unit has no statistic")
    return {"seconds": seconds, "read": reading, "cpu": spent, "peak": peak_memory()}


def main() -> None:
    """Read the arguments, see the module."""
    command, *arguments = sys.argv[1:]
    if command == "compare":
        print(json.dumps(compare(*map(int, arguments))))
    elif command == "write":
        write(Path(arguments[0]), int(arguments[1]), int(arguments[2]))
    else:
        print(json.dumps(stream(Path(arguments[0]), int(arguments[1]))))


if __name__ == "__main__":
    main()
