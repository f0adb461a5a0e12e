"""Numbers of the modes, measured on the prompts of the selection split."""

import numpy as np
import pandas as pd
import pytest
from families import configuration, random_model

from lmri.anatomy import Subject, describe
from lmri.config import ContrastOptions, EvidenceOptions
from lmri.intervene import KINDS, Plan, feasible, mean_activity, preactivation_statistics
from lmri.localise.endpoint import trial_prompts
from lmri.localise.unit_values import DONORS, switch_mode, unit_values
from lmri.world import build_tokenizer

CONTRAST = ContrastOptions("c", "t", target=("a",), controls=("b",))
UNITS = [(0, 3), (1, 2)]


@pytest.fixture(scope="module")
def subject(small_world):
    """A dense model that knows the words of the small world."""
    tokenizer = build_tokenizer(small_world)
    model = random_model(configuration("llama", vocab_size=len(tokenizer)))
    return Subject("tiny", model, tokenizer, describe(model))


@pytest.fixture(scope="module")
def trials(small_world):
    words = [word for word in small_world.words() if word.isalpha()][:24]
    rows = [
        {"trial": word, "condition": "ab"[i % 2], "prompt": f"{word} {words[i - 1]}"}
        for i, word in enumerate(words)
    ]
    return pd.DataFrame(rows)


def measured(subject, trials, kind, **evidence):
    return unit_values(subject, trials, CONTRAST, kind, EvidenceOptions(**evidence), 4, 0)


def prompts(subject, trials, condition):
    own = trials[trials["condition"] == condition].reset_index(drop=True)
    return trial_prompts(subject, own, 4)


def test_the_mode_of_a_kind_is_its_own_where_the_asked_one_is_not():
    asked = EvidenceOptions(mode="zero_renormalise", unit_mode="adjust")
    modes = {kind: switch_mode(kind, asked) for kind in KINDS}
    assert modes.pop("neuron") == modes.pop("expert_neuron") == "adjust"
    assert modes == {
        "expert": "zero_renormalise",
        "shared_neuron": "zero",
        "head": "zero",
        "residual": "mean",
        "residual_site": "mean",
        "feature": "zero",
        "layer": "zero",
    }
    zero = EvidenceOptions(unit_mode="zero")
    assert [switch_mode(kind, zero) for kind in ("residual", "residual_site", "expert")] == [
        *("zero", "mean", "mask"),
    ]


def test_means_are_of_the_controls_and_kept_whatever_the_mode(subject, trials):
    found = measured(subject, trials, "neuron")
    means = mean_activity(subject, prompts(subject, trials, "b"), "neuron", 256)
    assert (found.mode, found.of(UNITS)) == ("zero", None)
    kept = found.stored(UNITS)
    assert list(kept) == ["means"]
    assert kept["means"] == [[list(u), means[u[0]][u[1]].tolist()] for u in UNITS]
    assert measured(subject, trials, "expert").stored(UNITS) == {}


def test_donors_are_of_the_controls(subject, trials):
    found = measured(subject, trials, "head", unit_mode="resample")
    values = found.of(UNITS)
    assert {len(numbers) for numbers in values.values()} == {DONORS * subject.anatomy.head_size}
    assert found.stored(UNITS)["values"] == [[list(u), values[u]] for u in UNITS]
    assert feasible(Plan.of("resample", UNITS, "head", values), subject.anatomy)


def test_neuron_adjust_goes_from_the_target_to_the_controls(subject, trials):
    values = measured(subject, trials, "neuron", unit_mode="adjust").of(UNITS)
    sides = [preactivation_statistics(subject, prompts(subject, trials, c), 256) for c in "ab"]
    for layer, neuron in UNITS:
        expected = np.concatenate([side[layer][neuron, :2] for side in sides])
        np.testing.assert_allclose(values[layer, neuron], expected)


def test_a_gain_is_the_same_for_all(subject, trials):
    found = measured(subject, trials, "layer", unit_mode="gain", gain=0.25)
    assert found.of([(0,), (1,)]) == {(0,): [0.25], (1,): [0.25]}
