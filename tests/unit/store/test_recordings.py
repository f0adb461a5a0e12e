"""Recordings: what is appended is what is read, and damage is found."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lmri.errors import StoreError
from lmri.store import Recording, RecordingWriter, open_recording, recordings, write_manifest

BATCHES = (1, 5, 3, 8, 2)  # rows of each append, against chunks of 4
SLOTS = ("token", "layer", "slot")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of a few rows, so that a few rows cross them."""
    monkeypatch.setattr(recordings, "TOKENS_PER_CHUNK", 4)
    monkeypatch.setattr(recordings, "TRIALS_PER_CHUNK", 3)


@pytest.fixture
def values():
    """Expert ids of every token, and pooled norms of every trial."""
    rng = np.random.default_rng(0)
    experts = rng.integers(0, 8, (sum(BATCHES), 2, 3)).astype(np.uint8)
    norms = rng.normal(size=(sum(BATCHES), 2)).astype(np.float32)
    return experts, norms


@pytest.fixture
def path(tmp_path, values):
    """A recording written in five appends, with its manifest."""
    path = tmp_path / "0.zarr"
    path.mkdir()
    writer = RecordingWriter(path, {"subject": "tiny", "phases": ["content", "response"]})
    experts, norms = values
    start = 0
    for count in BATCHES:
        rows = slice(start, start + count)
        writer.append("tokens/router", "expert_id", experts[rows], SLOTS, {"layer": [1, 4]})
        writer.append("pooled/layer", "norm", norms[rows], ("trial", "layer"), {"layer": [1, 4]})
        trials = {"trial": [f"é{i}" for i in range(rows.start, rows.stop)], "ended": start % 2 == 0}
        writer.append_trials(pd.DataFrame({**trials, "score": np.arange(count) / 7}))
        start += count
    write_manifest(path, tmp_path / "0.zarr.manifest.json", arrays=writer.close())
    return path


def test_appends_across_chunks_read_back_equal(path, values):
    recording = Recording(path)
    for name, written in zip(("tokens/router/expert_id", "pooled/layer/norm"), values, strict=True):
        read = recording.array(name)
        assert read.dtype == written.dtype
        np.testing.assert_array_equal(read[:], written)
    assert recording.array("tokens/router/expert_id").chunks == (4, 2, 3)


def test_streaming_yields_the_rows_in_order_a_chunk_at_a_time(path, values):
    names = ("tokens/router/expert_id", "pooled/layer/norm")
    parts = list(Recording(path).stream(*names))
    assert [len(experts) for experts, _ in parts] == [4, 4, 4, 4, 3]
    for index, written in enumerate(values):
        np.testing.assert_array_equal(np.concatenate([part[index] for part in parts]), written)


def test_full_chunks_are_on_disk_before_the_writer_is_closed(tmp_path, values):
    (tmp_path / "a").mkdir()
    writer = RecordingWriter(tmp_path / "a", {})
    chunks = tmp_path / "a" / "tokens" / "router" / "expert_id" / "c"
    on_disk, start = [], 0
    for count in BATCHES:
        writer.append("tokens/router", "expert_id", values[0][start : start + count], SLOTS)
        start += count
        on_disk.append(len(list(chunks.iterdir())) if chunks.exists() else 0)
    assert on_disk == [0, 1, 2, 4, 4]  # whole chunks of 4 among 1, 6, 9, 17 and 19 rows


def test_closing_tells_shapes_and_dtypes(path):
    arrays = recordings.verify_store(path, path.with_name("0.zarr.manifest.json"))["arrays"]
    assert arrays == {
        "tokens/router/expert_id": [[19, 2, 3], "uint8"],
        "pooled/layer/norm": [[19, 2], "float32"],
        "trials": [[19], "table"],
    }


def test_trials_and_attributes_round_trip(path):
    recording = Recording(path)
    assert recording.attributes == {"subject": "tiny", "phases": ["content", "response"]}
    assert recording.trials["trial"].tolist() == [f"é{i}" for i in range(19)]
    assert recording.trials["ended"].dtype == bool
    assert recording.trials["ended"].tolist() == [True] + [False] * 5 + [True] * 3 + [False] * 10
    assert recording.trials["score"][1:6].tolist() == [0, 1 / 7, 2 / 7, 3 / 7, 4 / 7]


def test_plain_xarray_opens_a_recording(path, values):
    with xr.open_datatree(path, engine="zarr", consolidated=False) as tree:
        experts = tree["tokens/router/expert_id"]
        assert experts.dims == SLOTS
        assert experts["layer"].values.tolist() == [1, 4]
        np.testing.assert_array_equal(experts.values, values[0])
        np.testing.assert_array_equal(tree["pooled/layer/norm"].values, values[1])
        assert tree["trials"].sizes == {"trial": 19}
        assert tree.attrs["subject"] == "tiny"


def test_a_missing_quantity_says_what_to_add(path):
    for name in ("tokens/neuron/activation", "tokens/router", "trials/none"):
        with pytest.raises(StoreError, match=f"no '{name}'.* 'record.quantities'"):
            Recording(path).array(name)


@pytest.mark.parametrize("chunk", ["tokens/router/expert_id/c/1/0/0", "trials/score/c/0"])
def test_an_altered_chunk_is_refused_on_opening(path, chunk):
    content = bytearray((path / chunk).read_bytes())
    content[len(content) // 2] ^= 1
    (path / chunk).write_bytes(content)
    with pytest.raises(StoreError, match=f"'{chunk}' was altered"):
        open_recording(path, path.with_name("0.zarr.manifest.json"))


def test_a_missing_chunk_is_refused_on_opening(path):
    (path / "pooled/layer/norm/c/2/0").unlink()
    with pytest.raises(StoreError, match="'pooled/layer/norm/c/2/0' is missing"):
        open_recording(path, path.with_name("0.zarr.manifest.json"))


def test_an_altered_chunk_is_found_even_without_the_manifest(path):
    chunk = path / "pooled/layer/norm/c/0/0"
    content = bytearray(chunk.read_bytes())
    content[-6] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(RuntimeError, match="checksum"):
        Recording(path).array("pooled/layer/norm")[:]


def test_zeros_are_written_like_any_other_value(tmp_path):
    (tmp_path / "a").mkdir()
    writer = RecordingWriter(tmp_path / "a", {})
    writer.append("tokens/router", "expert_id", np.zeros((8, 2, 3), np.uint8), SLOTS)
    assert len(list((tmp_path / "a/tokens/router/expert_id/c").iterdir())) == 2


def test_an_untouched_recording_opens(path):
    assert len(open_recording(path, path.with_name("0.zarr.manifest.json")).trials) == 19


@pytest.mark.parametrize("damage", ["trials/zarr.json", "zarr.json", "trials/ended/c/0"])
def test_what_cannot_be_read_is_a_store_error(path, damage):
    (path / damage).write_text("{")
    with pytest.raises(StoreError, match=r"0\.zarr: not a readable recording .* Record again"):
        Recording(path)


def test_a_missing_recording_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match=r"none\.zarr: not a readable recording"):
        Recording(tmp_path / "none.zarr")
