"""Loading: local safetensors only, and every defect is one line that names its file."""

import json
import shutil
from logging import WARNING, Handler

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import OPTConfig, OPTForCausalLM
from transformers.utils import logging

from lmri.anatomy import (
    check_weights,
    load_subject,
    load_tokenizer,
    model_files,
    resolve_pointer,
)
from lmri.errors import SubjectError
from lmri.store import sha256_file


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    """A copy of the tiny model that a test may damage."""
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


def refused(folder, message):
    with pytest.raises(SubjectError, match=message) as info:
        load_subject(folder, "x")
    assert "\n" not in str(info.value)
    return str(info.value)


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder, **values):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **values}))


def write_pointer(prepared, folder):
    files = {path.name: sha256_file(path) for path in model_files(folder)}
    content = {"path": str(folder), "source": "directory", "files": files}
    (prepared / "pointer.json").write_text(json.dumps(content))


def test_a_subject_is_loaded_for_reading_only(tiny_subject, tiny_model_folder):
    saved = load_file(tiny_model_folder / "model.safetensors")
    parameters = dict(tiny_subject.model.named_parameters())
    assert tiny_subject.name == "tiny"
    assert not tiny_subject.model.training
    assert not any(parameter.requires_grad for parameter in parameters.values())
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    assert torch.equal(parameters["model.embed_tokens.weight"], saved["model.embed_tokens.weight"])
    assert tiny_subject.tokenizer.eos_token_id == 2


def test_weights_in_bfloat16_are_read_as_float32(folder, tiny_subject):
    edit_tensors(
        folder, lambda tensors: tensors.update({k: v.bfloat16() for k, v in tensors.items()})
    )
    edit_config(folder, dtype="bfloat16")
    got = load_subject(folder, "half").model.lm_head.weight
    assert got.dtype == torch.float32
    assert torch.equal(got, tiny_subject.model.lm_head.weight.bfloat16().float())


def test_a_pointer_is_followed(folder, tmp_path):
    (tmp_path / "prepared").mkdir()
    write_pointer(tmp_path / "prepared", folder)
    assert resolve_pointer(tmp_path / "prepared") == folder
    assert resolve_pointer(folder) == folder
    assert load_subject(tmp_path / "prepared", "external").anatomy.experts == 8


def test_a_pointer_to_a_folder_that_is_gone_names_it(tmp_path):
    write_pointer(tmp_path, tmp_path / "gone")
    refused(tmp_path, "/gone: a subject must be a folder .* Not found")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_an_external_model_that_changed_since_is_refused(folder, tmp_path, name):
    (tmp_path / "prepared").mkdir()
    write_pointer(tmp_path / "prepared", folder)
    altered = bytearray((folder / name).read_bytes())
    altered[-1:] = b"\n" if name.endswith(".json") else bytes([altered[-1] ^ 1])
    (folder / name).write_bytes(bytes(altered) + b"\n" * name.endswith(".json"))
    refused(tmp_path / "prepared", f"'{name}' must be as it was when the subject was prepared")


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_broken_pointer_is_named(tmp_path, text):
    (tmp_path / "pointer.json").write_text(text)
    refused(tmp_path, r"pointer\.json: must be JSON with the 'path'")


def test_a_missing_folder_and_a_missing_configuration_are_named(folder, tmp_path):
    refused(tmp_path / "none", "/none: a subject must be a folder")
    (folder / "config.json").unlink()
    refused(folder, r"must have a config\.json\. Not found")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_never_read(folder, name, monkeypatch):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    message = refused(folder, "weights must be in safetensors")
    assert f"Got pickled weights ({name})" in message
    assert "save_pretrained" in message


def test_no_weights_at_all(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, "must be in safetensors. Got no weights")


@pytest.mark.parametrize("kept", [0, 4, 1000, -1])
def test_a_truncated_file_is_named(folder, kept):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    refused(folder, r"model\.safetensors: not a readable safetensors file")


def test_check_weights_lists_all_files(folder):
    shutil.copy(folder / "model.safetensors", folder / "adapter.safetensors")
    assert [p.name for p in check_weights(folder)] == ["adapter.safetensors", "model.safetensors"]


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.gate.weight"])
def test_a_missing_tensor_is_named(folder, name):
    edit_tensors(folder, lambda tensors: tensors.pop(name))
    refused(folder, f"the weights have missing keys: {name} and 0 more")


def test_a_missing_expert_is_named(folder):
    expert = "model.layers.0.mlp.experts.3.down_proj.weight"
    edit_tensors(folder, lambda tensors: tensors.pop(expert))
    refused(folder, r"mismatched keys: .*model\.layers\.0\.mlp\.experts\.down_proj.* and 0 more")


def test_a_tensor_of_another_size_is_named(folder):
    edit_config(folder, vocab_size=99)
    refused(folder, r"the weights have mismatched keys: .*lm_head\.weight.* and 1 more")


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "mystery"}'])
def test_a_configuration_that_cannot_be_used(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, "/model: cannot be loaded")


def test_code_in_the_folder_is_not_run(folder, tmp_path):
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    edit_config(folder, model_type="theirs", auto_map={"AutoConfig": "theirs.Config"})
    refused(folder, "cannot be loaded")
    assert not (tmp_path / "ran").exists()


def test_a_missing_tokenizer_is_not_made_up(folder):
    (folder / "tokenizer.json").unlink()
    refused(folder, "the tokenizer cannot be loaded")
    (folder / "tokenizer_config.json").unlink()
    refused(folder, r"must have the files of its tokenizer \(tokenizer\.json\)")


@pytest.mark.parametrize("text", ["{", '{"version": "1.0"}'])
def test_a_damaged_tokenizer_is_one_line(folder, text):
    (folder / "tokenizer.json").write_text(text)
    refused(folder, "the tokenizer cannot be loaded")


def test_an_unknown_architecture_names_its_class_and_what_to_do(folder):
    configuration = OPTConfig(
        vocab_size=241, hidden_size=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2
    )
    OPTForCausalLM(configuration).save_pretrained(folder)
    message = refused(folder, r"must be one of bert, .*Got 'opt' \(OPTForCausalLM\)")
    assert "Add a row to lmri.anatomy.architectures" in message


@pytest.fixture
def records():
    """What the model library logs; its level is one that loading does not set itself."""
    before, handler, kept = logging.get_verbosity(), Handler(), []
    handler.emit = kept.append
    logging.add_handler(handler)
    logging.set_verbosity_warning()
    logging.enable_progress_bar()
    yield kept
    logging.remove_handler(handler)
    logging.set_verbosity(before)


def test_loading_logs_nothing_and_leaves_the_logging_as_it_was(folder, records, capsys):
    edit_tensors(folder, lambda tensors: tensors.pop("model.norm.weight"))
    refused(folder, "missing keys")
    assert not records
    assert capsys.readouterr() == ("", "")
    assert logging.get_verbosity() == WARNING
    assert logging.is_progress_bar_enabled()


def test_weights_the_configuration_has_no_place_for_are_refused(folder):
    edit_config(folder, num_hidden_layers=1)
    refused(folder, r"the weights have unexpected keys: model\.layers\.1")


@pytest.mark.parametrize("where", ["generation_config.json", "config.json"])
def test_a_tokenizer_without_an_end_token_has_that_of_the_model(folder, where):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("eos_token", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").unlink(missing_ok=True)
    edit_config(folder, eos_token_id=None)
    assert load_tokenizer(folder).eos_token_id is None
    content = json.loads((folder / where).read_text()) if where == "config.json" else {}
    (folder / where).write_text(json.dumps({**content, "eos_token_id": [5, 6]}))
    assert load_tokenizer(folder).eos_token_id == 5
    assert load_subject(folder, "x").tokenizer.eos_token_id == 5
