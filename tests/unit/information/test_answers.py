"""EigenScores against right and wrong answers: planted, shuffled, and of one kind only."""

import numpy as np
import pandas as pd
import pytest

from lmri.errors import EvidenceError
from lmri.information import answers
from lmri.information.answers import answer_profile, told_wrong


def test_the_share_of_pairs_is_counted():
    scores = np.array([[0.0], [1.0], [2.0], [3.0]])
    told, p = told_wrong(scores, np.array([False, True, False, True]), 999, 0)
    assert told.tolist() == [0.75]
    assert 0.3 < p[0] < 1
    reversed_told, _ = told_wrong(-scores, np.array([False, True, False, True]), 9, 0)
    assert reversed_told.tolist() == [0.25]
    ties, _ = told_wrong(np.zeros((4, 1)), np.array([False, True, False, True]), 9, 0)
    assert ties.tolist() == [0.5]


def test_without_wrong_answers_there_is_nothing_to_tell():
    told, p = told_wrong(np.ones((3, 2)), np.zeros(3, dtype=bool), 9, 0)
    assert np.isnan(told).all()
    assert np.isnan(p).all()


@pytest.fixture
def asked(monkeypatch, generator):
    """Forty questions with three answers each; layer 1 spreads where the answers are wrong."""
    import xarray as xr

    wrong = np.arange(40) % 2 == 0
    scores = generator.standard_normal((40, 2))
    scores[:, 1] += 5.0 * wrong
    names = [f"q{i}" for i in range(40)]
    found = xr.Dataset(
        {"eigenscore": (("trial", "layer"), scores), "answers": ("trial", np.full(40, 3))},
        coords={"trial": names, "layer": [0, 1]},
        attrs={"phase": "response"},
    )
    monkeypatch.setattr(answers, "eigenscore_map", lambda recordings, phase: found)

    class Told:
        trials = pd.DataFrame({"trial": np.repeat(names, 3), "exact": np.repeat(~wrong, 3)})

    return [Told()]


def test_wrong_answers_that_spread_are_told(asked):
    found = answer_profile(asked, draws=99)
    assert float(found["told"].sel(layer=1)) > 0.95
    assert float(found["p"].sel(layer=1)) == pytest.approx(0.01)
    assert found["flags"].values.tolist() == ["failed_null", ""]
    assert (found.attrs["questions"], found.attrs["wrong"]) == (40, 20)
    assert found["right"].values.tolist() == [float(i % 2) for i in range(40)]


def test_few_wrong_answers_are_flagged(asked):
    asked[0].trials["exact"] = [i >= 3 for i in range(120)]  # one question is wrong
    found = answer_profile(asked, draws=19)
    assert all("few_samples" in own for own in found["flags"].values)


def test_a_table_without_the_score(asked):
    with pytest.raises(EvidenceError, match="told"):
        answer_profile(asked, score="told")
