"""The stage ``record`` is killed at random moments and started again: the bits are the same."""

import pytest

from benchmarks.crashes import PROVENANCE, kill_randomly
from benchmarks.recording.killed import Recorder


@pytest.mark.slow
def test_a_killed_recorder_goes_on_to_the_same_bits(tmp_path):
    writer = Recorder.prepared(tmp_path / "own", PROVENANCE, trials=60)
    outcome = kill_randomly(tmp_path / "killed", kills=3, seed=0, writer=writer)
    assert outcome.kills == 3
    assert (outcome.unreadable, outcome.lost, outcome.different, outcome.left) == (0, 0, 0, 0)
    whole = tmp_path / "killed" / "whole"
    assert sorted(path.name for path in whole.glob("*.manifest.json")) == [
        f"{shard}.zarr.manifest.json" for shard in range(writer.shards)
    ]
