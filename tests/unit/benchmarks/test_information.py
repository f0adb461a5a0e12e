"""A small version of ``benchmarks.information``: every part measures what it says; bars judge."""

import numpy as np
import pytest

from benchmarks import information
from benchmarks.informing import estimators


@pytest.mark.parametrize(("d", "difference"), [(1, 1e-3), (4, 1e-12)])
def test_neighbours_agree_with_the_other_side(d, difference, monkeypatch):
    monkeypatch.setattr(estimators, "SAMPLES", 500)
    measured = estimators.compare_ksg(d, 2)
    assert measured["difference"] < difference
    assert len(measured["seconds"]["ours"]) == 2
    assert len(measured["seconds"]["theirs"]) == (2 if d == 1 else 1)


def test_bounds_are_measured():
    measured = estimators.bound(300, 8)
    assert measured["peak"] > 0
    assert measured["product"] >= 0


def test_nulls_are_measured():
    measured = estimators.permutation(200, 2, 1)
    assert set(measured) == {"gaussian", "copula"}
    assert all(own["null"] > 0 for own in measured.values())


CANNED = {
    "ksg": {"seconds": {"ours": [1.0, 2.0], "theirs": [0.9]}, "difference": 1e-15},
    "kernel": {"seconds": 10.0, "product": 6.0, "peak": 900.0},
    "permutation": {
        "gaussian": {"one": 1.0, "null": 62.0},
        "copula": {"one": 1.0, "null": 5.5},
    },
}


@pytest.mark.parametrize(
    ("part", "failed"),
    [
        ("line", []),
        ("wide", ["against cKDTree"]),
        ("kernel", []),
        ("permutation", ["as a share of 200 estimates"] * 3),
    ],
)
def test_bars_judge_what_was_measured(part, failed, monkeypatch):
    monkeypatch.setattr(information, "_measured", lambda command, *rest: CANNED[command])
    rows = list(information.PARTS[part](1))
    missed = [row.figure for row in rows if row.status != "held"]
    assert len(missed) == len(failed)
    assert all(end in figure for end, figure in zip(failed, missed, strict=True))
    assert all(np.isfinite(row.ours) for row in rows)
