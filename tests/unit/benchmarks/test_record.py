"""A small version of ``benchmarks.record``: every mode runs, and bars judge the best round."""

import pytest

from benchmarks import record
from benchmarks.recording import ours
from benchmarks.recording.environment import PeersMissingError
from benchmarks.recording.subjects import save_batches, save_model

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 16, "vocab_size": 256}
SPENT = dict(zip(record.MODES, (10.0, 10.9, 12.6, 14.0, 13.1), strict=True))


@pytest.fixture
def small(tmp_path):
    """A very small model of the benchmark, and two batches."""
    save_model(tmp_path, "olmoe", **SMALL)
    save_batches(tmp_path, 8, 12, 16, 4)
    return tmp_path


def test_every_mode_is_timed_in_every_round(small):
    measured = ours.measure(small, record.MODES, 1)
    assert list(measured["cpu"]) == list(record.MODES)
    assert all(len(rounds) == 1 and rounds[0] > 0 for rounds in measured["cpu"].values())
    sizes = measured["bytes"]
    assert sizes["bare"] == 0 < sizes["pooled"] < sizes["pooled and attention"]
    assert measured["peak"] > 0


def test_bars_judge_the_best_round(tmp_path, monkeypatch):
    said = {"cpu": {mode: [99.0, least] for mode, least in SPENT.items()}}
    monkeypatch.setattr(record, "_ours", lambda *_: said)
    rows = list(record.against_bare(tmp_path, "olmoe", 2))
    assert [(row.ours, row.theirs) for row in rows] == [
        (own, 10.0) for own in [*SPENT.values()][1:]
    ]
    assert [row.status for row in rows] == ["held", "failed", "held", "failed"]


def test_peers_that_cannot_be_installed_are_not_measured(tmp_path, monkeypatch):
    def missing(*_):
        raise PeersMissingError("no network")

    monkeypatch.setattr(record, "_ours", lambda *_: {"cpu": {"full": [1.0]}, "peak": 1.0})
    monkeypatch.setattr(record, "_peer", missing)
    rows = list(record.against_peers(tmp_path, "olmoe", 1))
    assert {row.status for row in rows} == {"not_measured"}
    assert len(rows) == len(record.PEERS)
    assert all("(no network)" in row.bar for row in rows)


@pytest.mark.slow
def test_the_quick_size_is_measured_in_a_process_of_its_own(tmp_path):
    size = record.quick()
    save_model(tmp_path, "olmoe")
    trials, rows = size.trials["olmoe"], size.rows["olmoe"]
    save_batches(tmp_path, trials, record.SHORTEST, record.LONGEST, rows)
    measured = list(record.against_bare(tmp_path, "olmoe", size.rounds))
    assert [row.figure.split(", against")[0] for row in measured] == [
        f"olmoe: {mode}" for mode in record.BARS
    ]
    assert all(row.ours > 0 and row.theirs > 0 for row in measured)
