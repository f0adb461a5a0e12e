"""The scan through the stage: batches, storage, what is not finite, what is finished or locked."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from families import configuration, random_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from lmri.anatomy import SPANS, Prompt
from lmri.config import RecordOptions
from lmri.errors import StimuliError, StoreError
from lmri.record import STATISTICS, job, scan
from lmri.record.capture import ExpertStorage
from lmri.record.generation import Text
from lmri.record.phases import PHASES
from lmri.store import Recording, RecordingWriter, read_manifest, write_table, writing_lock

SUM, COUNT = STATISTICS.index("sum"), STATISTICS.index("count")


def opened(folder):
    return Recording(folder / "0.zarr")


def by_trial(recording, name):
    return dict(zip(recording.trials["trial"], recording.array(name)[:], strict=True))


def test_padding_changes_pools_by_rounding_only(record, tmp_path):
    record(tmp_path / "one", padding=0.0, rows=4)
    manifest = record(tmp_path / "two", padding=0.9, rows=50)
    one, two = opened(tmp_path / "one"), opened(tmp_path / "two")
    for name in ("pooled/residual/residual", "pooled/attention/entropy", "pooled/router/logits"):
        first, second = by_trial(one, name), by_trial(two, name)
        for trial, values in first.items():
            np.testing.assert_allclose(second[trial], values, rtol=1e-4, atol=1e-4)
    assert manifest["tokens"] == len(two.array("tokens/index/trial")[:])
    assert manifest["unbatched"]["choices_compared"] > 0
    assert manifest["unbatched"]["choices_flipped"] == 0


def test_a_padding_token_may_be_without_an_embedding(record, tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<padding>"})  # as chat finetunes do
    tokenizer.save_pretrained(folder)
    options = {"padding": 0.9, "rows": 50, "quantities": ("router",), "full": ()}
    for out, model in (("own", folder), ("plain", tiny_model_folder)):
        record(tmp_path / out, model=model, **options)
    own, plain = (
        opened(tmp_path / out).array("pooled/router/logits")[:] for out in ("own", "plain")
    )
    np.testing.assert_array_equal(own, plain)


def test_choices_that_depend_on_the_batch_are_counted(record, tmp_path, monkeypatch):
    original = scan.run_batch
    calls = []

    def run(subject, capture, batch, session):
        states = original(subject, capture, batch, session)
        calls.append(len(batch.ids))
        if len(batch.ids) > 1:  # one of the two choices of every token is another in a batch
            ids = capture.tokens["router/expert_id"][0,]
            ids[:, 0] = (ids[:, 1] + 1) % 8
        return states

    monkeypatch.setattr(scan, "run_batch", run)
    unbatched = record(tmp_path, quantities=("router",), full=())["unbatched"]
    assert calls[-1] == 1
    assert 0 < unbatched["choices_flipped"] <= unbatched["choices_compared"] / 4


def test_entropy_and_log_probability_of_the_next_token(recorded, tiny_subject):
    position = recorded.array("tokens/index/position")[:]
    entropy = recorded.array("tokens/index/entropy_next")[:]
    said = recorded.array("tokens/index/logp_next")[:]
    ends = np.append(position[1:] == 0, True)
    assert np.isnan(entropy[ends]).all()
    assert np.isnan(said[ends]).all()
    assert np.isfinite(entropy[~ends]).all()
    ids = recorded.array("tokens/index/token_id")[:]
    stop = int(np.flatnonzero(ends)[0]) + 1
    with torch.inference_mode():
        logits = tiny_subject.model(input_ids=torch.tensor([ids[:stop].tolist()])).logits[0]
    own = torch.distributions.Categorical(logits=logits[:-1].double())
    np.testing.assert_allclose(entropy[: stop - 1], own.entropy(), rtol=1e-5)


def test_experts_neurons_are_kept_in_the_smaller_way(record, tmp_path):
    record(tmp_path / "short", full=("router",), max_new_tokens=1)
    record(tmp_path / "long", full=("router",), max_new_tokens=60, splits=("calibration",))
    short = opened(tmp_path / "short").array("tokens/expert_neuron/activation")
    assert short.attrs["storage"].startswith("full: ")
    long = opened(tmp_path / "long")
    assert long.array("pooled/expert_neuron/sum").attrs["storage"].startswith("pooled: ")
    # 60 tokens of response on 8 experts: what is pooled is what is routed.
    pools = {n: long.array(f"pooled/expert_neuron/{n}")[:] for n in ("trial", "phase", "count")}
    response = long.array("pooled/expert_neuron/phase").attrs["phases"].index("response")
    own = (pools["trial"] == 0) & (pools["phase"] == response)
    assert pools["count"][own].sum() == 60 * 2 * 2  # tokens, slots, layers
    with pytest.raises(StoreError, match="holds no 'tokens/expert_neuron/activation'"):
        long.array("tokens/expert_neuron/activation")


@pytest.mark.parametrize("full", [True, False])
def test_neurons_of_experts_are_kept_as_it_is_told(tiny_subject, tmp_path, full):
    texts = [random_text(tokens) for tokens in (4, 4, 9)]
    trials = pd.DataFrame({"trial": [f"t{i}" for i in range(len(texts))], "condition": "a"})
    options = RecordOptions(quantities=("router", "neuron"), full=(), rows=8)
    storage = ExpertStorage(full, "because")
    with RecordingWriter(tmp_path / "a.zarr", {}) as writer:
        scan.scan(tiny_subject, trials, texts, PHASES, options, writer, storage)
    kept = Recording(tmp_path / "a.zarr")
    names = "tokens/expert_neuron/activation", "pooled/expert_neuron/sum"
    assert [kept.holds(name) for name in names] == [full, not full]
    assert kept.array(names[not full]).attrs["storage"] == "because"


def random_text(tokens):
    """All of it content, and a response of one token."""
    ids = np.random.default_rng(tokens).integers(3, 50, tokens)
    spans = np.full(tokens - 1, SPANS.index("content"), np.uint8)
    prompt = Prompt("", ids[:-1].tolist(), np.zeros((tokens - 1, 2), np.int64), spans, tokens - 2)
    return Text(prompt, ids[-1:].astype(np.int32))


def test_states_as_bfloat16_and_without_compression(record, tmp_path):
    record(tmp_path / "exact", full=("residual",), stored="float32")
    record(tmp_path / "half", full=("residual",), stored="bfloat16", compression="none")
    exact, half = (
        opened(tmp_path / name).array("tokens/residual/residual")[:] for name in ("exact", "half")
    )
    assert half.dtype == np.float32
    assert not np.array_equal(half, exact)
    np.testing.assert_allclose(half, exact, rtol=2**-8, atol=1e-30)


@pytest.mark.parametrize("when", ["after", "during"])
def test_next_tokens_may_be_left_out_and_nothing_else_changes(record, tmp_path, when):
    names = ("logp_next", "entropy_next")
    own = {"when": when, "splits": ("calibration",)}
    whole = record(tmp_path / "whole", **own)
    part = record(tmp_path / "part", **own, next_token=False)
    left = {name for name in whole["arrays"] if not name.endswith(names)}
    assert len(whole["arrays"]) == len(left) + 2
    assert set(part["arrays"]) == left
    one, other = opened(tmp_path / "whole"), opened(tmp_path / "part")
    assert other.attributes["encoder"] is False
    for name in left - {"trials"}:
        np.testing.assert_array_equal(one.array(name)[:], other.array(name)[:])


@pytest.fixture
def broken(tiny_model_folder, tmp_path):
    """A model whose second layer is infinite for one word."""
    folder = shutil.copytree(tiny_model_folder, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if "layers.1.self_attn.o_proj" in name:
            tensors[name][0, 0] = float("inf")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


ONLY_NORMS = {"quantities": ("router", "layer"), "full": (), "max_new_tokens": 1}


def test_activity_that_is_not_finite_ends_the_recording_and_is_located(record, broken, tmp_path):
    with pytest.raises(StimuliError, match=r"'layer/norm' of layer 1 is not in trial '.*mend them"):
        record(tmp_path / "out", model=broken, **ONLY_NORMS)
    assert not any((tmp_path / "out").iterdir())


def test_activity_that_is_not_finite_is_counted_by_choice(record, broken, tmp_path):
    manifest = record(tmp_path / "out", model=broken, non_finite="count", **ONLY_NORMS)
    found = pd.DataFrame(manifest["non_finite"])
    assert set(found["trial"]) == set(opened(tmp_path / "out").trials["trial"])
    assert set(found["layer"]) == {1}
    assert {"layer/norm", "router/logits"} <= set(found["variable"])
    norms = opened(tmp_path / "out").array("pooled/layer/norm")[:]
    assert np.isfinite(norms[:, :, SUM, 0]).all()  # the layer before is as it was


def test_a_finished_store_is_kept_and_a_damaged_one_made_again(record, tmp_path, monkeypatch):
    first = record(tmp_path)
    loads = []
    original = job.load_subject
    monkeypatch.setattr(job, "load_subject", lambda *a, **k: loads.append(1) or original(*a, **k))
    assert record(tmp_path) == first
    assert not loads
    chunk = next(p for p in (tmp_path / "0.zarr").rglob("c/*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert record(tmp_path) == first
    assert loads


def test_a_second_writer_is_refused(record, tmp_path):
    out = tmp_path / "0.zarr"
    with writing_lock(out), pytest.raises(StoreError, match="is being written"):
        record(tmp_path)
    assert not out.exists()


def test_a_dense_model_has_no_routing_to_record(record, tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "dense")
    (folder / "model.safetensors").unlink()
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    random_model(configuration("llama", vocab_size=size)).save_pretrained(folder)
    manifest = record(tmp_path / "out", model=folder)
    nodes = {name.rpartition("/")[0] for name in manifest["arrays"]} - {""}
    assert {"pooled/neuron", "tokens/neuron", "pooled/head", "pooled/attention"} <= nodes
    assert not any("router" in node or "expert" in node for node in nodes)
    assert manifest["unbatched"] == {"choices_compared": 0, "choices_flipped": 0}


def test_an_encoder_is_recorded_without_responses(record, tiny_model_folder, stimuli, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "encoder")
    (folder / "model.safetensors").unlink()
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    random_model(configuration("bert", vocab_size=size)).save_pretrained(folder)
    record(tmp_path / "out", model=folder)
    found = opened(tmp_path / "out")
    assert found.attributes["encoder"] is True
    assert (found.trials["n_response"] == 0).all()
    assert found.trials["exact"].isna().all()
    counts = found.array("pooled/head/norm")[:, :, COUNT, 0, 0]
    phases = found.attributes["phases"]
    assert (counts[:, phases.index("response")] == 0).all()
    assert (counts[:, phases.index("content")] > 0).all()
    with pytest.raises(StoreError, match="holds no 'tokens/index/logp_next'"):
        found.array("tokens/index/logp_next")


def test_repeats_are_rows_of_their_own(record, stimuli, tmp_path):
    table = pd.read_parquet(stimuli).head(6).assign(split="selection")
    write_table(tmp_path / "six.parquet", table)
    record(tmp_path, table=tmp_path / "six.parquet", temperature=1.0, repeats=2, max_new_tokens=6)
    trials = opened(tmp_path).trials
    assert len(trials) == 12
    assert trials.groupby("trial")["repeat"].apply(sorted).tolist() == [[0, 1]] * 6
    assert trials.groupby("trial")["response"].nunique().max() == 2
    assert read_manifest(tmp_path / "0.zarr.manifest.json")["trials"] == 12
