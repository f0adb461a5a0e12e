"""What writing takes on the clock, with one thread and with several."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.rows import Row, printed
from lmri.store import RecordingWriter

LAYERS, CHANNELS = 16, 2048
"""Of OLMoE-1B-7B."""

TOKENS = 128
DIMS = ("token", "layer", "place", "channel")


def writing(appends: int, rounds: int, threads: int = 2) -> Iterator[Row]:
    """Compare one thread with several, on residual states of every token.

    Parameters
    ----------
    appends : int
        Times that the states of 128 tokens are appended, 25 MB.
    rounds : int
        How many; the best counts.
    threads : int
        How many threads.

    Yields
    ------
    Row
        One for each compression. It has no bar.
    """
    states = _states()
    for compression in ("zstd", "none"):
        spent: dict[int, list[float]] = {1: [], threads: []}
        for _ in range(rounds):
            for count, seconds in spent.items():
                seconds.append(_seconds(states, appends, compression, count))
        size = appends * states.nbytes / 1e6
        figure = f"{size:.0f} MB of residual written ({compression}), {threads} threads against one"
        yield printed(figure, min(spent[threads]), "s", min(spent[1]))


def _states() -> np.ndarray:
    """Return (token, layer, place, channel); what a layer ends with, the next begins with."""
    generator = np.random.default_rng(0)
    states = generator.standard_normal((TOKENS, LAYERS, 3, CHANNELS)).astype(np.float16)
    states[:, 1:, 0] = states[:, :-1, 2]
    return states


def _seconds(states: np.ndarray, appends: int, compression: str, threads: int) -> float:
    with tempfile.TemporaryDirectory(prefix="lmri-bench-") as name:
        start = time.perf_counter()
        with RecordingWriter(Path(name), {}, compression=compression, threads=threads) as writer:
            for _ in range(appends):
                writer.append("tokens/residual", "state", states, DIMS, dtype="float16")
            writer.append_trials(pd.DataFrame({"trial": ["t0"]}))
        return time.perf_counter() - start
