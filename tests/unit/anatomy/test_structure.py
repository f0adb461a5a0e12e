"""What is guessed of an unknown model is what the table says of the known ones."""

import pytest
import torch
from families import FAMILIES, tiny_model
from transformers import AutoModelForCausalLM, JambaConfig, MambaConfig, OPTConfig, T5Config

from lmri.anatomy import ARCHITECTURES, check_architecture
from lmri.anatomy.structure import sites_by_structure, unknown_architecture
from lmri.errors import SubjectError

SIZES = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
OTHERS = {
    "mamba": MambaConfig(vocab_size=99, hidden_size=32, num_hidden_layers=2, **ENDS),
    "opt": OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32, **ENDS),
    "jamba": JambaConfig(
        **{**SIZES, "num_hidden_layers": 8}, intermediate_size=48, num_key_value_heads=2, **ENDS
    ),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_sites_of_known_architectures_are_guessed(kind):
    row = vars(ARCHITECTURES[kind])
    fields = ("blocks", "attention", "attention_output", "dense", "router", "experts", "shared")
    wanted = {field: row[field] for field in fields if row[field] is not None}
    if kind == "bert":  # its attention has a module within that calls the function
        wanted["attention"] = "attention"
    assert sites_by_structure(tiny_model(kind)) == wanted


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "mamba",
            "(MambaForCausalLM). Found by its structure: blocks='backbone.layers', "
            "dense='mixer.out_proj'; missing: attention, attention_output. Add a row to",
        ),
        (
            "opt",
            "(OPTForCausalLM). Found by its structure: blocks='model.decoder.layers', "
            "attention='self_attn', attention_output='self_attn.out_proj', dense='fc2'; missing: "
            "nothing. Add a row to lmri.anatomy.architectures, see docs/architectures.md.",
        ),
        ("jamba", "attention_output='self_attn.o_proj'; missing: nothing."),
    ],
)
def test_what_is_found_and_what_is_missing_are_named_without_weights(tmp_path, kind, words):
    config = OTHERS[kind]
    with torch.device("meta"):
        name = type(AutoModelForCausalLM.from_config(config)).__name__
    config.architectures = [name]
    config.save_pretrained(tmp_path)
    with pytest.raises(SubjectError) as caught:
        check_architecture(str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: The architecture of a subject must be one of bert,")
    assert f"Got '{kind}' ({name})" in message
    assert words in message
    assert "\n" not in message


def test_a_model_that_cannot_be_built_is_still_named(tmp_path):
    T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(tmp_path)
    words = r"Got 't5' \(T5For.*Found by its structure: nothing; missing: blocks, attention, "
    with pytest.raises(SubjectError, match=words):
        check_architecture(str(tmp_path))


def test_a_model_whose_blocks_are_not_in_a_list_has_nothing_to_find():
    model = torch.nn.Module()
    model.config = tiny_model("llama").config
    assert "Found by its structure: nothing; missing: blocks" in str(
        unknown_architecture("odd", "Odd", model)
    )
