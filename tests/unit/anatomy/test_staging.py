"""Weights on the disk of a node: the same files, copied once, and never somebody else's."""

import json
import os

import pytest

from lmri.anatomy import load_subject, staging
from lmri.anatomy.staging import stage_weights
from lmri.errors import SubjectError


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    (folder / "notes.md").write_text("not part of it")
    return folder, {"model.safetensors": "a" * 64, "config.json": "b" * 64}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    monkeypatch.setenv("LMRI_SCRATCH", "$NODE_DISK/scratch")
    return tmp_path / "scratch"


def test_without_a_scratch_nothing_is_copied(weights, monkeypatch, tmp_path):
    monkeypatch.delenv("LMRI_SCRATCH", raising=False)
    assert stage_weights(*weights) == weights[0]
    assert [path.name for path in tmp_path.iterdir()] == ["shared"]


def test_files_are_copied_once(weights, scratch, monkeypatch):
    copied = stage_weights(*weights)
    assert copied.is_relative_to(scratch)
    assert {path.name for path in copied.iterdir()} == set(weights[1])
    assert (copied / "model.safetensors").read_bytes() == b"weights"
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]
    monkeypatch.setattr(staging.shutil, "copyfile", None)
    assert stage_weights(*weights) == copied


def test_another_commit_is_another_copy(weights, scratch):
    first = stage_weights(*weights)
    second = stage_weights(weights[0], {**weights[1], "config.json": "c" * 64})
    assert first != second
    assert first.parent == second.parent


def test_another_job_that_was_first_is_as_good(weights, scratch, monkeypatch):
    first = stage_weights(*weights)
    kept = first.rename(scratch / "kept")
    copy = staging.shutil.copyfile

    def copy_while_another_finishes(source, target):
        copy(source, target)
        if kept.exists():
            kept.rename(first)

    monkeypatch.setattr(staging.shutil, "copyfile", copy_while_another_finishes)
    assert stage_weights(*weights) == first
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_full_disk_reads_the_shared_files_and_leaves_nothing(weights, scratch, monkeypatch):
    def full(source, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging.shutil, "copyfile", full)
    assert stage_weights(*weights) == weights[0]
    assert not list((scratch / f"lmri-{os.getuid()}").iterdir())


def test_missing_files_are_left_to_the_check_of_the_subject(weights, scratch):
    assert stage_weights(weights[0], {**weights[1], "gone.json": "d" * 64}) == weights[0]
    assert not scratch.exists()


def test_a_folder_that_others_can_write_to_is_refused(weights, scratch):
    stage_weights(*weights).parent.chmod(0o777)
    with pytest.raises(SubjectError, match="only you can write to"):
        stage_weights(*weights)
    own = scratch / f"lmri-{os.getuid()}"
    own.rename(scratch / "mine")
    own.symlink_to(scratch / "mine")
    with pytest.raises(SubjectError, match="only you can write to"):
        stage_weights(*weights)


def test_a_scratch_that_is_a_file_is_one_line(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("LMRI_SCRATCH", str(weights[0] / "notes.md"))
    with pytest.raises(SubjectError, match="LMRI_SCRATCH must name a folder"):
        stage_weights(*weights)


def test_a_subject_is_read_from_the_copy_and_a_changed_copy_is_refused(tmp_path, scratch):
    from families import configuration, random_model
    from small_tokenizers import bytes_tokenizer

    from lmri.config import SubjectOptions, WorldOptions
    from lmri.subjects import prepare_subject

    random_model(configuration("llama")).save_pretrained(tmp_path / "model")
    bytes_tokenizer().save_pretrained(tmp_path / "model")
    prepare_subject(
        out=tmp_path / "own",
        manifest=tmp_path / "own.manifest.json",
        options=SubjectOptions("own", "directory", path=str(tmp_path / "model")),
        base=None,
        world=WorldOptions(),
        training={},
        provenance={},
    )
    assert load_subject(tmp_path / "own", "own").model is not None
    copy = next(scratch.glob("*/*/config.json"))
    config = json.loads(copy.read_text())
    copy.write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    with pytest.raises(SubjectError, match=r"'config\.json' must be as it was"):
        load_subject(tmp_path / "own", "own")
