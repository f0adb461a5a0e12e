"""Sensitive units: known series, texts in chunks, chance."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.dynamics import sensitive_units
from lmri.information.dynamics.sensitive import variability


def test_a_unit_that_swings_is_first_and_a_constant_one_is_0():
    activity = np.array([[0, 1, 0, 1], [5, 5, 5, 5], [0, 0, 0, 1]]).T
    # Variances .25 and 3/16, changes 3 and 1.
    np.testing.assert_allclose(variability(activity)[0], [0.75, 0, 3 / 16])
    found = sensitive_units([activity], share=0.5)
    assert found["rank"].values.tolist() == [0, 2, 1]
    assert found["selected"].values.tolist() == [True, False, True]
    assert not sensitive_units([np.ones((4, 3))])["selected"].any()


def test_only_the_last_checkpoints_count():
    early = np.r_[[0, 9, 0, 9], [1, 1, 1, 1]][:, None]
    assert variability(early)[0, 0] == 0
    assert variability(early, changes=6)[0, 0] > 0


def test_scale(generator):
    activity = generator.standard_normal((6, 5))
    np.testing.assert_allclose(variability(2 * activity), 8 * variability(activity))


def test_texts_in_chunks_are_averaged(generator):
    texts = generator.standard_normal((20, 4, 30)) * np.linspace(0.5, 2, 30)
    whole, parts = sensitive_units([texts]), sensitive_units(np.array_split(texts, 7))
    np.testing.assert_allclose(whole["variability"], variability(texts).mean(axis=0))
    np.testing.assert_allclose(parts["variability"], whole["variability"])
    assert whole.attrs["texts"] == parts.attrs["texts"] == 20
    assert whole.attrs["halves"] > 0.8
    assert whole.attrs["flags"] == ""
    assert int(whole["selected"].sum()) == 6


def test_a_ranking_of_noise_is_flagged(generator):
    found = sensitive_units([generator.standard_normal((40, 4, 300))])
    assert abs(found.attrs["halves"]) < 0.25
    assert found.attrs["flags"] == "instability"


def test_what_has_no_sensitive_units():
    with pytest.raises(EvidenceError, match=r"at least 4 checkpoints\. Got the shape \(1, 3, 2\)"):
        sensitive_units([np.ones((3, 2))])
    with pytest.raises(EvidenceError, match="Got none"):
        sensitive_units([])
    with pytest.raises(EvidenceError, match=r"same in every text. Got 2 and 3"):
        sensitive_units([np.ones((4, 2)), np.ones((4, 2)), np.ones((4, 3))])
    with pytest.raises(EvidenceError, match="must be finite"):
        sensitive_units([np.full((4, 2), np.nan)])
    with pytest.raises(EvidenceError, match="'share' of the sensitive units"):
        sensitive_units([np.ones((4, 2))], share=0)
