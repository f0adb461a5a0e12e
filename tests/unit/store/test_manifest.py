"""A manifest finds every lost, altered or additional byte."""

import json

import pytest

from lmri.errors import StoreError
from lmri.store import (
    manifest_text,
    read_manifest,
    sha256_file,
    verify,
    verify_store,
    write_manifest,
)
from lmri.store.manifest import problems


@pytest.fixture
def store(tmp_path):
    """A folder with two files, and its manifest beside it."""
    folder = tmp_path / "0.zarr"
    (folder / "c").mkdir(parents=True)
    (folder / "zarr.json").write_text("{}")
    (folder / "c" / "0").write_bytes(bytes(range(256)))
    write_manifest(folder, tmp_path / "0.zarr.manifest.json", shapes={"x": [3]})
    return folder


def manifest_of(store):
    return store.with_name(store.name + ".manifest.json")


def test_an_untouched_store_passes_and_its_description_is_kept(store):
    content = verify_store(store, manifest_of(store))
    assert content["shapes"] == {"x": [3]}
    assert content["store"] == "0.zarr"
    assert content["files"]["c/0"] == [256, sha256_file(store / "c" / "0")]


def test_known_hash_of_a_file(tmp_path):
    (tmp_path / "a").write_text("abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "a") == known


def test_a_missing_file_is_named(store):
    (store / "c" / "0").unlink()
    with pytest.raises(StoreError, match="'c/0' is missing"):
        verify_store(store, manifest_of(store))


def test_a_truncated_file_is_named_with_its_sizes(store):
    (store / "c" / "0").write_bytes(bytes(range(255)))
    with pytest.raises(StoreError, match=r"'c/0' must have 256 bytes\. Got 255"):
        verify_store(store, manifest_of(store))


@pytest.mark.parametrize("position", [0, 128, 255])
def test_one_flipped_bit_is_found(store, position):
    content = bytearray(range(256))
    content[position] ^= 1
    (store / "c" / "0").write_bytes(content)
    with pytest.raises(StoreError, match="'c/0' was altered"):
        verify_store(store, manifest_of(store))


def test_a_damaged_store_says_how_it_is_written_again(store):
    (store / "c" / "0").write_bytes(b"")
    with pytest.raises(StoreError, match=rf"Delete {store} and run again"):
        verify_store(store, manifest_of(store))


def test_an_additional_file_is_named(store):
    (store / "c" / "1").write_text("")
    with pytest.raises(StoreError, match="'c/1' is not in the manifest"):
        verify_store(store, manifest_of(store))


def test_the_time_stamp_of_snakemake_is_ignored(store):
    (store / ".snakemake_timestamp").write_text("")
    before = read_manifest(manifest_of(store))["sha256"]
    assert verify(store)["sha256"] == before
    again = write_manifest(store, store.with_name("again.json"))
    assert again["sha256"] == before


def test_the_store_itself_may_be_gone(store):
    moved = store.with_name("elsewhere")
    store.rename(moved)
    with pytest.raises(StoreError, match=r"0\.zarr: no such store"):
        verify_store(store, manifest_of(store))


def test_verify_takes_the_store_or_its_manifest(store):
    assert verify(store) == verify(manifest_of(store))
    (store / "zarr.json").write_text("[]")
    for path in (store, manifest_of(store)):
        with pytest.raises(StoreError, match=r"'zarr\.json' was altered"):
            verify(path)


def test_the_sum_depends_on_names_and_bytes_only(store, tmp_path):
    first = read_manifest(manifest_of(store))["sha256"]
    assert write_manifest(store, tmp_path / "b.json", seed=1)["sha256"] == first
    (store / "c" / "0").rename(store / "c" / "1")
    assert write_manifest(store, tmp_path / "c.json")["sha256"] != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a readable manifest"),
        ("[]", "'schema' of a manifest must be 'lmri.manifest/2'"),
        (json.dumps({"schema": "other/1"}), "'schema' of a manifest must be"),
    ],
)
def test_what_is_no_manifest_is_refused(store, text, message):
    manifest_of(store).write_text(text)
    with pytest.raises(StoreError, match=message):
        verify(store)


def test_every_altered_byte_of_a_manifest_is_found(store):
    whole = manifest_of(store).read_bytes()
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 1
        manifest_of(store).write_bytes(content)
        with pytest.raises(StoreError, match="Delete it and run again"):
            verify(store)


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_manifest_is_found(store, length):
    manifest_of(store).write_bytes(manifest_of(store).read_bytes()[:length])
    with pytest.raises(StoreError, match="Delete it and run again"):
        verify(store)


def test_an_edited_manifest_is_found_though_it_is_well_formed(store):
    content = read_manifest(manifest_of(store))
    content["files"]["c/0"][0] = 255
    manifest_of(store).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    with pytest.raises(StoreError, match=r"manifest was altered \(its hash does not match\)"):
        verify(store)
    manifest_of(store).write_text(manifest_text(content))
    with pytest.raises(StoreError, match=r"'c/0' must have 255 bytes\. Got 256"):
        verify(store)


def test_all_that_is_wrong_is_told_at_once(store):
    (store / "c" / "0").unlink()
    (store / "zarr.json").write_text("[]")
    (store / "added").write_text("")
    (store / "dangling").symlink_to("nowhere")
    (store / "c" / ".snakemake_timestamp").write_text("only the one at the top is Snakemake's")
    assert list(problems(store, read_manifest(manifest_of(store)))) == [
        "the file 'c/0' is missing",
        "'zarr.json' was altered (SHA-256 differs)",
        "'added' is not in the manifest",
        "'c/.snakemake_timestamp' is not in the manifest",
        "'dangling' is not in the manifest",
    ]


def test_a_missing_manifest_asks_for_the_job(store):
    manifest_of(store).unlink()
    with pytest.raises(StoreError, match=r"no such manifest\. Was the job"):
        verify(store)


def test_hashes_made_while_writing_are_taken_and_the_other_files_read(store):
    known = {"c/0": (256, "0" * 64)}
    content = write_manifest(store, manifest_of(store), hashes=known)
    assert content["files"] == {
        "c/0": [256, "0" * 64],
        "zarr.json": [2, sha256_file(store / "zarr.json")],
    }
    # What was altered on its way to the disk is found: the hash is of what was to be written.
    with pytest.raises(StoreError, match="'c/0' was altered"):
        verify_store(store, manifest_of(store))


@pytest.mark.parametrize(
    ("name", "bytes_", "message"),
    [("c/0", 257, r"c/0: must have the 257 bytes that were written\. Got 256"), ("c/1", 3, "c/1")],
)
def test_a_file_that_is_not_as_it_was_written_gets_no_manifest(store, name, bytes_, message):
    before = manifest_of(store).read_bytes()
    with pytest.raises(StoreError, match=message):
        write_manifest(store, manifest_of(store), hashes={name: (bytes_, "0" * 64)})
    assert manifest_of(store).read_bytes() == before
