"""Loading as asked: data type, device, implementations and class; outputs are transformers' own."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    Llama4Config,
    Llama4ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from lmri.anatomy import check_load, load_model, load_subject
from lmri.anatomy.loading import ATTENTIONS, DEVICE_MAPS, DTYPES, EXPERTS, NEEDS
from lmri.config import LoadOptions
from lmri.config.checking import _validator
from lmri.errors import SubjectError

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}


def make_model(kind):
    """A random model of an architecture, the same on every call."""
    bare = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "olmoe":
            return OlmoeForCausalLM(OlmoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2))
        if kind == "llama":
            return LlamaForCausalLM(LlamaConfig(**SIZES))
        if kind == "bert":
            return BertForMaskedLM(BertConfig(**bare))
        return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2))


@pytest.fixture
def saved(tmp_path):
    """Save a random model of an architecture; returns its folder."""

    def save(kind, dtype=torch.float32):
        folder = tmp_path / kind
        make_model(kind).to(dtype).save_pretrained(folder)
        return folder

    return save


@torch.inference_mode()
def logits(model):
    return model(TOKENS).logits


def edit_config(folder, **values):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **values}))


def refused(function, *arguments):
    with pytest.raises(SubjectError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["olmoe", "llama", "gpt2", "bert"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "auto"])
def test_outputs_are_those_of_transformers(saved, kind, dtype):
    folder = saved(kind, torch.bfloat16)
    auto = AutoModelForMaskedLM if kind == "bert" else AutoModelForCausalLM
    wanted = auto.from_pretrained(folder, dtype=DTYPES[dtype]).eval()
    got = load_model(folder, LoadOptions(dtype=dtype))
    assert type(got) is type(wanted) is type(make_model(kind))
    assert got.dtype == (torch.bfloat16 if dtype == "auto" else DTYPES[dtype])
    assert torch.equal(logits(got), logits(wanted))
    assert not got.training
    assert not any(parameter.requires_grad for parameter in got.parameters())


def test_nothing_asked_is_float32_whatever_the_files_are(saved):
    model = load_model(saved("llama", torch.float16), LoadOptions())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex_attention"])
def test_attention_is_what_was_asked_for(saved, attention):
    folder = saved("llama")
    model = load_model(folder, LoadOptions(attention=attention))
    assert model.config._attn_implementation == attention
    if attention != "flex_attention":  # compiles on its first use
        torch.testing.assert_close(logits(model), logits(load_model(folder, LoadOptions())))


@pytest.mark.parametrize("experts", EXPERTS)
def test_experts_are_what_was_asked_for(saved, experts):
    folder = saved("olmoe")
    model = load_model(folder, LoadOptions(experts=experts))
    assert model.config._experts_implementation == experts
    torch.testing.assert_close(logits(model), logits(load_model(folder, LoadOptions())))


def test_a_configuration_does_not_choose_a_kernel_of_the_hub(saved):
    folder = saved("olmoe")
    kernel = "kernels-community/theirs"
    edit_config(folder, _attn_implementation=kernel, attn_implementation=kernel)
    edit_config(folder, _experts_implementation="sonicmoe", experts_implementation="sonicmoe")
    config = load_model(folder, LoadOptions()).config
    assert (config._attn_implementation, config._experts_implementation) == ("sdpa", "grouped_mm")


def test_a_subject_says_where_and_what_it_is(tiny_model_folder):
    subject = load_subject(tiny_model_folder, "tiny", load=LoadOptions(dtype="bfloat16"))
    assert (subject.device, subject.dtype) == (torch.device("cpu"), torch.bfloat16)
    assert load_subject(tiny_model_folder, "tiny").dtype == torch.float32


def test_auto_takes_a_device_that_is_there(saved, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = load_model(saved("llama"), LoadOptions(device="auto"))
    assert model.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "found"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2), ("cuda:7", 1)]
)
def test_a_device_that_is_not_there(monkeypatch, tmp_path, device, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    assert refused(load_subject, tmp_path, "x", None, LoadOptions(device=device)) == (
        f"The 'device' of subject 'x' must be on this machine. Got '{device}', but torch finds "
        f"{found} CUDA devices: use another number, cpu or auto, or run the job where one is."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dtype": "float64"},
            "The 'dtype' of subject 'x' must be one of 'auto', 'bfloat16', 'float16', 'float32'. "
            "Got 'float64'.",
        ),
        (
            {"device": "cpu:1"},
            "The 'device' of subject 'x' must be one of 'cpu', 'cuda', 'cuda:N', 'auto'. "
            "Got 'cpu:1'.",
        ),
        (
            {"device": "cuda:one"},
            "The 'device' of subject 'x' must be one of 'cpu', 'cuda', 'cuda:N', 'auto'. "
            "Got 'cuda:one'.",
        ),
        (
            {"experts": "lmri"},
            "The 'experts' of subject 'x' must be one of 'batched_mm', 'eager', 'grouped_mm'. "
            "Got 'lmri'.",
        ),
        (
            {"attention": "kernels-community/theirs"},
            "The 'attention' of subject 'x' must be one of 'eager', 'flash_attention_2', "
            "'flash_attention_3', 'flex_attention', 'sdpa'. Got 'kernels-community/theirs'.",
        ),
    ],
)
def test_a_value_that_is_not_known(options, message):
    assert refused(check_load, LoadOptions(**options), "x") == message


@pytest.mark.parametrize(
    ("feature", "key", "value"),
    [
        ("device_map", "device_map", "auto"),
        ("flash_attention_2", "attention", "flash_attention_2"),
        ("flash_attention_3", "attention", "flash_attention_3"),
    ],
)
def test_a_package_that_is_missing(monkeypatch, feature, key, value):
    package = NEEDS[feature][0]
    monkeypatch.setitem(NEEDS, feature, (package, lambda: False))
    assert refused(check_load, LoadOptions(**{key: value}), "x") == (
        f"'{key}: {value}' of subject 'x' needs the package {package}. It was not found: install "
        "it, or leave the key out."
    )
    monkeypatch.setitem(NEEDS, feature, (package, lambda: True))
    check_load(LoadOptions(**{key: value}), "x")


def test_the_schema_allows_what_can_be_loaded():
    subject = _validator().schema["properties"]["subjects"]["additionalProperties"]["properties"]
    for key, known in (
        ("dtype", DTYPES),
        ("device_map", DEVICE_MAPS),
        ("attention", ATTENTIONS),
        ("experts", EXPERTS),
    ):
        assert set(subject[key]["enum"]) == set(known)


def test_experts_of_a_model_without_experts(saved):
    folder = saved("llama")
    assert refused(load_model, folder, LoadOptions(experts="eager")) == (
        f"{folder}: 'experts' must be left out for LlamaForCausalLM, which has none or only one "
        "way to run them. Got 'eager'."
    )


@pytest.mark.parametrize(
    "values", [{"num_attention_heads": 0}, {"hidden_size": "wide"}, {"hidden_act": "none"}]
)
def test_a_configuration_that_makes_no_model_is_one_line(saved, values):
    folder = saved("llama")
    edit_config(folder, **values)
    assert refused(load_model, folder, LoadOptions()).startswith(f"{folder}: cannot be loaded (")


def test_a_bert_as_it_was_trained_is_read_without_its_other_head(tmp_path):
    sizes = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
    original = BertForPreTraining(BertConfig(**sizes)).eval()
    original.save_pretrained(tmp_path)
    edit_config(tmp_path, architectures=["BertForMaskedLM"])
    with torch.inference_mode():
        wanted = original(TOKENS).prediction_logits
    assert torch.equal(logits(load_model(tmp_path, LoadOptions())), wanted)


@pytest.mark.parametrize(("kind", "name"), [("bert", "BertForMaskedLM"), ("gpt2", "GPT2LMHead")])
def test_without_a_class_in_its_configuration_an_encoder_stays_one(saved, kind, name):
    folder = saved(kind)
    edit_config(folder, architectures=None)
    assert type(load_model(folder, LoadOptions())).__name__.startswith(name)


def test_buffers_of_old_checkpoints_are_no_weights(saved):
    folder = saved("gpt2")
    file = folder / "model.safetensors"
    tensors = {**load_file(file), "h.0.attn.bias": torch.ones(1, 1, 8, 8)}
    save_file(tensors, file, metadata={"format": "pt"})
    assert torch.equal(logits(load_model(folder, LoadOptions())), logits(make_model("gpt2").eval()))


TEXT = {**SIZES, "head_dim": 8, "intermediate_size_mlp": 16, "num_local_experts": 2}
VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 28,
    "patch_size": 14,
}


def test_the_text_model_of_llama4_is_read_out_of_its_wrapper(tmp_path):
    sizes = {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16}
    whole = Llama4ForConditionalGeneration(
        Llama4Config(text_config=TEXT, vision_config={**VISION, **sizes})
    ).eval()
    whole.save_pretrained(tmp_path)
    model = load_model(tmp_path, LoadOptions())
    assert type(model).__name__ == "Llama4ForCausalLM"
    assert torch.equal(logits(model), logits(whole.language_model))


def test_a_wrapper_without_a_text_model_of_its_own_is_refused(tmp_path):
    text = {**SIZES, "head_dim": 8}
    Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=VISION, mm_tokens_per_image=4)
    ).save_pretrained(tmp_path)
    message = refused(load_model, tmp_path, LoadOptions())
    assert "Got 'Gemma3ForConditionalGeneration' of architecture 'gemma3'" in message
    assert message.endswith("save its language model alone.")


def test_another_class_is_named_with_those_that_would_do(saved, tmp_path):
    folder = saved("bert")
    edit_config(folder, architectures=["BertForSequenceClassification"])
    assert refused(load_model, folder, LoadOptions()) == (
        f"{folder}: a subject must be a causal language model or a masked one of text "
        "('BertLMHeadModel' or 'BertForMaskedLM' for 'bert'). Got "
        "'BertForSequenceClassification' of architecture 'bert': save its language model alone."
    )
    t5 = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(t5).save_pretrained(tmp_path / "t5")
    message = refused(load_model, tmp_path / "t5", LoadOptions())
    assert "Got 'T5ForConditionalGeneration' of architecture 't5'" in message
