"""The writer: its threads, its bound on memory, and what it refuses."""

import errno
import itertools
import threading

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from lmri.errors import StoreError
from lmri.store import Recording, RecordingWriter, sha256_file
from lmri.store.blocks import BlockArray

SLOTS = ("token", "layer", "slot")
ATTRIBUTES = {"subject": "tiny", "task": "events"}


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("lmri-writer")]


@pytest.fixture
def folder(tmp_path):
    """An empty folder; afterwards no thread may be left."""
    (tmp_path / "a").mkdir()
    yield tmp_path / "a"
    assert own_threads() == []


def append_zeros(made, rows):
    made.append("tokens/router", "expert_id", np.zeros((rows, 2, 3), np.uint8), SLOTS)


def full_disk(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_blocks_are_on_disk_before_the_writer_is_closed(folder, small_chunks):
    chunks, on_disk = folder / "tokens/router/expert_id", []
    with RecordingWriter(folder, ATTRIBUTES) as made:
        for count in (1, 5, 3, 8, 2):
            append_zeros(made, count)
            made._background.submit(0, lambda: on_disk.append(len(list(chunks.iterdir()))))
        made.append_trials(pd.DataFrame({"trial": ["a"]}))
    assert on_disk == [0, 1, 2, 4, 4]  # blocks of 4 rows among 1, 6, 9, 17 and 19
    assert len(list(chunks.glob("c.*"))) == 5  # zeros are written like any other value


def test_closing_tells_shapes_dtypes_and_units(write, tmp_path):
    assert write(tmp_path / "a.zarr", dtype="bfloat16") == {
        "tokens/index/trial": {"shape": [19], "dtype": "int32", "units": None},
        "tokens/router/expert_id": {"shape": [19, 2, 3], "dtype": "uint8", "units": None},
        "tokens/router/weight": {"shape": [19, 2, 3], "dtype": "bfloat16", "units": None},
        "pooled/layer/norm": {"shape": [19, 2], "dtype": "float32", "units": "1"},
        "trials": {"shape": [19]},
    }


def test_every_file_is_hashed_as_it_is_written(folder, small_chunks):
    with RecordingWriter(folder, ATTRIBUTES) as made:
        append_zeros(made, 7)
        made.append_trials(pd.DataFrame({"trial": ["a"]}))
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    assert made.hashes == {
        name: (path.stat().st_size, sha256_file(path)) for name, path in files.items()
    }
    assert "zarr.json" in files


@pytest.mark.parametrize(
    "options", [{"queue_bytes": 1}, {"queue_bytes": 10**9}, {"threads": 4}], ids=str
)
def test_the_bytes_are_the_same_whatever_the_queue_and_the_threads(write, tmp_path, options):
    write(tmp_path / "a.zarr")
    write(tmp_path / "b.zarr", **options)
    first, second = (
        {str(p.relative_to(store)): sha256_file(p) for p in store.rglob("*") if p.is_file()}
        for store in (tmp_path / "a.zarr", tmp_path / "b.zarr")
    )
    assert first == second


@pytest.mark.parametrize("at", ["append", "close"])
def test_a_full_disk_is_raised_in_the_caller_unchanged(folder, small_chunks, monkeypatch, at):
    monkeypatch.setattr(BlockArray, "_write", full_disk)
    made = RecordingWriter(folder, ATTRIBUTES)
    append_zeros(made, 4)  # one block, whose failure is told by the next call
    calls = {"append": itertools.repeat(lambda: append_zeros(made, 8)), "close": [made.close]}
    with pytest.raises(OSError, match="No space left") as caught:
        any(call() for call in calls[at])
    assert caught.value.errno == errno.ENOSPC
    assert own_threads() == []
    with pytest.raises(OSError, match="No space left"):
        made.close()


def test_an_exception_of_the_caller_ends_the_thread_and_writes_no_metadata(folder):
    def fail(made):
        with made:
            append_zeros(made, 8)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail(RecordingWriter(folder, ATTRIBUTES))
    assert list(folder.rglob("zarr.json")) == []
    with pytest.raises(StoreError, match="not a readable recording"):
        Recording(folder)


def test_a_larger_append_than_the_queue_is_taken(folder):
    with RecordingWriter(folder, ATTRIBUTES, queue_bytes=1) as made:
        append_zeros(made, 100)
        append_zeros(made, 100)
        made.append_trials(pd.DataFrame({"trial": ["a"]}))
    assert Recording(folder).array("tokens/router/expert_id").shape == (200, 2, 3)


def test_too_large_values_are_counted_and_named(folder):
    values = np.array([[1.0, 7e4], [-1e30, np.inf], [np.nan, 0.0]], np.float32)
    message = r"'tokens/neuron/activation': 2 of 6 values exceed float16 \(65504\).*quantities'"
    with (
        pytest.raises(StoreError, match=message),
        RecordingWriter(folder, ATTRIBUTES) as made,
    ):
        made.append("tokens/neuron", "activation", values, ("token", "neuron"), dtype="float16")


def test_appended_memory_may_be_used_again(folder):
    values = np.ones((3, 2), np.float32)
    with RecordingWriter(folder, ATTRIBUTES) as made:
        for value in (1.0, 2.0):
            values[:] = value
            made.append("tokens/neuron", "activation", values, ("token", "neuron"))
        made.append_trials(pd.DataFrame({"trial": ["a"]}))
    stored = zarr.open_array(folder / "tokens/neuron/activation", mode="r")[:]
    assert stored[:, 0].tolist() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    "values", [np.zeros((1, 2, 4), np.uint8), np.zeros((1, 2, 1), np.uint8), np.zeros((1, 2, 3))]
)
def test_another_shape_or_type_is_refused(folder, values):
    def go_on(made):
        with made:
            append_zeros(made, 1)
            made.append("tokens/router", "expert_id", values, SLOTS)

    with pytest.raises(ValueError, match="tokens/router/expert_id: appended"):
        go_on(RecordingWriter(folder, ATTRIBUTES))


@pytest.mark.parametrize(
    ("options", "message"), [({"compression": "lzma"}, "'compression'"), ({}, "'dtype'")]
)
def test_unknown_choices_are_refused(folder, options, message):
    def make():
        with RecordingWriter(folder, ATTRIBUTES, **options) as made:
            made.append("a", "b", np.zeros(1), ("token",), dtype="float8")

    with pytest.raises(StoreError, match=message):
        make()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, np.float64])
def test_other_types_are_kept_as_they_are(folder, dtype):
    values = (np.arange(6) % 2).astype(dtype)
    with RecordingWriter(folder, ATTRIBUTES) as made:
        made.append("tokens/index", "x", values, ("token",))
        made.append_trials(pd.DataFrame({"trial": ["a"]}))
    read = Recording(folder).array("tokens/index/x")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read[:], values)


def test_labels_that_groups_share_are_those_of_each(tmp_path):
    labels = {"a": ["x", "y"], "b": ["x", "y"], "c": [3, 5], "d": [3.0, 5.0], "e": ["x", "z"]}
    with RecordingWriter(tmp_path / "a.zarr", {}) as writer:
        for name, own in labels.items():
            values = np.zeros((1, 2), np.float32)
            writer.append(f"tokens/{name}", "v", values, ("token", "axis"), {"axis": own})
        writer.append_trials(pd.DataFrame({"trial": ["t"]}))
    tree = xr.open_datatree(tmp_path / "a.zarr", engine="zarr")
    for name, own in labels.items():
        found = tree[f"tokens/{name}"].dataset["axis"]
        assert found.values.tolist() == own
        assert found.dtype.kind == np.asarray(own).dtype.kind
