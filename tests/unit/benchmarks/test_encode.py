"""A small version of ``benchmarks.encode``: all sides find the same, and bars judge."""

import json

import numpy as np
import pytest

from benchmarks import encode
from benchmarks.encoding import ridge


@pytest.fixture
def data(tmp_path):
    ridge.write(tmp_path, 1500, 6, 20)
    return tmp_path


@pytest.mark.parametrize("side", ["theirs", "batches"])
def test_both_sides_find_the_same(data, side, monkeypatch):
    monkeypatch.setattr(ridge, "BATCH", 7)
    ours, theirs = ridge.ours(data), ridge.SIDES[side](data)
    # Of few features all small penalties are as good as each other: weights are compared.
    assert ours["weights"] == pytest.approx(theirs["weights"], abs=0.05)
    assert np.linalg.norm(theirs["weights"]) > 1


@pytest.mark.parametrize(
    ("ours", "failed"),
    [((1.0, 100.0), []), ((1.2, 100.0), ["units"]), ((1.0, 600.0), ["peak memory"])],
)
def test_bars_judge_what_was_measured(ours, failed, monkeypatch):
    def run(module, side, folder, *sizes):
        found = {"alpha": np.ones(3), "weights": np.ones((2, 3))}
        if side != "write":
            np.savez(folder / f"{side}.npz", **found)
        cost = ours if side == "ours" else (1.0, 1000.0)
        return json.dumps({"seconds": cost[0], "peak": cost[1]})

    monkeypatch.setattr(encode, "run", run)
    rows = list(encode.measure((5, 2, 3), 1, batched=True))
    missed = [row.figure for row in rows if row.status != "held"]
    assert len(missed) == len(failed)
    assert all(end in figure for end, figure in zip(failed, missed, strict=True))
    assert len(rows) == 6
