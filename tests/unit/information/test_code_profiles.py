"""Codes by layer: planted classes, exchanged carriers, experts in place of neurons."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.code_profiles import Choices, code_profile, code_quantity
from lmri.information.question import Question

TRIALS = 120


def test_codes_categorise_where_the_classes_differ(planted):
    found = code_profile([planted], draws=39)
    assert found["layer"].values.tolist() == [0, 1]
    for name in ("nearest", "logistic", "k_means"):
        assert float(found[name].sel(phase="response", layer=1)) > 0.9
        assert float(found[name].sel(phase="response", layer=0)) < 0.75
    for name in ("nearest_p", "logistic_p"):
        assert float(found[name].sel(phase="response", layer=1)) == pytest.approx(1 / 40)
        assert float(found[name].sel(phase="content", layer=0)) > 0.05
    assert "failed_null" in str(found["flags"].sel(phase="content", layer=0).values)
    assert float(found["chance"][0, 0]) == 0.5
    assert (found["samples"].sel(phase="content") == TRIALS // 2).all()


def test_a_phase_without_tokens_says_why(planted):
    codes = code_profile([planted])
    assert "No trial has a token" in str(codes["reason"].sel(phase="think")[0].values)


def test_what_carries_the_class_is_exchanged(planted):
    asked = Question("condition", ("place",))  # places have trials of both conditions
    found = code_profile([planted], question=asked, draws=9)
    assert "must be the same in all samples" in str(found["reason"][0, 0].values)


def test_what_was_not_recorded(planted):
    with pytest.raises(EvidenceError, match=r"add 'neuron' to 'record.quantities'"):
        code_profile([planted], quantity="shared_neuron")
    with pytest.raises(EvidenceError, match="'quantity' of the states must be one of"):
        code_profile([planted], quantity="head")
    with pytest.raises(EvidenceError, match=r"'router' to 'record.quantities'"):
        code_profile([planted], quantity="expert")


def test_the_code_of_experts_is_which_are_chosen(recorded):
    assert code_quantity(recorded) == "expert"
    states = Choices(recorded, "selection")
    rows = next(states.rows(states.layers[0], [states.phases.index("prompt_last")]))
    assert rows.values.shape == (len(states.labels("trial")), 8)
    assert (rows.values.sum(axis=1) == 2).all()  # of one token the two that are chosen
    answered = next(states.rows(states.layers[0], [states.phases.index("response")]))
    assert (answered.values.sum(axis=1) >= 2).all()
    assert np.isin(answered.values, (0, 1)).all()


def test_without_units_there_is_no_code(planted):
    assert code_quantity([planted]) == "preactivation"
    with pytest.raises(EvidenceError, match="must be of recorded units"):
        code_quantity([])
