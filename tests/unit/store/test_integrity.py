"""Whole studies are checked at once, and only finished stores are kept."""

import json
import shutil

import pytest

from lmri.errors import StoreError
from lmri.store import check_store, check_stores, finished_store, manifest_path, write_manifest


@pytest.fixture
def study(tmp_path, write):
    """Two shards of a recording, a subject, a map, and what a killed job left."""
    for shard in range(2):
        write(tmp_path / f"recordings/tiny/events/{shard}.zarr", attributes={"shard": shard})
    (tmp_path / "subjects/tiny").mkdir(parents=True)
    (tmp_path / "subjects/tiny/config.json").write_text("{}")
    write_manifest(tmp_path / "subjects/tiny", tmp_path / "subjects/tiny.manifest.json")
    (tmp_path / "maps/tiny/expert.zarr").mkdir(parents=True)
    shutil.copytree(
        tmp_path / "recordings/tiny/events/1.zarr",
        tmp_path / "recordings/tiny/events/.2.zarr.1-2-3-4@host.01234567.partial",
    )
    return tmp_path


@pytest.fixture
def shard(study):
    """The first shard."""
    return study / "recordings/tiny/events/0.zarr"


def damage(study):
    return {one.store.name: one.problems for one in check_stores([study]) if one.problems}


def test_a_study_as_written_has_no_problem(study):
    checked = list(check_stores([study]))
    assert [one.store.name for one in checked] == ["0.zarr", "1.zarr", "tiny"]
    assert all(not one.problems for one in checked)
    assert str(checked[2]).endswith(f"tiny: 1 files, 2 bytes as written, {checked[2].sha256[:12]}")


@pytest.mark.parametrize("given", ["store", "manifest", "folder", "all"])
def test_a_store_a_manifest_or_a_folder_can_be_given(shard, given):
    paths = {"store": shard, "manifest": manifest_path(shard), "folder": shard.parent}
    chosen = paths.values() if given == "all" else [paths[given]]
    checked = list(check_stores(chosen))  # each store once
    assert [one.store.name for one in checked][:1] == ["0.zarr"]
    assert len(checked) == (2 if given in {"folder", "all"} else 1)


def test_every_damaged_file_is_named(study, shard):
    (shard / "tokens/router/weight/c.0.0.0").unlink()
    (shard / "zarr.json").write_text("{}")
    (shard / "added").write_text("")
    (study / "subjects/tiny/config.json").write_text("[]")
    manifest = manifest_path(shard.with_name("1.zarr"))
    manifest.write_text(manifest.read_text().replace("19", "18", 1))
    found = damage(study)
    assert len(found["0.zarr"]) == 3
    assert "the file 'tokens/router/weight/c.0.0.0' is missing" in found["0.zarr"]
    assert "'added' is not in the manifest" in found["0.zarr"]
    assert found["tiny"] == ("'config.json' was altered (SHA-256 differs)",)
    assert found["1.zarr"] == (
        "'1.zarr.manifest.json': the manifest was altered (its hash does not match)",
    )
    assert str(check_store(shard)).startswith(f"{shard}: DAMAGED: ")


def test_a_store_or_a_manifest_alone_is_damage(study, shard):
    manifest_path(shard).unlink()
    shutil.rmtree(shard.with_name("1.zarr"))
    assert damage(study) == {
        "0.zarr": ("its manifest '0.zarr.manifest.json' is missing",),
        "1.zarr": ("no such store, though its manifest is there",),
    }
    assert check_store(shard).problems == damage(study)["0.zarr"]


def test_a_path_without_anything_to_check_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(StoreError, match="neither a store nor a manifest"):
            list(check_stores([path]))


def test_a_finished_store_is_one_that_would_be_written_again(shard):
    manifest = manifest_path(shard)
    assert finished_store(shard, manifest, {"stage": "record"})
    assert not finished_store(shard, manifest, {"stage": "record", "seed": 1})
    assert not finished_store(shard.with_name("7.zarr"), manifest, {"stage": "record"})
    (shard / "zarr.json").write_text("{}")
    assert not finished_store(shard, manifest, {"stage": "record"})


def test_an_unfinished_store_is_none(shard):
    manifest_path(shard).unlink()
    assert not finished_store(shard, manifest_path(shard), {"stage": "record"})


def test_provenance_is_compared_as_json_keeps_it(tmp_path):
    (tmp_path / "a").mkdir()
    provenance = {"stage": "record", "layers": (1, 2), "subject": None}
    write_manifest(tmp_path / "a", manifest_path(tmp_path / "a"), provenance=provenance)
    assert finished_store(tmp_path / "a", manifest_path(tmp_path / "a"), provenance)
    content = json.loads(manifest_path(tmp_path / "a").read_text())
    assert content["provenance"]["layers"] == [1, 2]
