"""A recording holds what the subject did, labelled, once per trial, the same every time."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

from lmri.anatomy import ATTENTION_SUMMARIES
from lmri.config import LoadOptions
from lmri.errors import StimuliError, StoreError, SubjectError
from lmri.intervene import respond
from lmri.record import PHASES, STATISTICS, job
from lmri.record.arrays import ArrayWriter
from lmri.score import SCORES, encode, onset_tokens
from lmri.store import Recording, read_manifest, write_table
from lmri.world import build_tokenizer


def rows_of(recorded, trial):
    """Positions on the token axis of one trial, by its row in the table."""
    return np.flatnonzero(recorded.array("tokens/index/trial")[:] == trial)


def text_of(recorded, trial):
    return recorded.array("tokens/index/token_id")[:][rows_of(recorded, trial)]


@torch.inference_mode()
def run_again(subject, tokens):
    ids = torch.tensor([tokens.tolist()])
    return subject.model(input_ids=ids, output_hidden_states=True, use_cache=False)


def test_only_the_asked_splits_are_recorded(recorded, stimuli):
    table = pd.read_parquet(stimuli)
    wanted = table[table["split"].isin(["selection", "calibration"])]
    assert set(recorded.trials["trial"]) == set(wanted["trial"])
    assert len(recorded.trials) == len(wanted) < len(table)
    assert "evaluation" not in set(recorded.trials["split"])


def test_trials_keep_their_stimuli_and_gain_scores(recorded, stimuli):
    table = pd.read_parquet(stimuli).set_index("trial")
    trials = recorded.trials.set_index("trial")
    for column in ("condition", "prompt", "content", "reference", "held_out", "task"):
        assert trials[column].tolist() == table.loc[trials.index, column].tolist()
    assert {*SCORES, "response", "ended", "n_response", "n_prompt", "content_last"} < set(trials)
    assert (trials["n_response"] == 4).all() and not trials["ended"].any()
    lengths = trials["n_prompt"].tolist()
    assert set(lengths) == {7, 8, 10}
    assert lengths == sorted(lengths)  # batches of one length, shortest first


def test_responses_are_the_greedy_ones(recorded, tiny_subject):
    tokenizer, trials = tiny_subject.tokenizer, recorded.trials
    prompts = [encode(tokenizer, prompt, "") for prompt in trials["prompt"]]
    found = respond(
        tiny_subject, prompts, onset_tokens(tokenizer, trials), max_new_tokens=4, rows=64
    )
    for row, (prompt, response) in enumerate(zip(prompts, found.tokens, strict=True)):
        assert text_of(recorded, row).tolist() == [*prompt, *response]
    np.testing.assert_allclose(trials["onset_margin"], found.onset_margin, atol=1e-5)


def test_every_token_has_its_position_and_span(recorded):
    index = {name: recorded.array(f"tokens/index/{name}") for name in ("position", "phase")}
    assert index["phase"].attrs["phases"] == ["system", "content", "response"]
    trials = recorded.trials
    for row, trial in trials.iterrows():
        where = rows_of(recorded, row)
        length = trial["n_prompt"] + trial["n_response"]
        assert index["position"][:][where].tolist() == list(range(length))
        content = len(trial["content"].split())
        wanted = [0, 0] + [1] * content + [0] + [2] * trial["n_response"]
        assert index["phase"][:][where].tolist() == wanted
        assert trial["content_last"] == trial["n_prompt"] - 2


def test_log_probabilities_of_the_next_token_by_hand(recorded, tiny_subject):
    logp = recorded.array("tokens/index/logp_next")[:]
    for trial in (0, 5, len(recorded.trials) - 1):
        tokens = text_of(recorded, trial)
        logits = run_again(tiny_subject, tokens).logits[0].double()
        got = logp[rows_of(recorded, trial)]
        for position in range(len(tokens) - 1):
            wanted = logits[position].log_softmax(-1)[tokens[position + 1]].item()
            assert got[position] == pytest.approx(wanted, abs=1e-5)
        assert np.isnan(got[-1])


def test_every_layer_chooses_k_distinct_experts_per_token(recorded):
    tokens = recorded.array("tokens/index/trial").shape[0]
    experts = recorded.array("tokens/router/expert_id")[:]
    assert experts.dtype == np.uint8
    assert experts.shape == (tokens, 2, 2)
    for layer in (0, 1):
        counts = np.bincount(experts[:, layer].reshape(-1), minlength=8)
        assert counts.sum() == 2 * tokens
        assert (counts > 0).sum() > 2
    assert (experts[..., 0] != experts[..., 1]).all()


def test_router_weights_and_ids_follow_from_its_logits(recorded):
    logits = recorded.array("tokens/router/logits")[:]
    weights, experts = (recorded.array(f"tokens/router/{n}")[:] for n in ("weight", "expert_id"))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    order = np.argsort(-logits, axis=-1)[..., :2]
    np.testing.assert_array_equal(order, experts)
    np.testing.assert_allclose(np.take_along_axis(shares, order, -1), weights, atol=1e-6)


def test_recorded_parts_recombine_to_the_change_of_the_residual(recorded, tiny_subject):
    """Neurons of the last prompt token give residual after minus mid, as pooled."""
    neurons, weights, experts = (
        recorded.array(name)[:]
        for name in (
            "tokens/expert_neuron/activation",
            "tokens/router/weight",
            "tokens/router/expert_id",
        )
    )
    pooled = recorded.array("pooled/residual/residual")[:]
    at = pooled[:, PHASES.index("prompt_last"), STATISTICS.index("last")]  # (trial, layer, place)
    for trial in (0, 9):
        token = rows_of(recorded, trial)[recorded.trials["n_prompt"][trial] - 1]
        for layer, block in enumerate(tiny_subject.model.model.layers):
            down = block.mlp.experts.down_proj.numpy()[experts[token, layer]]
            parts = np.einsum("shn,sn->sh", down, neurons[token, layer].astype(np.float32))
            wanted = weights[token, layer] @ parts
            change = at[trial, layer, 2] - at[trial, layer, 1]
            np.testing.assert_allclose(change, wanted, atol=2e-3)  # neurons are float16
            assert np.abs(wanted).max() > 0.1


def test_pooled_states_and_norms_by_hand(recorded, tiny_subject):
    states = recorded.array("pooled/residual/residual")
    norms = recorded.array("pooled/layer/norm")
    for trial in (0, len(recorded.trials) - 1):
        hidden = run_again(tiny_subject, text_of(recorded, trial)).hidden_states[1][0]
        n_prompt = recorded.trials["n_prompt"][trial]
        spans = {
            "system": [0, 1, n_prompt - 1],
            "content": list(range(2, n_prompt - 1)),
            "content_last": [n_prompt - 2],
            "prompt_last": [n_prompt - 1],
            "response": list(range(n_prompt, n_prompt + 4)),
        }
        for phase, where in spans.items():
            own, at = hidden[where], PHASES.index(phase)
            got = dict(zip(STATISTICS, states[trial, at, :, 1, 0], strict=True))
            np.testing.assert_allclose(got["mean"], own.mean(0), atol=1e-5)
            np.testing.assert_allclose(got["last"], own[-1], atol=1e-5)
            np.testing.assert_allclose(got["sum"], own.sum(0), atol=1e-4)
            np.testing.assert_allclose(got["sum_squares"], own.square().sum(0), atol=1e-4)
            assert (got["count"] == len(where)).all()
            length = own.norm(dim=-1).mean().item()
            assert norms[trial, at, 0, 1, 0] == pytest.approx(length, rel=1e-5)


def test_the_layout_is_that_of_the_documentation(recorded):
    with xr.open_datatree(recorded.path, engine="zarr", consolidated=False) as tree:
        dims = {
            "tokens/router/expert_id": ("token", "layer", "slot"),
            "tokens/router/weight": ("token", "layer", "slot"),
            "tokens/router/logits": ("token", "layer", "expert"),
            "tokens/expert_neuron/activation": ("token", "layer", "slot", "neuron"),
            "pooled/layer/norm": ("trial", "phase", "statistic", "layer", "place"),
            "pooled/residual/residual": ("trial", "phase", "statistic", "layer", "place", "dim"),
            **{f"tokens/index/{n}": ("token",) for n in ("trial", "position", "phase", "token_id")},
            **{
                f"pooled/attention/{name}": ("trial", "phase", "statistic", "layer", "head")
                for name in ATTENTION_SUMMARIES
            },
            **{
                f"pooled/head/{name}": ("trial", "phase", "statistic", "layer", "head")
                for name in ("norm", "value_norm")
            },
        }
        assert {name: tree[name].dims for name in dims} == dims
        assert tree["tokens/expert_neuron/activation"].dtype == np.float16
        for node in ("pooled/layer", "pooled/head", "pooled/residual"):
            labels = tree[node].coords
            assert labels["phase"].values.tolist() == list(PHASES)
            assert labels["statistic"].values.tolist() == list(STATISTICS)
            assert labels["layer"].values.tolist() == [0, 1]
        assert tree["pooled/layer"]["place"].values.tolist() == ["before", "mid", "after"]


def test_two_recordings_are_the_same_to_the_bit(record, recorded, tmp_path):
    again = record(tmp_path)
    first = read_manifest(recorded.path.with_name("0.zarr.manifest.json"))
    assert again["sha256"] == first["sha256"]
    assert again == first


def test_as_many_threads_write_as_torch_has(record, tmp_path, monkeypatch):
    seen = []

    class Seen(job.RecordingWriter):
        def __init__(self, *arguments, **options):
            seen.append(options["threads"])
            super().__init__(*arguments, **options)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(job, "RecordingWriter", Seen)
    record(tmp_path)
    assert seen == [3]


def test_shards_partition_the_trials(record, recorded, tmp_path):
    found = []
    for shard in range(3):
        manifest = record(tmp_path, shard, shards=3, quantities=("router",))
        own = Recording(tmp_path / f"{shard}.zarr").trials["trial"].tolist()
        assert manifest["trials"] == len(own)
        found.append(own)
    joined = [trial for own in found for trial in own]
    assert sorted(joined) == sorted(recorded.trials["trial"])
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_quantities_are_recorded_on_request_only(record, tmp_path):
    manifest = record(tmp_path, quantities=("router",), splits=("calibration",))
    nodes = {name.rpartition("/")[0] for name in manifest["arrays"]} - {""}
    assert nodes == {"tokens/index", "tokens/router", "pooled/router"}
    assert set(Recording(tmp_path / "0.zarr").trials["split"]) == {"calibration"}


def test_a_manifest_counts_the_responses_that_were_cut(recorded):
    manifest = read_manifest(recorded.path.with_name("0.zarr.manifest.json"))
    cut = manifest["truncated_responses"]
    assert sum(cut.values()) == len(recorded.trials)
    assert set(cut) == set(recorded.trials["condition"])
    assert manifest["provenance"] == recorded.attributes["provenance"] == {"stage": "record"}


@pytest.mark.parametrize("shard", [-1, 3, 7])
def test_a_shard_that_there_is_not_is_refused(record, tmp_path, shard):
    told = rf"'shard' must be at least 0 and below 'record\.shards' \(3\)\. Got {shard}\."
    with pytest.raises(StimuliError, match=told):
        record(tmp_path, shard, shards=3)
    assert not list(tmp_path.glob("*.zarr"))


def test_an_empty_shard_is_refused_before_the_subject_is_loaded(record, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "load_subject", lambda *args: pytest.fail("loaded"))
    with pytest.raises(StimuliError, match=r"shard 500 of 501 has no trial .* fewer 'shards'"):
        record(tmp_path, 500, shards=501)
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_that_the_subject_cannot_read_is_named(record, stimuli, tmp_path):
    table = pd.read_parquet(stimuli)
    chosen = table.index[table["split"] == "selection"][2]
    table.loc[chosen, "prompt"] += " spaceship"
    write_table(tmp_path / "bad.parquet", table)
    with pytest.raises(StimuliError, match=f"trial '{table['trial'][chosen]}'.*cannot read"):
        record(tmp_path / "out", table=tmp_path / "bad.parquet")
    assert not any((tmp_path / "out").iterdir())


@pytest.fixture
def chat_folder(small_world, tiny_model_folder, tmp_path):
    """The tiny model with a chat template in the words of its world."""
    folder = shutil.copytree(tiny_model_folder, tmp_path / "chat")
    tokenizer = build_tokenizer(small_world)
    tokenizer.chat_template = (
        "{{ '<bos>' }}{% for m in messages %}{{ ' <user> ' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ ' <assistant>' }}{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    return folder


def chat_table(stimuli, too_long="error"):
    """The trials of the world, each as the message that its content is."""
    table = pd.read_parquet(stimuli)
    template = json.dumps({"kind": "chat", "too_long": too_long})
    return table.assign(prompt=table["content"], template=template)


def test_a_chat_template_gives_the_activity_of_the_same_plain_prompt(
    record, recorded, stimuli, chat_folder, tmp_path
):
    write_table(tmp_path / "chat.parquet", chat_table(stimuli))
    record(tmp_path, table=tmp_path / "chat.parquet", model=chat_folder)
    chat = Recording(tmp_path / "0.zarr")
    assert chat.attributes["phases"] == [*PHASES, "post_instruction_0"]
    assert chat.attributes["template"]["kind"] == "chat"
    assert recorded.attributes["template"]["template_sha256"] is None
    for name in ("tokens/index/phase", "tokens/index/token_id", "tokens/router/logits"):
        assert np.array_equal(chat.array(name)[:], recorded.array(name)[:]), name
    own, plain = (r.array("pooled/residual/residual")[:] for r in (chat, recorded))
    assert np.array_equal(own[:, : len(PHASES)], plain, equal_nan=True)
    last = PHASES.index("prompt_last")
    assert np.array_equal(own[:, len(PHASES)], plain[:, last])  # one token after the content


def test_a_chat_without_a_template_is_refused_before_the_subject_is_loaded(
    record, stimuli, tmp_path, monkeypatch
):
    monkeypatch.setattr(job, "load_subject", lambda *args: pytest.fail("loaded"))
    write_table(tmp_path / "chat.parquet", chat_table(stimuli))
    with pytest.raises(StimuliError, match=r"^subject 'tiny', task 'mixed': .*chat_template"):
        record(tmp_path / "out", table=tmp_path / "chat.parquet")


def test_prompts_that_are_too_long_are_cut_by_choice_and_counted(
    record, stimuli, chat_folder, tmp_path
):
    # 128 positions less 119 for the response: room for 9 of the 10 tokens of a question.
    write_table(tmp_path / "error.parquet", chat_table(stimuli))
    with pytest.raises(StimuliError, match=r"at most 9 tokens.*Got 10"):
        record(tmp_path, table=tmp_path / "error.parquet", model=chat_folder, max_new_tokens=119)
    table = chat_table(stimuli, "truncate").groupby("condition").head(4).assign(split="selection")
    write_table(tmp_path / "cut.parquet", table)
    manifest = record(
        tmp_path,
        table=tmp_path / "cut.parquet",
        model=chat_folder,
        max_new_tokens=119,
        quantities=("router",),
    )
    trials = Recording(tmp_path / "0.zarr").trials
    events = trials["task"] == "events"
    assert (trials.loc[events, "n_prompt"] == 9).all()
    assert (trials["n_dropped"] == events).all() and 0 < events.sum() < len(trials)
    assert manifest["truncated_prompts"] == {
        name: int(count) for name, count in trials[events].groupby("condition").size().items()
    }


FLEX = LoadOptions(attention="flex_attention")


@pytest.mark.parametrize(
    ("quantities", "named"),
    [
        (("router", "head"), "'head' of 'record.quantities' are recorded ('head' has the norms"),
        (("attention", "head"), "'attention', 'head' of 'record.quantities'"),
        (("received",), "'received' of 'record.quantities' are recorded: others say"),
    ],
)
def test_attention_that_cannot_be_observed_is_refused_before_the_weights_are_read(
    record, tmp_path, monkeypatch, quantities, named
):
    monkeypatch.setattr(job, "load_subject", None)
    with pytest.raises(SubjectError) as caught:
        record(tmp_path, load=FLEX, quantities=quantities, full=())
    message = str(caught.value)
    assert message.startswith("The 'attention' of subject 'tiny' must be one of 'eager', 'sdpa'")
    assert named in message
    assert message.endswith("otherwise what a token sees. Got 'flex_attention'.")
    assert "\n" not in message


def test_what_needs_no_observed_attention_is_let_through(record, tmp_path, monkeypatch):
    def loaded(*_, load):
        raise RuntimeError(load.attention)

    monkeypatch.setattr(job, "load_subject", loaded)
    for quantities in (("router", "layer", "residual"), ("head_output",), ("neuron",)):
        with pytest.raises(RuntimeError, match="flex_attention"):
            record(tmp_path, load=FLEX, quantities=quantities, full=())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_run_that_ends_early_leaves_nothing(record, tmp_path, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr(ArrayWriter, "_write_pooled", fail)
    with pytest.raises(type(error)):
        record(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_neurons_too_large_for_half_precision_are_refused(record, tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if "up_proj" in name:
            tensors[name] *= 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StoreError, match=r"exceed float16 \(65504\).*'record.quantities'"):
        record(tmp_path / "out", model=folder)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_table_without_refusals_whose_prompts_are_all_content(record, stimuli, tmp_path):
    table = pd.read_parquet(stimuli).head(8)
    table = table.assign(refusal="", content=table["prompt"], split="selection")
    write_table(tmp_path / "own.parquet", table)
    record(tmp_path, table=tmp_path / "own.parquet", quantities=("router", "layer"))
    own = Recording(tmp_path / "0.zarr")
    assert own.trials["refusal_onset"].tolist() == [0] * 8
    norms = own.array("pooled/layer/norm")[:, PHASES.index("system"), :, 0, 0]
    counts = norms[:, STATISTICS.index("count")]
    assert (counts == 0).all() and np.isnan(norms[:, STATISTICS.index("last")]).all()
