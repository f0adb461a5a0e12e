"""Models of a hub: a cache built by hand stands for it, so that no network is needed."""

import json
import shutil

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from lmri.anatomy import load_subject
from lmri.config import SubjectOptions, WorldOptions
from lmri.errors import SubjectError
from lmri.store import sha256_file, verify
from lmri.subjects import prepare, prepare_subject

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of a hub that cannot be reached."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


def add(cache, model, files, revision="main", commit=COMMIT):
    """Put files into the cache as the hub's library lays them out."""
    storage = cache / f"models--{model.replace('/', '--')}"
    snapshot = storage / "snapshots" / commit
    (storage / "blobs").mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True)
    for file in files:
        blob = storage / "blobs" / sha256_file(file)
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(blob)
    (storage / "refs").mkdir(exist_ok=True)
    (storage / "refs" / revision).write_text(commit)
    return snapshot


def run(out, **options):
    return prepare_subject(
        out=out / "mine",
        manifest=out / "mine.manifest.json",
        options=SubjectOptions(name="mine", source="hub", **options),
        base=None,
        world=WorldOptions(),
        training={},
        provenance={},
    )


def refused(out, **options):
    with pytest.raises(SubjectError) as caught:
        run(out, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists() or list(out.iterdir()) == []
    return str(caught.value)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_model_is_pointed_to_by_its_commit(cache, tiny_model_folder, tmp_path, revision):
    snapshot = add(cache, "a/b", tiny_model_folder.iterdir())
    manifest = run(tmp_path, id="a/b", revision=revision)
    pointer = json.loads((tmp_path / "mine" / "pointer.json").read_text())
    assert (pointer["id"], pointer["commit"]) == ("a/b", COMMIT)
    assert pointer["path"] == str(snapshot)
    assert pointer["files"]["model.safetensors"] == sha256_file(snapshot / "model.safetensors")
    assert list(manifest["files"]) == ["pointer.json"]
    assert verify(tmp_path / "mine") == manifest
    assert load_subject(tmp_path / "mine", "mine").anatomy.experts == 8


def test_a_branch_that_moved_is_another_subject(cache, tiny_model_folder, tmp_path):
    add(cache, "a/b", tiny_model_folder.iterdir())
    before = run(tmp_path, id="a/b", revision="main")
    add(cache, "a/b", tiny_model_folder.iterdir(), commit=COMMIT[::-1])
    after = run(tmp_path, id="a/b", revision="main")
    assert before["sha256"] != after["sha256"]


@pytest.mark.parametrize(
    ("model", "revision"), [("nobody/none", "main"), ("a/b", "v9"), ("a/b", COMMIT[::-1])]
)
def test_what_is_not_in_the_cache_is_named_with_what_to_do(
    cache, tiny_model_folder, tmp_path, model, revision
):
    add(cache, "a/b", tiny_model_folder.iterdir())
    message = refused(tmp_path / "out", id=model, revision=revision)
    assert message == (
        "The 'id' of subject 'mine' must be a model that can be fetched or is in the local cache. "
        f"Got '{model}', revision '{revision}' (Cannot find an appropriate cached snapshot folder "
        "for the specified revision on the local disk and outgoing traffic has been disabled. To "
        "enable repo look-ups and downloads online, set 'HF_HUB_OFFLINE=0' as environment "
        "variable): fetch it where there is a network, with `snakemake --until fetch` and the "
        "same HF_HOME, or set HF_HOME to a folder that holds it (its models are now read from "
        f"{cache})."
    )


def test_a_model_with_pickles_only_is_refused(cache, tiny_model_folder, tmp_path):
    pickled = tmp_path / "pytorch_model.bin"
    pickled.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    add(cache, "a/b", [tiny_model_folder / "config.json", pickled])
    assert refused(tmp_path / "out", id="a/b") == (
        "The 'id' of subject 'mine' must be a model with weights in safetensors. Got 'a/b', "
        "revision 'main' with pickled weights (pytorch_model.bin): pickled files can run code and "
        "are never fetched or loaded. Use a revision with safetensors, or convert the model with "
        "save_pretrained in a safe place and use source: directory."
    )


def test_a_model_fetched_without_weights_is_refused(cache, tiny_model_folder, tmp_path):
    add(cache, "a/b", [tiny_model_folder / "config.json"])
    assert "Got 'a/b', revision 'main' with no weights" in refused(tmp_path / "out", id="a/b")


@pytest.mark.parametrize("model", ["../secret", "a/../b", "a/..", "a b/c", "too/many/parts"])
def test_an_id_is_never_a_path(cache, tmp_path, model):
    message = refused(tmp_path / "out", id=model)
    assert f"Got '{model}', revision 'main' (" in message


def test_other_layouts_of_the_weights_are_not_fetched(tiny_model_folder, tmp_path, monkeypatch):
    listed = ["model.safetensors", "chat_template.jinja", "original/model.safetensors"]
    listed += ["consolidated.safetensors", "theirs.py", "pytorch_model.bin", "onnx/config.json"]
    fetched = []

    def fetch(model, *, revision, allow_patterns, ignore_patterns):
        fetched.extend(
            huggingface_hub.utils.filter_repo_objects(
                listed, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
            )
        )
        return str(tiny_model_folder)

    monkeypatch.setattr(prepare, "snapshot_download", fetch)
    run(tmp_path, id="a/b")
    assert fetched == ["model.safetensors", "chat_template.jinja"]


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (RevisionNotFoundError, "use one of its branches, tags or commits."),
        (RepositoryNotFoundError, "check the spelling, and for a private model log in with "),
        (GatedRepoError, "accept its licence on its page and log in with `hf auth login`."),
        (huggingface_hub.errors.HfHubHTTPError, "try again later."),
    ],
)
def test_what_the_hub_refuses_comes_with_advice(tmp_path, monkeypatch, kind, advice):
    response = httpx2.Response(404, request=httpx2.Request("GET", "https://hub"))

    def fail(*args, **kwargs):
        raise kind("404.\nlong", response=response)

    monkeypatch.setattr(prepare, "snapshot_download", fail)
    message = refused(tmp_path / "out", id="a/b", revision="v9")
    assert f"Got 'a/b', revision 'v9' (404): {advice}" in message


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (httpx2.ProxyError("no route"), "(no route): fetch it where there is a network"),
        (OSError(28, "No space left on device"), "free some space, or set HF_HOME to a folder"),
    ],
)
def test_a_broken_transfer_comes_with_advice(tmp_path, monkeypatch, error, advice):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(prepare, "snapshot_download", fail)
    assert advice in refused(tmp_path / "out", id="a/b")
