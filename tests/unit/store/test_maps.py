"""Maps round trip; a damaged one is never read."""

import numpy as np
import pytest
import xarray as xr

from lmri.errors import StoreError
from lmri.store import read_map, write_map


@pytest.fixture
def statistics():
    """A map of 2 layers x 40 experts; one statistic has no value anywhere."""
    rng = np.random.default_rng(0)
    units = ("layer", "expert")
    return xr.Dataset(
        {
            "score": (units, rng.normal(size=(2, 40))),
            "rank": (units, rng.permutation(80).reshape(2, 40)),
            "p": (units, np.full((2, 40), np.nan)),
        },
        coords={"layer": [0, 3], "expert": np.arange(40)},
        attrs={"contrast": "refusal", "n_target": 80, "carriers": '{"place": 3}'},
    )


@pytest.fixture
def path(tmp_path, statistics):
    """The map on disk."""
    write_map(tmp_path / "expert.resonance.zarr", statistics)
    return tmp_path / "expert.resonance.zarr"


def test_a_map_reads_back_identical(path, statistics):
    xr.testing.assert_identical(read_map(path), statistics)


def test_a_map_that_was_read_can_be_written_again(path, statistics):
    write_map(path, read_map(path))
    xr.testing.assert_identical(read_map(path), statistics)


def test_text_is_read_as_text_of_one_type(tmp_path):
    words = ["a", "größer", ""]
    texts = np.array(words, dtype=object)
    written = xr.Dataset(
        {"reason": ("row", texts, {"units": "words"})},
        coords={"row": texts, "place": ("row", texts)},
    )
    write_map(tmp_path / "rows.zarr", written)
    found = read_map(tmp_path / "rows.zarr")
    assert {found[name].dtype.kind for name in ("reason", "row", "place")} == {"U"}
    assert set(found.coords) == {"row", "place"}
    assert found["reason"].attrs == {"units": "words"}
    assert found["reason"].values.tolist() == words
    assert found["reason"].sel(row=words).values.tolist() == words
    write_map(tmp_path / "again.zarr", found)
    xr.testing.assert_identical(read_map(tmp_path / "again.zarr"), found)


def test_plain_xarray_opens_a_map(path, statistics):
    with xr.open_datatree(path, engine="zarr", consolidated=False) as tree:
        xr.testing.assert_identical(tree.to_dataset().load(), statistics)


def test_a_map_is_replaced(path, statistics):
    write_map(path, statistics[["score"]] + 1)
    assert set(read_map(path)) == {"score"}
    np.testing.assert_array_equal(read_map(path)["score"], statistics["score"] + 1)


@pytest.mark.parametrize("variable", ["score", "p"])
def test_an_altered_byte_is_found(path, variable):
    chunk = path / variable / "c" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[-6] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(StoreError, match=r"resonance\.zarr: not a readable map"):
        read_map(path)


@pytest.mark.parametrize("variable", ["score", "p"])
def test_a_missing_chunk_never_reads_as_numbers(path, variable):
    (path / variable / "c" / "0" / "0").unlink()
    with pytest.raises(StoreError, match=f"a chunk of '{variable}' is missing"):
        read_map(path)


def test_a_truncated_chunk_and_truncated_metadata_are_found(path, statistics):
    chunk = path / "score" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-20])
    with pytest.raises(StoreError, match="not a readable map"):
        read_map(path)
    write_map(path, statistics)
    (path / "score" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="not a readable map"):
        read_map(path)


def test_a_missing_map_asks_for_the_job(tmp_path):
    with pytest.raises(StoreError, match=r"no such map\. Was the job"):
        read_map(tmp_path / "none.zarr")
