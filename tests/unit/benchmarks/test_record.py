"""A small version of ``benchmarks.record``: every mode runs, and bars judge the best reading."""

import contextlib
import itertools
import sys

import pytest

from benchmarks import record
from benchmarks.recording import ours, writing
from benchmarks.recording.environment import PeersMissingError
from benchmarks.recording.sides import Side, SideError
from benchmarks.recording.subjects import save_batches, save_model

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 16, "vocab_size": 256}
SPENT = dict(zip(record.MODES, (10.0, 10.9, 12.6, 14.0, 13.1), strict=True))


@pytest.fixture
def small(tmp_path):
    """A very small model of the benchmark, and two batches."""
    save_model(tmp_path, "olmoe", **SMALL)
    save_batches(tmp_path, 8, 12, 16, 4)
    return tmp_path


def ours_spent(seconds, clock=None):
    """What our side says of a full recording."""
    clock = seconds if clock is None else clock
    return {"cpu": {"full": seconds}, "clock": {"full": clock}}


def peer_spent(seconds):
    """What a peer says."""
    return {"cpu": seconds, "clock": seconds}


class Said(contextlib.nullcontext):
    """A side that says what it was told to, again and again."""

    def __init__(self, *said):
        super().__init__(self)
        self.said = itertools.cycle(said)

    def measure(self):
        """Return the next."""
        return next(self.said)


def test_every_mode_is_timed(small):
    measured = ours.Reading(small, record.MODES).measure()
    for time in record.TIMES:
        assert list(measured[time]) == list(record.MODES)
        assert all(seconds > 0 for seconds in measured[time].values())
    assert measured["peak"] > 0


def test_bars_judge_the_best_reading(tmp_path, monkeypatch):
    slow = {"cpu": dict.fromkeys(SPENT, 99.0)}
    monkeypatch.setattr(record, "_ours", lambda *_: Said(slow, {"cpu": SPENT}))
    rows = list(record.against_bare(tmp_path, "olmoe", 1))
    assert [(row.ours, row.theirs) for row in rows] == [
        (own, 10.0) for own in [*SPENT.values()][1:]
    ]
    assert [row.status for row in rows] == ["held", "failed", "held", "failed"]


def test_sides_take_turns_and_throughput_is_judged(tmp_path, monkeypatch):
    turns = []

    class Noted(Said):
        def measure(self):
            said = super().measure()
            turns.append(said)
            return said

    monkeypatch.setattr(record, "_ours", lambda *_: Noted(ours_spent(2.0, clock=1.0)))
    cost = {"transformer_lens": 3.0, "nnsight": 1.0}
    monkeypatch.setattr(record, "_peer", lambda *side: Noted(peer_spent(cost[side[2]])))
    rows = list(record.against_peers(tmp_path, "olmoe", 1))
    on_clock, of_processors = rows[::2], rows[1::2]
    assert [row.ratio for row in on_clock] == [3.0, 3.0, 1.0]
    assert [row.status for row in on_clock] == ["held", "held", "held"]
    assert [row.ratio for row in of_processors] == [1.5, 1.5, 0.5]
    assert {(row.bar, row.unit) for row in of_processors} == {("none: printed", "CPU s")}
    assert len(turns) == record.READINGS * 4
    assert all(turns[i] == turns[i % 4] for i in range(len(turns)))


def test_peers_that_cannot_be_installed_are_not_measured(tmp_path, monkeypatch):
    def missing(*_):
        raise PeersMissingError("no network")

    monkeypatch.setattr(record, "_ours", lambda *_: Said(ours_spent(1.0)))
    monkeypatch.setattr(record, "_peer", missing)
    rows = list(record.against_peers(tmp_path, "olmoe", 1))
    assert {row.status for row in rows} == {"not_measured"}
    assert len(rows) == len(record.PEERS)
    assert all("(no network)" in row.bar for row in rows)


def test_a_peer_that_fails_does_not_keep_the_others_from_being_measured(tmp_path, monkeypatch):
    class Failing(Said):
        def measure(self):
            raise SideError("out of memory")

    def peer(folder, architecture, name, variant):
        return Failing() if variant == "unfiltered" else Said(peer_spent(3.0))

    monkeypatch.setattr(record, "_ours", lambda *_: Said(ours_spent(1.0)))
    monkeypatch.setattr(record, "_peer", peer)
    rows = {
        row.figure.rpartition("against ")[2]: row for row in record.against_peers("", "gpt2", 1)
    }
    assert rows["transformer_lens unfiltered"].status == "not_measured"
    assert "out of memory" in rows["transformer_lens unfiltered"].bar
    assert rows["transformer_lens filtered"].status == rows["nnsight filtered"].status == "held"


def test_a_side_answers_every_line():
    script = """
import sys
for number, _ in enumerate(sys.stdin):
    print("a warning")
    print(f'{{"n": {number}}}', flush=True)
"""
    with Side([sys.executable, "-c", script], {}) as side:
        assert [side.measure() for _ in range(3)] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_side_that_ends_says_why():
    script = "raise MemoryError('too large')"
    with (
        Side([sys.executable, "-c", script], {}) as side,
        pytest.raises(SideError, match="MemoryError: too large"),
    ):
        side.measure()


def test_writing_is_measured_with_one_thread_and_with_several(monkeypatch):
    monkeypatch.setattr(writing, "CHANNELS", 8)
    rows = list(writing.writing(appends=1, rounds=1, threads=3))
    assert [row.figure.split("written ")[1] for row in rows] == [
        f"({name}), 3 threads against one" for name in ("zstd", "none")
    ]
    assert all(row.ours > 0 and row.theirs > 0 for row in rows)


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
