"""Profiles that compare classes of trials: planted differences, carriers, cells without any."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.class_profiles import rate_reduction_profile, unit_entropy_profile

TRIALS = 120


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


def test_a_carrier_of_two_classes_is_a_reason(planted):
    found = rate_reduction_profile([planted], carrier="carrier_place", draws=9)
    assert "A carrier must have one class" in str(found["reason"][0, 0].values)


def test_entropy_of_units_falls_where_they_fall_silent(planted):
    found = unit_entropy_profile([planted], "sensitive", split=None, bins=4)
    own = found.sel(phase="response", layer=1)
    assert float(own["entropy"].sel({"class": "sensitive"})[4]) > 1.6
    assert float(own["entropy"].sel({"class": "benign"})[4]) < 1.3
    # Half of the reference sets the edges: elsewhere the other half is as any class.
    elsewhere = found["entropy"].sel(phase="content").mean(["layer", "unit"])
    assert float(abs(elsewhere[0] - elsewhere[1])) < 0.05
    counted = found["samples"].sel(phase="content", layer=0)
    assert counted.sel({"class": "sensitive"}) == counted.sel({"class": "benign"}) / 2
    assert found["samples"].sel(phase="think").values.tolist() == [[0, 0], [0, 0]]
    assert np.isnan(found["entropy"].sel(phase="think")).all()


def test_tables_without_the_class(planted):
    with pytest.raises(EvidenceError, match=r"lacks the column.s. 'topic'"):
        rate_reduction_profile([planted], column="topic")
    with pytest.raises(EvidenceError, match=r"one of benign, sensitive. Got 'secret'"):
        unit_entropy_profile([planted], "secret")
