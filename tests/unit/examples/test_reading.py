"""Whole trials from blocks of any size, with the activity that a loop over tokens gives."""

import numpy as np
import pandas as pd
import pytest
from streams import FakeRecording

from lmri.examples.asked import Activity
from lmri.examples.reading import read_trials
from lmri.examples.sources import needed

LENGTHS = (5, 1, 9, 3, 12)
UNITS = [
    Activity("expert", "rate", (4, 3)),
    Activity("head", "norm", (1, 0)),
    Activity("expert_neuron", "unconditional", (2, 1, 5)),
    Activity("expert", "rate", (2, 0)),
    Activity("residual", "after", (1, 2)),
    Activity("head", "entropy", (0, 1)),
    Activity("layer", "mid", (2,)),
    Activity("expert", "logits", (4, 1)),
    Activity("neuron", "preactivation", (0, 2)),
]
"""Layers 2 and 4 have experts, 0 and 1 do not."""


@pytest.fixture
def arrays(rng):
    count = sum(LENGTHS)
    chosen = np.argsort(rng.random((count, 2, 6)), axis=2)[..., :2]
    return {
        "tokens/index/trial": np.repeat(np.arange(len(LENGTHS)), LENGTHS),
        "tokens/index/position": np.concatenate([np.arange(own) for own in LENGTHS]),
        "tokens/index/phase": rng.integers(3, size=count).astype(np.uint8),
        "tokens/index/token_id": rng.integers(50, size=count).astype(np.int32),
        "tokens/router/expert_id": chosen.astype(np.uint8),
        "tokens/router/weight": rng.random((count, 2, 2)).astype(np.float32),
        "tokens/router/logits": rng.normal(size=(count, 2, 6)).astype(np.float32),
        "tokens/router/layer": np.array([2, 4]),
        "tokens/expert_neuron/activation": rng.normal(size=(count, 2, 2, 7)).astype(np.float16),
        "tokens/expert_neuron/layer": np.array([2, 4]),
        "tokens/head/norm": rng.random((count, 3, 2)).astype(np.float32),
        "tokens/head/layer": np.array([0, 1, 2]),
        "tokens/attention/entropy": rng.random((count, 3, 2)).astype(np.float32),
        "tokens/attention/layer": np.array([0, 1, 2]),
        "tokens/residual/residual": rng.normal(size=(count, 3, 3, 4)).astype(np.float16),
        "tokens/residual/layer": np.array([0, 1, 2]),
        "tokens/residual/place": np.array(["before", "mid", "after"]),
        "tokens/layer/norm": rng.random((count, 3, 3)).astype(np.float32),
        "tokens/layer/layer": np.array([0, 1, 2]),
        "tokens/layer/place": np.array(["before", "mid", "after"]),
        "tokens/preactivation/preactivation": rng.normal(size=(count, 2, 4)).astype(np.float16),
        "tokens/preactivation/layer": np.array([0, 1]),
    }


class Plain(FakeRecording):
    """A recording in memory whose arrays have no attributes."""

    def array(self, name):
        return self._arrays[name]


def slow(arrays, token):
    """Activity of all units at one token, one by one."""
    chosen = {n: arrays["tokens/router/expert_id"][token, n].tolist() for n in (0, 1)}

    def slot(layer, expert, values):
        return values[chosen[layer].index(expert)] if expert in chosen[layer] else 0

    weight = arrays["tokens/router/weight"][token]
    neurons = arrays["tokens/expert_neuron/activation"][token, 0, :, 5]
    return [
        slot(1, 3, weight[1]),
        arrays["tokens/head/norm"][token, 1, 0],
        slot(0, 1, neurons),
        slot(0, 0, weight[0]),
        arrays["tokens/residual/residual"][token, 1, 2, 2],
        arrays["tokens/attention/entropy"][token, 0, 1],
        arrays["tokens/layer/norm"][token, 2, 1],
        arrays["tokens/router/logits"][token, 1, 1],
        arrays["tokens/preactivation/preactivation"][token, 0, 2],
    ]


@pytest.mark.parametrize("block", [1, 4, 7, 100])
def test_trials_are_those_of_a_loop_over_tokens(arrays, block):
    trials = list(read_trials(Plain(pd.DataFrame(), arrays, block), UNITS))
    assert [own.row for own in trials] == list(range(len(LENGTHS)))
    assert [len(own.ids) for own in trials] == list(LENGTHS)
    ids = np.concatenate([own.ids for own in trials])
    np.testing.assert_array_equal(ids, arrays["tokens/index/token_id"])
    spans = np.concatenate([own.spans for own in trials])
    np.testing.assert_array_equal(spans, arrays["tokens/index/phase"])
    activity = np.concatenate([own.activity for own in trials])
    expected = [slow(arrays, token) for token in range(len(ids))]
    np.testing.assert_allclose(activity, np.array(expected, dtype=np.float32), rtol=1e-6)
    assert 0 < (activity[:, 0] == 0).mean() < 1


def test_what_is_read_of_each_kind():
    assert needed("expert", "rate") == ("tokens/router/expert_id", "tokens/router/weight")
    assert needed("expert", "logits") == ("tokens/router/logits",)
    assert needed("head", "sink") == ("tokens/attention/sink",)
    assert needed("feature", "activation") == ("",)
