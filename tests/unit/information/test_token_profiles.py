"""Massive activations and active neurons: counted by hand, text by text."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.texts import text_values
from lmri.information.token_profiles import active_share, activity_profile, massive_profile

LENGTHS = (3, 1, 4, 2)


@pytest.fixture
def texts(record_texts, generator):
    """Four texts, in blocks that cut them."""
    n = sum(LENGTHS)
    values = generator.standard_normal((n, 2, 3, 3)).astype(np.float32)
    medians = generator.random((n, 2, 3)).astype(np.float32) + 0.5
    values[0, 1, 2, 0] = -500.0
    neurons = generator.standard_normal((n, 2, 2, 6)).astype(np.float32)
    neurons[:, 1] = 0.0
    neurons[:, 1, 0, :3] = 1.0  # three of twelve
    arrays = {
        "tokens/extremes/value": values,
        "tokens/extremes/median": medians,
        "tokens/extremes/layer": np.arange(2),
        "tokens/extremes/place": np.array(["before", "mid", "after"]),
        "tokens/expert_neuron/activation": neurons,
        "tokens/expert_neuron/layer": np.array([1, 3]),
    }
    own = [(np.arange(length), np.zeros(length, int)) for length in LENGTHS]
    splits = ["selection", "selection", "calibration", "selection"]
    return record_texts(own, splits, 3, **arrays), values, medians, neurons


def test_texts_are_whole_however_they_are_stored(texts):
    recording, values, *_ = texts
    found = list(text_values([recording], ["tokens/extremes/value"]))
    assert [len(own) for _, (own,) in found] == [3, 1, 2]
    np.testing.assert_array_equal(found[-1][1][0], values[-2:])
    recording.trials["carrier_place"] = ["oslo", "rome", None, "oslo"]
    everything = list(text_values([recording], ["tokens/extremes/value"], split=None))
    assert [len(own) for _, (own,) in everything] == list(LENGTHS)
    assert [own for own, _ in everything[1:]] == [
        {"carrier_place": "rome"},
        {},
        {"carrier_place": "oslo"},
    ]


def test_the_largest_is_of_a_text_and_the_median_of_its_tokens(texts):
    recording, values, medians, _ = texts
    found = massive_profile([recording])
    ends = np.cumsum(LENGTHS)
    parts = [slice(end - length, end) for end, length in zip(ends, LENGTHS, strict=True)]
    kept = [parts[0], parts[1], parts[3]]
    largest = np.mean([np.abs(values[own]).max(axis=(0, -1)) for own in kept], axis=0)
    median = np.mean([medians[own].mean(axis=0) for own in kept], axis=0)
    np.testing.assert_allclose(found["largest"], largest, rtol=1e-6)
    np.testing.assert_allclose(found["ratio"], largest / median, rtol=1e-6)
    assert found["ratio"].sel(layer=1, place="after") > 50
    assert found.attrs["texts"] == 3
    assert (found["flags"] == "few_samples").all()


def test_active_neurons_are_the_fewest_that_leave_a_fifth_of_the_norm():
    sizes = np.array([[3.0, 4.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert active_share(sizes, 0.5).tolist() == [0.5, 0.75, 0.0]
    assert active_share(sizes[0], 0.61) == 0.25  # 3 of 5 may be left out
    even = active_share(np.ones(1000))
    assert even == pytest.approx(0.96)  # 1 - .2²


def test_the_share_of_active_neurons_is_over_the_chosen_experts(texts):
    recording, *_, neurons = texts
    found = activity_profile([recording])
    assert found["kind"].values.tolist() == ["expert_neuron"]
    own = found.sel(kind="expert_neuron", layer=3)
    assert float(own["active"]) == float(own["nonzero"]) == 0.25
    assert float(own["active_error"]) == pytest.approx(0, abs=1e-12)
    first = active_share(np.abs(neurons[[0, 1, 2, 3, 8, 9], 0]).reshape(6, -1))
    assert float(found["active"].sel(layer=1)[0]) == pytest.approx(first.mean())


def test_kinds_that_have_other_layers_stand_beside_each_other(texts, record_texts):
    recording, *_ = texts
    dense = recording.array("tokens/expert_neuron/activation")[:, :1, 0]
    arrays = {
        "tokens/expert_neuron/activation": recording.array("tokens/expert_neuron/activation")[:],
        "tokens/expert_neuron/layer": np.array([1, 3]),
        "tokens/neuron/activation": dense,
        "tokens/neuron/layer": np.array([0]),
    }
    own = [(np.arange(length), np.zeros(length, int)) for length in LENGTHS]
    found = activity_profile([record_texts(own, **arrays)])
    assert found["active"].sel(kind="neuron").notnull().values.tolist() == [True, False, False]
    assert found["flags"].sel(kind="neuron").values.tolist() == ["few_samples", "", ""]


def test_what_was_not_recorded(record_texts):
    recording = record_texts([(np.arange(2), np.zeros(2, int))])
    with pytest.raises(EvidenceError, match=r"add 'extremes' to 'record.quantities'"):
        massive_profile([recording])
    with pytest.raises(
        EvidenceError, match=r"add 'neuron' to 'record.quantities' and 'record.full"
    ):
        activity_profile([recording])


def test_a_split_without_trials_and_a_tail_of_nothing(texts):
    recording, *_ = texts
    with pytest.raises(EvidenceError, match="split 'evaluation' has none"):
        massive_profile([recording], split="evaluation")
    with pytest.raises(EvidenceError, match=r"must be in \(0, 1\). Got 0"):
        activity_profile([recording], tail=0)
