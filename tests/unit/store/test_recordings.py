"""Recordings: what was appended is what is read, and damage is found."""

import numpy as np
import pytest
import xarray as xr

from lmri.errors import StoreError
from lmri.store import Recording, manifest_path, open_recording, read_manifest


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_appends_across_blocks_read_back_equal(tmp_path, write, values, compression):
    write(tmp_path / "a.zarr", compression=compression)
    recording = Recording(tmp_path / "a.zarr")
    for name, written in values.items():
        read = recording.array(name)
        assert (read.dtype, read.shape) == (written.dtype, written.shape)
        np.testing.assert_array_equal(read[:], written)
    assert recording.array("tokens/router/expert_id").chunks == (4, 2, 3)
    assert recording.array("tokens/router/weight").chunks == (2, 1, 3)
    assert recording.array("tokens/router/weight").dims == ("token", "layer", "slot")


def test_streaming_yields_the_rows_in_order(path, values):
    names = list(values)
    parts = list(Recording(path).stream(*names))
    assert [len(part[0]) for part in parts] == [2] * 9 + [1]  # the smallest chunk has two rows
    for index, name in enumerate(names):
        joined = np.concatenate([part[index] for part in parts])
        np.testing.assert_array_equal(joined, values[name])


def test_streaming_reads_every_chunk_once(path, monkeypatch):
    recording = Recording(path)
    read = []
    array = recording.array("tokens/router/expert_id")
    plain = type(array).__getitem__

    def counting(self, key):
        if self.dtype == np.uint8 and (key.stop or 0) > (key.start or 0):
            read.append((key.start, key.stop))
        return plain(self, key)

    monkeypatch.setattr(type(array), "__getitem__", counting)
    list(recording.stream("tokens/router/weight", "tokens/router/expert_id"))
    assert read == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 19)]


def test_bfloat16_is_read_as_float32(tmp_path, write, values):
    write(tmp_path / "a.zarr", dtype="bfloat16")
    read = Recording(tmp_path / "a.zarr").array("tokens/router/weight")
    assert read.dtype == read[:3].dtype == np.float32
    np.testing.assert_allclose(read[:], values["tokens/router/weight"], rtol=2**-8)
    streamed = [part for (part,) in Recording(tmp_path / "a.zarr").stream("tokens/router/weight")]
    np.testing.assert_array_equal(np.concatenate(streamed), read[:])


def test_trials_and_attributes_round_trip(path):
    recording = Recording(path)
    assert recording.attributes == {"subject": "tiny", "task": "events"}
    assert recording.trials["trial"].tolist() == [f"é{i}" for i in range(19)]
    assert recording.trials["ended"].dtype == bool
    assert recording.trials["ended"].tolist() == [True] + [False] * 5 + [True] * 3 + [False] * 10
    assert recording.trials["score"][1:6].tolist() == [0, 1 / 7, 2 / 7, 3 / 7, 4 / 7]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("consolidated", [True, False])
def test_plain_xarray_opens_a_recording(path, values, consolidated):
    with xr.open_datatree(path, engine="zarr", consolidated=consolidated, chunks=None) as tree:
        experts = tree["tokens/router/expert_id"]
        assert experts.dims == ("token", "layer", "slot")
        assert experts["layer"].values.tolist() == [1, 4]
        for name, written in values.items():
            np.testing.assert_array_equal(tree[name].values, written)
        assert tree["trials"].sizes == {"trial": 19}
        assert tree.attrs["subject"] == "tiny"


def test_a_missing_quantity_says_what_to_add(path):
    for name in ("tokens/neuron/activation", "tokens/router", "trials/none"):
        with pytest.raises(StoreError, match=f"no '{name}'.* 'record.quantities'"):
            Recording(path).array(name)


@pytest.mark.parametrize("name", ["logp_next", "entropy_next"])
def test_missing_statistics_of_next_tokens_name_their_option(path, name):
    with pytest.raises(StoreError, match=f"no 'tokens/index/{name}'.* 'record.next_token: false'"):
        Recording(path).array(f"tokens/index/{name}")


@pytest.mark.parametrize("chunk", ["tokens/router/expert_id/c.1.0.0", "trials/score/c/0"])
def test_an_altered_chunk_is_refused_on_opening(path, chunk):
    content = bytearray((path / chunk).read_bytes())
    content[len(content) // 2] ^= 1
    (path / chunk).write_bytes(content)
    with pytest.raises(StoreError, match=f"'{chunk}' was altered"):
        open_recording(path, manifest_path(path))


def test_a_missing_chunk_is_refused_on_opening(path):
    (path / "pooled/layer/norm/c.2.0").unlink()
    with pytest.raises(StoreError, match=r"'pooled/layer/norm/c\.2\.0' is missing"):
        open_recording(path, manifest_path(path))


@pytest.mark.parametrize("compression", ["zstd", "none"])
@pytest.mark.parametrize("name", ["tokens/router/weight", "tokens/router/expert_id"])
def test_no_altered_byte_changes_a_value_even_without_the_manifest(
    tmp_path, write, values, compression, name
):
    write(tmp_path / "a.zarr", compression=compression)
    array = Recording(tmp_path / "a.zarr").array(name)
    chunk = tmp_path / "a.zarr" / name / "c.0.0.0"
    whole, found = chunk.read_bytes(), 0
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 0x10
        chunk.write_bytes(content)
        try:
            np.testing.assert_array_equal(array[:], values[name])
        except (RuntimeError, ValueError):
            found += 1
    frames = whole.count(b"\x28\xb5\x2f\xfd")  # zstd does not use this bit of a frame's header
    assert found == len(whole) - frames


def test_an_untouched_recording_opens(path):
    assert len(open_recording(path, manifest_path(path)).trials) == 19
    assert read_manifest(manifest_path(path))["provenance"] == {"stage": "record"}


@pytest.mark.parametrize("damage", ["trials/zarr.json", "zarr.json", "trials/ended/c/0"])
def test_what_cannot_be_read_is_a_store_error(path, damage):
    (path / damage).write_text("{")
    with pytest.raises(StoreError, match=r"0\.zarr: not a readable recording .* Record again"):
        Recording(path)


def test_a_missing_recording_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match=r"none\.zarr: not a readable recording"):
        Recording(tmp_path / "none.zarr")
