"""The table of `lmri anatomy`: known sizes of a published model, every family, bad input."""

import json

import pytest
import torch
from families import FAMILIES, configuration, tiny_model
from transformers import CLIPConfig, OlmoeConfig

from lmri.anatomy import anatomy_table, describe, empty_model, read_configuration, variables
from lmri.cli import main
from lmri.errors import SubjectError


@pytest.fixture
def olmoe(tmp_path):
    """Configuration of OLMoE-1B-7B, without weights."""
    OlmoeConfig(intermediate_size=1024).save_pretrained(tmp_path)
    return tmp_path


def test_known_sizes_of_olmoe_1b_7b(olmoe, capsys):
    assert main(["anatomy", str(olmoe)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("  ")[0]: line for line in lines}
    by_path = {line.split()[1]: line for line in lines if "/" in line}
    assert lines[0] == "OlmoeForCausalLM (olmoe)"
    assert "6.92 G parameters, 1.28 G of them for any one token" in lines
    assert "64 x 1024 neurons, 8 per token  6.44 G" in rows["experts"]
    # The recording notes: ids 128 B, neurons 262 kB, a residual of one place 65.5 kB per token.
    assert "128 MB" in by_path["router/expert_id"]
    assert "262 GB" in by_path["expert_neuron/activation"]
    assert "197 GB" in by_path["residual/residual"]
    assert "4.1 GB" in by_path["router/logits"]


def test_quantised_weights_are_said_to_need_a_step_more(olmoe, capsys):
    assert "quantised" not in anatomy_table(empty_model(read_configuration(str(olmoe))))
    path = olmoe / "config.json"
    quantised = {**json.loads(path.read_text()), "quantization_config": {"quant_method": "fp8"}}
    path.write_text(json.dumps(quantised))
    assert main(["anatomy", str(olmoe)]) == 0
    assert "Its weights are quantised (fp8) and not recorded so" in capsys.readouterr().out


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_has_a_table(kind):
    table = anatomy_table(empty_model(configuration(kind)))
    assert table == anatomy_table(tiny_model(kind))
    for variable in variables(describe(tiny_model(kind))):
        assert variable.path in table


def test_types_of_ids_and_states():
    anatomy = describe(tiny_model("olmoe"))
    types = {v.path: v.dtype for v in variables(anatomy, "bfloat16")}
    assert types["router/expert_id"] == "uint8"
    assert types["residual/residual"] == "bfloat16"
    assert types["head/norm"] == "float32"


def test_nothing_of_what_is_not_there():
    nodes = {v.node for v in variables(describe(tiny_model("llama")))}
    assert not nodes & {"router", "expert_neuron", "shared_neuron"}
    assert "preactivation" in nodes
    assert "preactivation" not in {v.node for v in variables(describe(tiny_model("olmoe")))}
    assert "retrieval" not in {v.name for v in variables(describe(tiny_model("bert")))}


def test_a_folder_without_a_configuration_is_named(tmp_path):
    with pytest.raises(SubjectError, match=r"must be a folder with a config\.json"):
        read_configuration(str(tmp_path))


def test_what_is_no_language_model_is_named():
    with pytest.raises(SubjectError, match="of architecture 'clip'"):
        empty_model(CLIPConfig())


def test_no_memory_is_taken(olmoe):
    model = empty_model(read_configuration(str(olmoe)))
    assert {p.device for p in model.parameters()} == {torch.device("meta")}
