"""Massive activations, the residual's peak, void layers: known answers and scale."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch

from lmri.errors import EvidenceError
from lmri.localise.layers import active_layers, massive_map, peak_map, void_map
from lmri.localise.streams import Choice
from lmri.record.extremes import extremes
from lmri.store import Recording, RecordingWriter, layout

PLACES = ["before", "after"]
SPANS = ["system", "content", "response"]


@pytest.fixture
def record_states(tmp_path):
    """Write residual states (tokens, layers, places, hidden) of trials of given lengths."""

    def write(states, lengths, n_prompt=None, name="0.zarr"):
        path = tmp_path / name
        path.mkdir()
        labels = {"layer": list(range(states.shape[1])), "place": PLACES}
        values, dims, medians = extremes(states)
        trial = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
        position = np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)
        where = ("token", "layer", "place")
        with RecordingWriter(path, {"phases": SPANS, "spans": SPANS}) as writer:
            for variable, own in (("trial", trial), ("position", position), ("token_id", trial)):
                writer.append("tokens/index", variable, own, ("token",))
            codes = np.ones(len(trial), dtype=np.uint8)
            writer.append("tokens/index", "phase", codes, ("token",), attributes={"phases": SPANS})
            writer.append("tokens/layer", "norm", states.norm(dim=-1).numpy(), where, labels)
            for variable, own in (("value", values), ("dim", dims.to(torch.uint16))):
                writer.append("tokens/extremes", variable, own.numpy(), (*where, "top"), labels)
            writer.append("tokens/extremes", "median", medians.numpy(), where, labels)
            table = {"n_prompt": n_prompt or lengths, "n_response": 0}
            names = {"trial": [str(i) for i in range(len(lengths))], "condition": "one"}
            writer.append_trials(pd.DataFrame({**names, **table, "split": "selection"}))
        return Recording(path)

    return write


@pytest.fixture
def noise():
    """Standard normal states: six tokens, two layers, two places, 4096 dimensions."""
    return torch.randn(6, 2, 2, 4096, generator=torch.Generator().manual_seed(0))


def test_exactly_the_planted_activation_is_massive(record_states, noise):
    noise[3, 1, 0, 2533] = -2000.0
    found = massive_map([record_states(noise, [3, 3])])
    np.testing.assert_array_equal(found["hits"], [[0, 0], [1, 0]])
    np.testing.assert_array_equal(found["states"], [[0, 0], [1, 0]])
    np.testing.assert_array_equal(found["at_first"], [[0, 0], [1, 0]])  # the second text's first
    assert float(found["largest"].sel(layer=1, place="before")) == 2000
    assert found["found_layer"].values.tolist() == [1]
    assert found["found_place"].values.tolist() == ["before"]
    assert found["found_dim"].values.tolist() == [2533]
    assert found["found_mean"].values.tolist() == [-2000]
    np.testing.assert_allclose(found["median"], 0.6745, rtol=0.05)


def test_the_absolute_criterion_depends_on_the_scale_and_the_relative_does_not(
    record_states, noise
):
    noise[3, 1, 0, 2533] = 2000.0
    small = record_states(noise * 1e-3, [6])
    assert massive_map([small])["hits"].sum() == 0
    found = massive_map([small], absolute=0)
    assert found["hits"].sum() == 1
    assert found["found_dim"].values.tolist() == [2533]
    assert found["at_first"].sum() == 0


def test_noise_has_no_massive_activation(record_states, noise):
    found = massive_map([record_states(noise * 50, [6])])
    assert (found["largest"] > 100).all()  # large by scale, not beside the median
    assert found["hits"].sum() == 0
    assert found.sizes["found"] == 0


def test_dimensions_are_added_up_over_blocks_and_shards(record_states, noise, monkeypatch):
    noise[:, 1, 1, 7] = 1500.0
    noise[::2, 1, 1, 9] = 3000.0
    whole = massive_map([record_states(noise, [6])])
    assert whole["found_dim"].values.tolist() == [7, 9]
    assert whole["found_states"].values.tolist() == [6, 3]
    assert int(whole["hits"].sel(layer=1, place="after")) == 9
    assert int(whole["states"].sel(layer=1, place="after")) == 6
    monkeypatch.setattr(layout, "CHUNK_BYTES", 64)
    monkeypatch.setattr(layout, "LARGEST_CHUNK_BYTES", 64)
    monkeypatch.setattr(layout, "BLOCK_BYTES", 64)
    shards = [
        record_states(noise[:2], [2], name="1.zarr"),
        record_states(noise[2:], [4], name="2.zarr"),
    ]
    parts = massive_map(shards)
    for name in ("hits", "states", "largest", "found_dim", "found_states", "found_mean"):
        np.testing.assert_array_equal(parts[name], whole[name])


def test_the_peak_is_the_norm_of_the_first_token_beside_the_others(record_states):
    states = torch.ones(8, 2, 2, 4)
    states[[0, 5], 1, 1] *= 30
    found = peak_map([record_states(states, [5, 3])])
    np.testing.assert_allclose(found["peak"], [[1, 1], [1, 30]])
    assert found.attrs["texts"] == 2


@pytest.mark.parametrize("scale", [1, 1e-3, 250])
@pytest.mark.parametrize(
    ("norms", "active"),
    [
        ([1, 2, 2.1, 4.1, 4.2, 4.3, 8.3], "TTTFFT"),
        ([1, 0.5, 0.6, 0.7], "FTF"),
    ],
)
def test_void_layers_of_the_published_code(norms, active, scale):
    found = active_layers(scale * np.array(norms))
    assert "".join("T" if own else "F" for own in found) == active


def test_void_layers_are_counted_apart_in_prompt_and_response(record_states):
    norms = torch.tensor([[1.0, 2, 2.1, 4.1, 4.2], [1, 0.5, 0.6, 0.7, 1.8], [1, 2, 2.1, 4.1, 4.2]])
    states = torch.zeros(3, 4, 2, 4)  # norm of a state: its first dimension
    states[:, :, 0, 0], states[:, :, 1, 0] = norms[:, :-1], norms[:, 1:]
    found = void_map([record_states(states, [3], n_prompt=[2])])
    assert found["tokens"].values.tolist() == [2, 1]
    np.testing.assert_allclose(found["active"], [[0.5, 1, 0.5, 0.5], [1, 1, 1, 0]])
    np.testing.assert_allclose(found["last_active"], [[0, 0, 0.5, 0.5], [0, 0, 1, 0]])
    np.testing.assert_allclose(found["change"][1], [1, 0.1, 2, 0.1], atol=1e-6)
    prompt_only = void_map([record_states(states, [3], n_prompt=[3], name="1.zarr")])
    assert np.isnan(prompt_only["active"].sel(phase="response")).all()
    # Without a threshold a layer is active where the norm does not fall.
    loose = void_map([record_states(states, [3], name="2.zarr")], alpha=0)
    np.testing.assert_allclose(loose["active"][0], [2 / 3, 1, 1, 1])


@pytest.mark.parametrize("make", [massive_map, peak_map, void_map])
def test_splits_without_trials_and_stores_without_tokens(record_states, noise, make, tmp_path):
    recording = record_states(noise, [6])
    with pytest.raises(EvidenceError, match="split"):
        make([recording], Choice("evaluation"))
    path = tmp_path / "bare.zarr"
    path.mkdir()
    with RecordingWriter(path, {"phases": SPANS}) as writer:
        writer.append("pooled/layer", "norm", np.ones((1, 2), np.float32), ("trial", "layer"))
        writer.append_trials(recording.trials)
    with pytest.raises(EvidenceError, match=r"must hold 'tokens/\w+/\w+'.*'record.quantities'"):
        make([Recording(path)])


@pytest.mark.parametrize("make", [massive_map, peak_map, void_map])
def test_memory_does_not_grow_with_tokens(record_states, make, monkeypatch):
    for name in ("CHUNK_BYTES", "LARGEST_CHUNK_BYTES", "BLOCK_BYTES"):
        monkeypatch.setattr(layout, name, 4096)
    peaks = []
    for length in (2_000, 2_000, 16_000):  # the first warms up
        states = 1e5 * torch.eye(64)[torch.arange(length) % 64].view(length, 1, 1, 64).repeat(
            1, 2, 2, 1
        )
        recording = record_states(states, [length], name=f"{len(peaks)}.zarr")
        tracemalloc.start()
        make([recording])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 3 * peaks[1]  # of 8 times the tokens
