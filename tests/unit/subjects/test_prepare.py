"""One folder and one manifest per subject, whatever it comes from."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from lmri.anatomy import load_subject
from lmri.config import SubjectOptions, WorldOptions
from lmri.errors import StoreError, SubjectError
from lmri.store import sha256_file, verify
from lmri.subjects import prepare, prepare_subject

TRAINING = {
    "layers": 1,
    "hidden": 16,
    "heads": 2,
    "experts": 4,
    "intermediate": 8,
    "rows": 2,
    "length": 40,
    "base_steps": 2,
    "state_steps": 2,
    "base_checkpoints": [],
    "warmup": 1,
    "evaluation_limit": 2,
}


def run(out, base=None, **options):
    return prepare_subject(
        out=out / "mine",
        manifest=out / "mine.manifest.json",
        options=SubjectOptions(name="mine", **options),
        base=base,
        world=WorldOptions(size="small"),
        training=TRAINING,
        provenance={"stage": "subject"},
    )


def refused(out, message, **options):
    with pytest.raises(SubjectError, match=message) as info:
        run(out, **options)
    assert "\n" not in str(info.value)
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.parametrize("state", ["localised", "distributed"])
def test_a_packaged_state_is_unpacked_and_its_manifest_verifies(tmp_path, state):
    manifest = run(tmp_path, source="embedded", state=state)
    assert verify(tmp_path / "mine") == manifest
    assert manifest["source"] == {"name": "mine", "source": "embedded", "state": state}
    assert manifest["provenance"] == {"stage": "subject"}
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    assert manifest["files"]["model.safetensors"][1] == card["sha256"]
    assert load_subject(tmp_path / "mine", "mine").anatomy.experts > 8


def test_a_folder_is_pointed_to_not_copied(tiny_model_folder, tmp_path):
    manifest = run(tmp_path, source="directory", path=str(tiny_model_folder))
    assert list(manifest["files"]) == ["pointer.json"]
    assert verify(tmp_path / "mine.manifest.json") == manifest
    pointer = json.loads((tmp_path / "mine" / "pointer.json").read_text())
    assert pointer["path"] == str(tiny_model_folder)
    files = ("config.json", "model.safetensors", "tokenizer.json")
    assert {name: sha256_file(tiny_model_folder / name) for name in files}.items() <= (
        pointer["files"].items()
    )
    assert load_subject(tmp_path / "mine", "mine").anatomy.experts == 8


def test_a_pointer_does_not_depend_on_where_it_is_read(tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_model_folder.parent)
    run(tmp_path, source="directory", path=tiny_model_folder.name)
    monkeypatch.chdir(tmp_path)
    assert load_subject(tmp_path / "mine", "mine").anatomy.experts == 8


def test_a_subject_that_changed_has_another_hash(tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    first = run(tmp_path, source="directory", path=str(folder))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    again = run(tmp_path, source="directory", path=str(folder))
    assert again["sha256"] != first["sha256"]
    assert verify(tmp_path / "mine") == again


def test_an_altered_subject_does_not_verify(tmp_path):
    run(tmp_path, source="embedded", state="localised")
    with (tmp_path / "mine" / "config.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(StoreError, match=r"'config\.json' must have"):
        verify(tmp_path / "mine")


def test_a_missing_folder_is_named(tmp_path):
    message = "/none: a subject must be a folder in Hugging Face layout"
    refused(tmp_path / "out", message, source="directory", path=str(tmp_path / "none"))


def test_pickled_weights_are_named(tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = r"Got pickled weights \(pytorch_model\.bin\)"
    refused(tmp_path / "out", message, source="directory", path=str(folder))


def test_a_truncated_file_is_named(tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-5])
    message = r"/model/model\.safetensors: not a readable safetensors file"
    refused(tmp_path / "out", message, source="directory", path=str(folder))


def test_an_unknown_state_is_named(tmp_path):
    message = "must be one of 'distributed', 'localised'. Got 'smeared'"
    refused(tmp_path / "out", message, source="embedded", state="smeared")


@pytest.mark.parametrize("model", ["nobody/none", "a b/c", "too/many/parts"])
def test_an_id_that_cannot_be_fetched_is_one_line(tmp_path, monkeypatch, model):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = f"'id' of subject 'mine' must be a model .* Got '{model}', revision 'main'"
    refused(tmp_path / "out", message, source="hub", id=model, revision="main")


@pytest.mark.parametrize(
    "error", [LocalEntryNotFoundError("no\nnetwork"), ConnectionError("refused"), OSError("disk")]
)
def test_a_failed_download_is_one_line(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(prepare, "snapshot_download", fail)
    message = rf"Got 'a/b', revision 'main' \({str(error).splitlines()[0]}\)"
    refused(tmp_path / "out", message, source="hub", id="a/b", revision="main")


def test_a_model_of_a_hub_is_fetched_without_code_and_pointed_to(
    tiny_model_folder, tmp_path, monkeypatch
):
    calls = []

    def fetch(model, *, revision, allow_patterns, ignore_patterns):
        calls.append((model, revision))
        names = [path.name for path in tiny_model_folder.iterdir()] + ["theirs.py", "model.bin"]
        assert not any(Path(name).match(p) for name in names[-2:] for p in allow_patterns)
        assert all(any(Path(name).match(p) for p in allow_patterns) for name in names[:-2])
        return str(tiny_model_folder)

    monkeypatch.setattr(prepare, "snapshot_download", fetch)
    run(tmp_path, source="hub", id="a/b", revision="0123abc")
    pointer = json.loads((tmp_path / "mine" / "pointer.json").read_text())
    assert calls == [("a/b", "0123abc")]
    assert (pointer["id"], pointer["revision"]) == ("a/b", "0123abc")
    assert pointer["path"] == str(tiny_model_folder)
    verify(tmp_path / "mine")


def test_checkpoints_of_a_base_are_subjects(tmp_path, monkeypatch):
    monkeypatch.setitem(TRAINING, "base_checkpoints", [0, 1])
    run(tmp_path / "0", source="base", base_seed=3, step=0)
    base = tmp_path / "0" / ".mine.base"
    for step, kept in ((1, "checkpoints/step_00001"), (2, "."), (None, ".")):
        manifest = run(tmp_path / str(step), base=base, source="base", base_seed=3, step=step)
        assert verify(tmp_path / str(step) / "mine") == manifest
        weights = sha256_file(base / kept / "model.safetensors")
        assert manifest["files"]["model.safetensors"][1] == weights
        assert not any("checkpoints" in name for name in manifest["files"])
        assert load_subject(tmp_path / str(step) / "mine", "mine").anatomy.experts == 4
    message = r"The 'step' of subject 'mine' .* base 3 kept, one of 0, 1, 2\. Got 7: add it"
    refused(tmp_path / "7", message, base=base, source="base", base_seed=3, step=7)


def test_a_subject_is_trained_from_its_base(tmp_path):
    manifest = run(tmp_path, source="trained", base_seed=3, state="localised")
    assert verify(tmp_path / "mine") == manifest
    card = json.loads((tmp_path / "mine" / "card.json").read_text())
    assert (card["base_seed"], card["seed"], card["state"]) == (3, 3, "localised")
    assert card["world_size"] == "small"
    again = run(
        tmp_path / "again",
        base=tmp_path / ".mine.base",
        source="trained",
        base_seed=3,
        state="localised",
    )
    digest = again["files"]["model.safetensors"]
    assert digest == manifest["files"]["model.safetensors"]
