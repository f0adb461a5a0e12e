"""Profiles that compare classes of trials: planted differences, carriers, cells without any."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.class_profiles import (
    code_profile,
    rate_reduction_profile,
    unit_entropy_profile,
)

TRIALS, UNITS = 120, 12
PHASES = ["content", "response", "think"]


@pytest.fixture
def planted(record_texts, generator):
    """Trials of two classes that differ in layer 1 in the response, and in nothing else."""
    condition = np.arange(TRIALS) // 2 % 2
    states = generator.standard_normal((TRIALS, len(PHASES), 2, 2, UNITS))
    states[:, 1, :, 1, :4] += 4.0 * np.where(condition, 1, -1)[:, None, None]
    states[:, 1, :, 1, 4] *= np.where(condition, 1, 0.01)[:, None]
    states[:, 2] = np.nan
    arrays = {}
    for node, values in (
        ("residual/residual", np.stack([states, states + 0.5], axis=4)),
        ("neuron/activation", states),
        ("preactivation/preactivation", states),
    ):
        name, array = node.split("/")
        labels = {"statistic": ["mean", "last"], "layer": [0, 1], "place": ["before", "after"]}
        kept = {key: own for key, own in labels.items() if key != "place" or name == "residual"}
        arrays |= {f"pooled/{name}/{key}": np.array(own) for key, own in kept.items()}
        arrays[f"pooled/{name}/{array}"] = values
    splits = ["selection", "calibration"] * (TRIALS // 2)
    recording = record_texts([(np.arange(1), np.zeros(1, int))] * TRIALS, splits, 32, **arrays)
    recording.attributes["phases"] = PHASES
    recording.trials["condition"] = np.where(condition, "sensitive", "benign")
    recording.trials["carrier_place"] = [f"p{i // 12}" for i in range(TRIALS)]
    return recording


def test_rate_reduction_is_where_the_classes_differ(planted):
    found = rate_reduction_profile([planted], split=None)
    assert found["layer"].values.tolist() == [-1, 0, 1]
    own = found.sel(phase="response")
    assert own["p"].values[2] == pytest.approx(0.01)
    assert own["excess"].values[2] > 10 * abs(own["excess"].values[:2]).max()
    assert own["flags"].values.tolist() == ["failed_null", "failed_null", ""]
    assert (found["reduction"].sel(phase="content") > 0).all()  # of any classes of few rows
    assert (found["flags"].sel(phase="content") == "failed_null").all()
    assert (found["samples"].sel(phase="response") == TRIALS).all()


def test_a_phase_without_tokens_says_why(planted):
    reduction = rate_reduction_profile([planted], draws=0)
    assert np.isnan(reduction["rate"].sel(phase="think")).all()
    assert "at least two classes" in str(reduction["reason"].sel(phase="think")[0].values)
    codes = code_profile([planted])
    assert "No trial has a token" in str(codes["reason"].sel(phase="think")[0].values)


def test_a_carrier_of_two_classes_is_a_reason(planted):
    found = rate_reduction_profile([planted], carrier="carrier_place", draws=9)
    assert "A carrier must have one class" in str(found["reason"][0, 0].values)


def test_codes_categorise_where_the_classes_differ(planted):
    found = code_profile([planted])
    assert found["layer"].values.tolist() == [0, 1]
    for name in ("nearest", "logistic", "k_means"):
        assert float(found[name].sel(phase="response", layer=1)) > 0.9
        assert float(found[name].sel(phase="response", layer=0)) < 0.75
    assert float(found["chance"][0, 0]) == 0.5
    assert (found["samples"].sel(phase="content") == TRIALS // 2).all()


def test_entropy_of_units_falls_where_they_fall_silent(planted):
    found = unit_entropy_profile([planted], "sensitive", split=None, bins=4)
    own = found.sel(phase="response", layer=1)
    assert float(own["entropy"].sel({"class": "sensitive"})[4]) == pytest.approx(2, abs=0.05)
    assert float(own["entropy"].sel({"class": "benign"})[4]) < 1.3
    elsewhere = found["entropy"].sel({"class": "benign"}, drop=True).sel(phase="content")
    assert (elsewhere > 1.7).all()
    assert found["samples"].sel(phase="think").values.tolist() == [[0, 0], [0, 0]]
    assert np.isnan(found["entropy"].sel(phase="think")).all()


def test_tables_without_the_class(planted):
    with pytest.raises(EvidenceError, match=r"lacks the column.s. 'topic'"):
        rate_reduction_profile([planted], column="topic")
    with pytest.raises(EvidenceError, match=r"one of benign, sensitive. Got 'secret'"):
        unit_entropy_profile([planted], "secret")
    with pytest.raises(EvidenceError, match=r"add 'neuron' to 'record.quantities'"):
        code_profile([planted], quantity="shared_neuron")
    with pytest.raises(EvidenceError, match="'quantity' of the states must be one of"):
        code_profile([planted], quantity="head")
