"""A folder is refused from names, headers and JSON alone, in one line that names the file."""

import json
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from lmri.anatomy import check_weights, model_files
from lmri.errors import SubjectError

CONFIGURATION = LlamaConfig(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
)


@pytest.fixture
def folder(tmp_path):
    """A random model."""
    LlamaForCausalLM(CONFIGURATION).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@pytest.fixture
def sharded(tmp_path):
    """A model in parts, with the list of them."""
    LlamaForCausalLM(CONFIGURATION).save_pretrained(tmp_path / "parts", max_shard_size="4KB")
    assert len(list((tmp_path / "parts").glob("model-*.safetensors"))) > 2
    return tmp_path / "parts"


def edit(file, **values):
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **values}))


def refused(folder):
    with pytest.raises(SubjectError) as caught:
        check_weights(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "FOLDER")


def test_weights_in_parts_are_complete_or_named(sharded):
    parts = sorted(sharded.glob("*.safetensors"))
    assert check_weights(sharded) == parts
    parts[1].unlink()
    assert refused(sharded) == (
        f"FOLDER: every part of the weights must be there. '{parts[1].name}', which "
        "model.safetensors.index.json lists, is not: fetch or save the model again."
    )


def test_parts_without_their_list_are_refused(sharded):
    first = sorted(sharded.glob("*.safetensors"))[0].name
    (sharded / "model.safetensors.index.json").unlink()
    assert refused(sharded) == (
        "FOLDER: weights must be in model.safetensors, or in parts listed by "
        f"model.safetensors.index.json. Got {first} without the list: fetch or save the model "
        "again."
    )


@pytest.mark.parametrize("part", ["../other/model.safetensors", "/etc/model.safetensors"])
def test_a_part_elsewhere_is_not_looked_for(sharded, part):
    edit(sharded / "model.safetensors.index.json", weight_map={"lm_head.weight": part})
    (sharded.parent / "other").mkdir()
    (sharded.parent / "other" / "model.safetensors").touch()
    assert f"'{part}', which model.safetensors.index.json lists, is not" in refused(sharded)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": {}}', '{"weight_map": []}'])
def test_an_empty_list_of_parts_is_refused(sharded, text):
    (sharded / "model.safetensors.index.json").write_text(text)
    assert refused(sharded) == (
        "FOLDER/model.safetensors.index.json: must have a 'weight_map' of tensors to files. "
        "Fetch or save the model again."
    )


def test_only_pickles(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refused(folder) == (
        "FOLDER: weights must be in safetensors. Got pickled weights (pytorch_model.bin): pickled "
        "files can run code and are never loaded; convert them with save_pretrained in a safe "
        "place."
    )


@pytest.mark.parametrize("code", [{"AutoConfig": "theirs.C", "AutoModel": "theirs.M"}, "theirs.C"])
def test_code_of_the_model_is_refused(folder, code):
    edit(folder / "config.json", model_type="theirs", auto_map=code)
    assert refused(folder) == (
        "FOLDER: cannot be loaded: its config.json asks for code of its own (auto_map: theirs.C), "
        "which is never run. Use a model whose architecture is part of transformers; 'theirs' is "
        "not."
    )


def test_code_that_transformers_has_itself_is_not_needed(folder):
    edit(folder / "config.json", auto_map={"AutoConfig": "theirs.C"})
    assert [path.name for path in check_weights(folder)] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("value", "method"), [({"quant_method": "mxfp4"}, "mxfp4"), ({"bits": 4}, None), ("int8",) * 2]
)
def test_quantised_weights_are_refused(folder, value, method):
    edit(folder / "config.json", quantization_config=value)
    assert refused(folder) == (
        f"FOLDER: weights must not be quantised. Got quantization_config '{method}': dequantise "
        "the model, save it in bfloat16 with save_pretrained, and use that folder."
    )


def test_an_adapter_is_not_a_model(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert refused(folder) == (
        "FOLDER: a subject must be a whole model. Got an adapter (adapter_config.json): merge it "
        "into its model and save that with save_pretrained."
    )


@pytest.mark.parametrize(
    ("text", "words"), [("{", "is not readable JSON"), ("[]", "is not a JSON object")]
)
def test_a_configuration_that_is_no_object(folder, text, words):
    (folder / "config.json").write_text(text)
    message = refused(folder)
    assert message.startswith("FOLDER: cannot be loaded (config.json ")
    assert words in message


def test_the_chat_template_is_part_of_the_model_and_code_is_not(folder):
    for name in ("chat_template.jinja", "tokenizer.json", "theirs.py", "pytorch_model.bin"):
        (folder / name).touch()
    names = {path.name for path in model_files(folder)}
    assert {"chat_template.jinja", "tokenizer.json", "model.safetensors"} <= names
    assert not any(Path(name).suffix in (".py", ".bin") for name in names)
