"""Sizes of weights, from which jobs ask for memory."""

import json

import pytest

from lmri.store.weight_files import loading_mb, weight_bytes


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model-1.safetensors").write_bytes(b"x" * 3_000_000)
    (folder / "model-2.safetensors").write_bytes(b"x" * 1_000_000)
    (folder / "optimizer.bin").write_bytes(b"x" * 9)
    return folder


def test_weights_are_added_up_here_or_behind_the_pointer(model, tmp_path):
    prepared = tmp_path / "subject"
    prepared.mkdir()
    (prepared / "pointer.json").write_text(json.dumps({"path": str(model), "files": {}}))
    assert weight_bytes(model) == weight_bytes(prepared) == 4_000_000


@pytest.mark.parametrize("content", [None, "{", "[]", '{"path": 3}', '{"files": {}}'])
def test_what_is_not_there_or_no_pointer_counts_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "pointer.json").write_text(content)
    assert weight_bytes(tmp_path) == weight_bytes(tmp_path / "none") == 0


def test_another_type_takes_more_memory_than_that_of_the_files(model):
    assert loading_mb(model, "float32") == 14
    assert loading_mb(model, "bfloat16") == loading_mb(model, "auto") == 6
