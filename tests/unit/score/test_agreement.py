"""Agreement beyond chance: known answers, and intervals that know their carriers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from lmri.errors import ScoreError
from lmri.score import agreement_by_arm, cohens_kappa
from lmri.score.sheets import hash_of


def test_kappa_of_known_tables():
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: (.7 - .5) / (1 - .5).
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohens_kappa(first, second)[0] == pytest.approx(0.4)
    assert cohens_kappa(first, first)[0] == pytest.approx(1)
    assert np.isnan(cohens_kappa(np.ones(4), np.ones(4))[0])
    assert cohens_kappa(np.array([1, 0]), np.array([0, 1]))[0] == pytest.approx(-1)


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 2, 40)
    second = np.where(rng.random(40) < 0.7, first, rng.integers(0, 2, 40))
    assert cohens_kappa(first, second)[0] == pytest.approx(cohen_kappa_score(first, second))
    counts = rng.multinomial(40, np.full(40, 1 / 40))
    wanted = cohen_kappa_score(first, second, sample_weight=counts)
    assert cohens_kappa(first, second, counts[None] / 40)[0] == pytest.approx(wanted)


def labelled(by_hand, scores, arms, carriers):
    answers = [f"answer {n}" for n in range(len(by_hand))]
    labels = pd.DataFrame(
        {
            "arm": arms,
            "trial": [f"t{n}" for n in range(len(by_hand))],
            "carrier_place": carriers,
            "label": np.asarray(by_hand, dtype=float),
            "answer_hash": [hash_of(answer) for answer in answers],
        }
    )
    return labels, pd.DataFrame({"answer": answers, "own": np.asarray(scores, dtype=float)})


def test_every_arm_has_its_agreement():
    by_hand = [1, 1, 0, 0] * 10
    scores = [1, 0.5, 0.4, 0.6] * 5 + by_hand[:20]
    arms = ["finding"] * 20 + ["intact"] * 20
    labels, own = labelled(by_hand, scores, arms, [f"p{n // 4}" for n in range(40)])
    found = agreement_by_arm(labels, own, "own").set_index("arm")
    assert found.index.tolist() == ["finding", "intact", "all"]
    assert found["n"].tolist() == [20, 20, 40]
    assert found["n_carriers"].tolist() == [5, 5, 10]
    assert found["agreement"].tolist() == pytest.approx([0.75, 1, 0.875])
    assert found.loc["finding", "kappa"] == pytest.approx(0.5)
    assert found.loc["finding", "scored"] == 0.75 and found.loc["finding", "labelled"] == 0.5
    # Every carrier disagrees alike: over carriers there is nothing to vary.
    assert found.loc["finding", ["kappa_low", "kappa_high"]].tolist() == pytest.approx([0.5, 0.5])
    perfect = found.loc["intact"]
    assert perfect["kappa"] == pytest.approx(1) and np.isnan(perfect["kappa_low"])
    assert 0.7 < perfect["agreement_low"] < 0.9 and perfect["agreement_high"] == 1
    strict = agreement_by_arm(labels, own, "own", threshold=0.55).set_index("arm")
    assert strict.loc["finding", "agreement"] == 0.5


def test_the_interval_is_over_carriers_and_not_over_trials():
    rng = np.random.default_rng(0)
    by_hand = rng.integers(0, 2, 200)
    wrong = np.repeat(rng.random(20) < 0.3, 10)  # whole carriers are scored wrongly
    scores = np.where(wrong, 1 - by_hand, by_hand)
    places = [f"p{n // 10}" for n in range(200)]
    labels, own = labelled(by_hand, scores, ["a"] * 200, places)
    clustered = agreement_by_arm(labels, own, "own").iloc[0]
    alone = agreement_by_arm(labels.drop(columns="carrier_place"), own, "own").iloc[0]
    assert clustered["kappa"] == alone["kappa"]
    assert clustered["kappa_low"] < clustered["kappa"] < clustered["kappa_high"]
    widths = [row["kappa_high"] - row["kappa_low"] for row in (clustered, alone)]
    assert widths[0] > 1.5 * widths[1]


def test_scores_that_do_not_apply_are_left_out_and_other_responses_refused():
    labels, own = labelled([1, 0, 1], [1, np.nan, 0], ["a"] * 3, ["p"] * 3)
    found = agreement_by_arm(labels, own, "own").iloc[0]
    assert (found["n"], found["agreement"]) == (2, 0.5)
    with pytest.raises(ScoreError, match="must apply to a labelled response"):
        agreement_by_arm(labels, own.assign(own=np.nan), "own")
    with pytest.raises(ScoreError, match="Got another answer in row 1: 'other'"):
        agreement_by_arm(labels, own.assign(answer=["answer 0", "other", "answer 2"]), "own")
    with pytest.raises(ScoreError, match="Got the row 2, past the last"):
        agreement_by_arm(labels, own[:2], "own")
