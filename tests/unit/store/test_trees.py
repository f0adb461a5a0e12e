"""All shards of a task are one tree, and only what is used is read."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lmri.errors import StoreError
from lmri.store import RecordingWriter, manifest_path, open_recordings, write_manifest

ROWS = 19
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def folder(tmp_path, write):
    """Three shards with the same values; their numbers differ."""
    for shard in (0, 2, 10):
        write(tmp_path / f"{shard}.zarr", attributes={"shard": shard, "task": "events"})
        (tmp_path / f"{shard}.zarr/.snakemake_timestamp").write_text("")  # no node of zarr
    return tmp_path


def test_shards_are_joined_in_the_order_of_their_numbers(folder, values):
    tree = open_recordings(folder, verify=True)
    for name, written in values.items():
        np.testing.assert_array_equal(tree[name].values, np.concatenate([written] * 3))
    assert tree["trials"].dataset["trial"].values.tolist() == [f"é{i}" for i in range(ROWS)] * 3
    numbers = np.repeat([0, 2, 10], ROWS)
    for node in ("trials", "tokens/router", "tokens/index", "pooled/layer"):
        np.testing.assert_array_equal(tree[node].coords["shard"].values, numbers)
    assert tree["tokens/router"].coords["layer"].values.tolist() == [1, 4]
    assert dict(tree.attrs) == {"subject": "tiny", "task": "events"}
    assert tree["pooled/layer/norm"].attrs == {"units": "1"}


def test_trials_of_tokens_count_on_through_the_shards(folder):
    tree = open_recordings(folder)
    trial = tree["tokens/index/trial"]
    assert trial.dtype == np.int32
    assert trial.values.tolist() == list(range(3 * ROWS))
    assert trial.isel(token=[40, 3]).values.tolist() == [40, 3]
    score = tree["trials"].dataset["score"].values[trial.values]
    np.testing.assert_array_equal(score, tree["trials"].dataset["score"].values)


def test_pools_of_experts_are_joined_and_know_their_trials(tmp_path):
    for shard, counts in enumerate(([2, 1], [3])):
        store = tmp_path / f"{shard}.zarr"
        store.mkdir()
        told = {"subject": "tiny", "task": "events", "shard": shard}
        with RecordingWriter(store, told) as writer:
            trials = [f"{shard}.{row}" for row in range(len(counts))]
            writer.append_trials(pd.DataFrame({"trial": trials, "ended": True}))
            rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
            writer.append("pooled/expert_neuron", "trial", rows, ("pool",))
            sums = np.full((len(rows), 4), shard, dtype=np.float32)
            writer.append("pooled/expert_neuron", "sum", sums, ("pool", "neuron"))
            arrays = writer.close()
        write_manifest(store, manifest_path(store), arrays=arrays, provenance={})
    pools = open_recordings(tmp_path, verify=True)["pooled/expert_neuron"].dataset
    assert pools["trial"].values.tolist() == [0, 0, 1, 2, 2, 2]
    assert pools["sum"].values[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert pools["shard"].values.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "key",
    [
        {"token": 20},
        {"token": -1, "slot": 2},
        {"token": slice(17, 23), "layer": 1},
        {"token": slice(5, 5)},
        {"token": slice(50, 2, -7), "slot": slice(None, None, -1)},
        {"token": slice(None, None, 10)},
        {"token": [56, 0, 19, 18, -2, 19], "slot": [2, 0]},
        {"token": []},
        {"layer": [1, 0], "slot": 1},
        {"token": np.arange(57) % 5 == 0},
        {"token": xr.DataArray([40, 1], dims="x"), "slot": xr.DataArray([0, 2], dims="x")},
    ],
)
def test_any_selection_is_that_of_the_joined_array(folder, values, key):
    joined = np.concatenate([values["tokens/router/weight"]] * 3)
    expected = xr.DataArray(joined, dims=("token", "layer", "slot")).isel(key)
    chosen = open_recordings(folder)["tokens/router"].dataset["weight"].isel(key)
    assert chosen.dims == expected.dims
    np.testing.assert_array_equal(chosen.values, expected.values)


def test_only_the_rows_asked_for_are_read(folder):
    tree = open_recordings(folder)
    for chunk in [*folder.glob("0.zarr/tokens/router/weight/c.*")]:
        chunk.write_bytes(chunk.read_bytes()[:9])  # all of the first shard is ruined
    weight = tree["tokens/router"].dataset["weight"]
    assert weight.isel(token=slice(19, 57)).values.shape == (38, 2, 3)
    assert weight.isel(token=[30, 20]).values.shape == (2, 2, 3)
    with pytest.raises((RuntimeError, ValueError, OSError)):
        weight.isel(token=[3]).values  # noqa: B018


def test_bfloat16_is_float32_and_says_so(tmp_path, write, values):
    write(tmp_path / "0.zarr", dtype="bfloat16")
    weight = open_recordings(tmp_path)["tokens/router/weight"]
    assert weight.dtype == np.float32 and weight.attrs == {}
    np.testing.assert_allclose(weight.values, values["tokens/router/weight"], rtol=2**-8)
    assert weight.isel(token=0, layer=0, slot=0).values.dtype == np.float32


def test_stores_can_be_given_in_any_order(folder):
    tree = open_recordings([folder / "10.zarr", folder / "0.zarr"])
    assert np.unique(tree["trials"].coords["shard"].values[:ROWS]).tolist() == [10]
    assert open_recordings(folder / "2.zarr")["trials"].sizes["trial"] == ROWS


def test_shards_that_do_not_belong_together_are_refused(folder, write):
    write(folder / "11.zarr", dtype="float16", attributes={"shard": 11})
    message = r"11\.zarr: 'tokens/router/weight' must be as in .*0\.zarr, .*float32.*float16"
    with pytest.raises(StoreError, match=message):
        open_recordings(folder)
    write(folder / "other" / "0.zarr", attributes={"task": "relations"})
    with pytest.raises(StoreError, match=r"'task' must be as in .*, events\. Got relations"):
        open_recordings([folder / "0.zarr", folder / "other" / "0.zarr"])


def test_damage_is_found_when_it_is_looked_for(folder):
    (folder / "2.zarr/tokens/router/weight/c.1.0.0").unlink()
    with pytest.raises(StoreError, match=r"2\.zarr: the file '.*c\.1\.0\.0' is missing"):
        open_recordings(folder, verify=True)
    manifest_path(folder / "0.zarr").unlink()
    open_recordings(folder)


def test_what_is_no_recording_is_told(tmp_path):
    with pytest.raises(StoreError, match="no recording in it"):
        open_recordings(tmp_path)
    (tmp_path / "0.zarr").mkdir()
    with pytest.raises(StoreError, match=r"0\.zarr: not a readable recording"):
        open_recordings(tmp_path)


def test_a_path_may_be_text(folder):
    assert open_recordings(str(folder)).identical(open_recordings(folder))
