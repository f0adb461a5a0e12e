"""A small version of ``benchmarks.localise``: every part measures what it says, and bars judge."""

import numpy as np
import pytest

from benchmarks import localise
from benchmarks.localisation import glm, permutation, routing


def test_least_squares_in_memory_agrees_with_nilearn():
    measured = glm.compare(200, 30, 2)
    assert measured["difference"]["float64"] < 1e-8
    assert 0 < measured["difference"]["float32"] < 1e-4
    assert {len(seconds) for seconds in measured["seconds"].values()} == {2}


def test_least_squares_streams_what_was_written(tmp_path):
    glm.write(tmp_path, 700, 40)
    measured = glm.stream(tmp_path, 2)
    assert 0 < measured["read"] < measured["seconds"]
    assert measured["peak"] > 0


def test_permutation_agrees_with_nilearn():
    measured = permutation.compare(250, 50, 1)
    assert measured["t"] < 1e-8
    assert measured["p"] < 4.5


def test_units_that_are_made_up_are_all_tested():
    measured = permutation.large(permutation.BLOCK + 40, 5)
    assert measured["limit"] > 0
    assert measured["peak"] > 0


def test_every_chosen_expert_of_a_recording_is_counted(tmp_path):
    routing.write(tmp_path, routing.BLOCK)
    assert routing.count(tmp_path)["peak"] > 0


LIMITS = [
    f"{limit} {dtype}" for limit in ("read", "multiplied") for dtype in ("float64", "float32")
]
CANNED = {
    "compare": {
        "seconds": {"ours": [1.0], "theirs": [60.0], "float64": [20.0], "float32": [3.0]}
        | {key: [1.0] for key in LIMITS},
        "difference": {"float64": 1e-12, "float32": 1e-5},
        "t": 1e-3,
        "p": 1.0,
    },
    "large": {"seconds": 10.0, "limit": 8.0, "peak": 900.0},
    "stream": {"seconds": 2.0, "read": 1.0, "cpu": 2.0, "peak": 900.0},
    "count": {"seconds": 10.0, "read": 1.0, "peak": 800.0},
}


@pytest.mark.parametrize(
    ("part", "failed"),
    [
        ("glm", ["against run_glm"]),
        ("stream", ["peak memory", "peak memory"]),
        ("permutation", ["difference in t"]),
        ("large", []),
        ("resonance", []),
    ],
)
def test_bars_judge_what_was_measured(part, failed, monkeypatch):
    monkeypatch.setattr(localise, "idle", lambda: True)
    monkeypatch.setattr(localise, "_run", lambda *_: "")
    monkeypatch.setattr(localise, "_measured", lambda _, command, *rest: CANNED[command])
    rows = list(localise.PARTS[part](1))
    missed = [row.figure for row in rows if row.status != "held"]
    assert len(missed) == len(failed)
    assert all(end in figure for end, figure in zip(failed, missed, strict=True))
    assert all(np.isfinite(row.ours) for row in rows)


def test_a_bar_that_holds_beside_other_work_says_nothing(monkeypatch):
    monkeypatch.setattr(localise, "idle", lambda: False)
    monkeypatch.setattr(localise, "_measured", lambda _, command, *rest: CANNED[command])
    status = [row.status for row in localise.glm(1) if "against" in row.figure]
    assert status == ["failed", "not_measured"]
