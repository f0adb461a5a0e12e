"""Files written directly hold what zarr itself would write and read."""

import numpy as np
import pytest
import zarr

from lmri.store.blocks import CODECS, BlockArray
from lmri.store.layout import Layout
from lmri.store.manifest import sha256_file

DIMS = ("trial", "phase", "layer", "x")
SHAPE = (7, 2, 3, 4)


def written(tmp_path, values, layout, compression):
    array = BlockArray(tmp_path, "a", DIMS, values.dtype, layout, {"units": "1"}, compression)
    for part in np.split(values, [1, 5]):
        array.append(part)
    array.finish(zarr.create_group(tmp_path, zarr_format=3))
    return zarr.open_array(tmp_path / "a", mode="r")


@pytest.fixture
def values():
    """Numbers that are all different."""
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("rows", [1, 2, 4, 7, 8])
@pytest.mark.parametrize("chunk", [(2, 3, 4), (2, 1, 4), (1, 1, 4), (1, 3, 4)])
def test_zarr_reads_what_was_appended(tmp_path, values, rows, chunk, compression):
    array = written(tmp_path, values, Layout(rows, SHAPE[1:], chunk), compression)
    np.testing.assert_array_equal(array[:], values)
    np.testing.assert_array_equal(array[3, :, 1], values[3, :, 1])
    assert array.attrs["units"] == "1"
    assert array.metadata.dimension_names == DIMS


@pytest.mark.parametrize("compression", CODECS)
def test_chunks_are_the_bytes_that_zarr_writes(tmp_path, values, compression):
    layout = Layout(4, SHAPE[1:], SHAPE[1:])
    array = written(tmp_path / "ours", values, layout, compression)
    again = zarr.create_array(
        tmp_path / "theirs",
        shape=SHAPE,
        chunks=array.chunks,
        dtype=values.dtype,
        compressors=CODECS[compression],
        fill_value=np.nan,
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    again[:] = values
    for name in ("c.0.0.0.0", "c.1.0.0.0"):
        ours = (tmp_path / "ours/a" / name).read_bytes()
        assert ours == (tmp_path / "theirs" / name).read_bytes()


def test_an_array_smaller_than_a_block_has_a_chunk_of_its_size(tmp_path, values):
    array = written(tmp_path, values, Layout(1024, SHAPE[1:], (2, 1, 4)), "none")
    assert array.chunks == (7, 2, 1, 4)
    size = (tmp_path / "a/c.0.0.0.0").stat().st_size
    assert size == values.nbytes + 3 * 4 + 3 * 16 + 4  # checksums, and the index with its own


def test_one_layer_is_read_without_the_others(tmp_path, values):
    array = written(tmp_path, values, Layout(8, SHAPE[1:], (2, 1, 4)), "none")
    file = tmp_path / "a/c.0.0.0.0"
    content = bytearray(file.read_bytes())
    third = array.nbytes // 3 + 4
    content[:third] = bytes(third)  # layer 0 is ruined
    content[2 * third : 3 * third] = bytes(third)  # and layer 2
    file.write_bytes(content)
    np.testing.assert_array_equal(array[:, :, 1], values[:, :, 1])
    with pytest.raises(ValueError, match="checksum"):
        array[:, :, 0]


def test_an_array_without_rows_or_extent(tmp_path):
    empty = np.zeros((0, *SHAPE[1:]), np.float32)
    assert written(tmp_path / "a", empty, Layout(4, SHAPE[1:], (2, 1, 4)), "zstd").shape[0] == 0
    flat = np.zeros((3, 2, 3, 0), np.float32)
    array = written(tmp_path / "b", flat, Layout(4, (2, 3, 0), (2, 3, 0)), "zstd")
    assert array[:].shape == (3, 2, 3, 0)


@pytest.mark.parametrize(
    ("dtype", "attributes", "missing"),
    [("float16", {}, np.nan), ("uint16", {"dtype": "bfloat16"}, 0x7FC0), ("uint8", {}, 0)],
)
def test_a_missing_block_is_no_number_where_the_type_has_that(tmp_path, dtype, attributes, missing):
    layout = Layout(2, (3,), (3,))
    made = BlockArray(tmp_path, "a", ("token", "x"), np.dtype(dtype), layout, attributes, "zstd")
    made.append(np.ones((4, 3), dtype))
    made.finish(zarr.create_group(tmp_path, zarr_format=3))
    (tmp_path / "a/c.1.0").unlink()
    read = zarr.open_array(tmp_path / "a", mode="r")[:]
    np.testing.assert_array_equal(read, np.repeat([1, missing], 2)[:, None] * np.ones(3))


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("rows", [4, 8])
def test_a_chunk_that_repeats_another_is_stored_once(tmp_path, values, rows, compression):
    """Also where it holds NaN; one bit of difference is kept."""
    values[2, 0, 0, 1] = np.nan
    repeated, altered = values.copy(), values.copy()
    repeated[:, :, 2] = repeated[:, :, 0]
    altered[:, :, 2] = altered[:, :, 0]
    altered[3, 1, 2, 1] = np.nextafter(altered[3, 1, 0, 1], 2, dtype=np.float32)
    layout, sizes = Layout(rows, SHAPE[1:], (2, 1, 4)), []
    for own in (values, repeated, altered):
        folder = tmp_path / str(len(sizes))
        array = written(folder, own, layout, compression)
        np.testing.assert_array_equal(array[:].view(np.uint32), own.view(np.uint32))
        np.testing.assert_array_equal(array[1:6, :, 2], own[1:6, :, 2])
        with zarr.config.set({"codec_pipeline.batch_size": 1}):
            np.testing.assert_array_equal(array[5], own[5])
        sizes.append(sum(path.stat().st_size for path in folder.glob("a/c.*")))
    if compression == "none":
        blocks, chunk = -(-len(values) // rows), min(rows, len(values)) * 2 * 4 * 4 + 4
        index = blocks * (3 * 16 + 4)
        # The block of the altered row has all three of its chunks.
        assert sizes == [
            blocks * 3 * chunk + index,
            blocks * 2 * chunk + index,
            blocks * 2 * chunk + chunk + index,
        ]


@pytest.mark.parametrize("compression", CODECS)
def test_hashes_are_those_of_the_files(tmp_path, values, compression):
    layout = Layout(2, SHAPE[1:], (2, 1, 4))
    array = BlockArray(tmp_path, "a", DIMS, values.dtype, layout, {}, compression)
    array.append(values)
    array.finish(zarr.create_group(tmp_path, zarr_format=3))
    files = {f"a/{path.name}": path for path in (tmp_path / "a").glob("c.*")}
    assert array.hashes == {
        name: (path.stat().st_size, sha256_file(path)) for name, path in files.items()
    }
    assert len(files) == 4
