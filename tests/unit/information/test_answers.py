"""EigenScores against right and wrong answers: planted, shuffled, and of one kind only."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lmri.errors import EvidenceError
from lmri.information import answers
from lmri.information.answers import answer_profile, told_wrong
from lmri.information.eigenscore import eigenscore

WRONG = np.array([[False], [True], [False], [True]])


def test_the_share_of_pairs_is_counted():
    scores = np.arange(4.0).reshape(4, 1, 1)
    told, p = told_wrong(scores, WRONG, 999, 0)
    assert told.tolist() == [0.75]
    assert 0.3 < p[0] < 1
    reversed_told, _ = told_wrong(-scores, WRONG, 9, 0)
    assert reversed_told.tolist() == [0.25]
    ties, _ = told_wrong(np.zeros((4, 1, 1)), WRONG, 9, 0)
    assert ties.tolist() == [0.5]


def test_every_answer_is_judged_by_the_scores_without_it():
    scores = np.stack([np.arange(4.0), -np.arange(4.0)], axis=1)[..., None]
    told, _ = told_wrong(scores, np.hstack([WRONG, WRONG]), 9, 0)
    assert told.tolist() == [0.5]  # .75 by the first, .25 by the second
    only, _ = told_wrong(scores, np.hstack([WRONG, np.ones((4, 1), bool)]), 9, 0)
    assert only.tolist() == [0.75]  # the second is wrong to every question: nothing to tell


def test_without_wrong_answers_there_is_nothing_to_tell():
    told, p = told_wrong(np.ones((3, 4, 2)), np.zeros((3, 4), dtype=bool), 9, 0)
    assert np.isnan(told).all()
    assert np.isnan(p).all()


@pytest.fixture
def asked(monkeypatch, generator):
    """Forty questions with three answers each; layer 1 spreads where the answers are wrong."""
    wrong = np.arange(40) % 2 == 0
    scores = generator.standard_normal((40, 3, 2))
    scores[:, :, 1] += 5.0 * wrong[:, None]
    names = [f"q{i}" for i in range(40)]
    found = xr.Dataset(
        {
            "eigenscore": (("trial", "layer"), scores.mean(axis=1)),
            "without": (("trial", "answer", "layer"), scores),
            "answers": ("trial", np.full(40, 3)),
        },
        coords={"trial": names, "layer": [0, 1]},
        attrs={"phase": "response"},
    )
    monkeypatch.setattr(answers, "eigenscore_map", lambda recordings, phase: found)

    class Told:
        trials = pd.DataFrame({"trial": np.repeat(names, 3), "exact": np.repeat(~wrong, 3)})

    return [Told()]


def test_how_many_answers_are_right_does_not_tell_which(monkeypatch, generator):
    # Every question is as hard: one answer of three in four is right, and right ones are one text.
    right = generator.random((120, 5)) < 0.75
    states = np.where(right[..., None], 0.0, generator.standard_normal((120, 5, 32)))
    score = [eigenscore(own + 1e-6) for own in states]
    without = [[eigenscore(np.delete(own, i, 0) + 1e-6) for i in range(5)] for own in states]
    names = [f"q{i}" for i in range(120)]
    found = xr.Dataset(
        {
            "eigenscore": (("trial", "layer"), np.array(score)[:, None]),
            "without": (("trial", "answer", "layer"), np.array(without)[..., None]),
            "answers": ("trial", np.full(120, 5)),
        },
        coords={"trial": names, "layer": [0]},
        attrs={"phase": "response"},
    )
    monkeypatch.setattr(answers, "eigenscore_map", lambda recordings, phase: found)

    class Told:
        trials = pd.DataFrame({"trial": np.repeat(names, 5), "exact": right.ravel()})

    # The score of all five says it, of questions that do not differ.
    of_all, _ = told_wrong(np.array(score)[:, None, None], right.mean(1)[:, None] < 0.75, 99, 0)
    assert of_all[0] > 0.95
    found = answer_profile([Told()], draws=199)
    assert float(found["p"][0]) > 0.05
    assert abs(float(found["told"][0]) - 0.5) < 0.1


def test_wrong_answers_that_spread_are_told(asked):
    found = answer_profile(asked, draws=99)
    assert float(found["told"].sel(layer=1)) > 0.95
    assert float(found["p"].sel(layer=1)) == pytest.approx(0.01)
    assert found["flags"].values.tolist() == ["failed_null", ""]
    assert (found.attrs["questions"], found.attrs["wrong"]) == (40, 60)
    assert found["right"].values.tolist() == [float(i % 2) for i in range(40)]


def test_few_wrong_answers_are_flagged(asked):
    asked[0].trials["exact"] = [i >= 3 for i in range(120)]  # one question is wrong
    found = answer_profile(asked, draws=19)
    assert all("few_samples" in own for own in found["flags"].values)


def test_a_table_without_the_score(asked):
    with pytest.raises(EvidenceError, match="told"):
        answer_profile(asked, score="told")
