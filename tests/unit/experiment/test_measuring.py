"""What experiments share."""

import numpy as np
import pytest
from planted_model import PLANTED

from lmri.errors import EvidenceError
from lmri.experiment.measuring import (
    carriers_of,
    change_of,
    contrast_of,
    prompts_of,
    random_of,
    scores_under,
    stated,
    trials_of,
)
from lmri.intervene import INTACT, Plan


@pytest.fixture(scope="module")
def ground(make_ground):
    return make_ground()


def test_trials_are_of_their_split_and_drawn_reproducibly(ground):
    every = trials_of(ground, "events", "evaluation", ["benign"])
    assert set(every["split"]) == {"evaluation"}
    assert set(every["condition"]) == {"benign"}
    few = trials_of(ground, "events", "evaluation", ["benign"], most=10)
    assert len(few) == 10
    assert few.equals(trials_of(ground, "events", "evaluation", ["benign"], most=10))
    order = [every["trial"].tolist().index(trial) for trial in few["trial"]]
    assert order == sorted(order)
    assert few.index.tolist() == list(range(10))


def test_random_numbers_are_of_their_purpose(ground):
    first = random_of(ground, "a", 1).normal(size=3)
    assert (first == random_of(ground, "a", 1).normal(size=3)).all()
    assert (first != random_of(ground, "a", 2).normal(size=3)).any()


def test_scores_under_plans_are_those_of_the_planted_subject(ground):
    trials = trials_of(ground, "events", "evaluation")
    off = Plan("zero", (PLANTED,), "neuron")
    intact, without = scores_under(ground, trials, [INTACT, off], "refusal_onset")
    sensitive = (trials["condition"] == "sensitive").to_numpy()
    assert (intact == sensitive).all()
    assert not without.any()
    assert len(prompts_of(ground, trials)) == len(trials)


def test_a_statement_has_the_p_of_its_carriers_or_of_its_rank(ground):
    trials = trials_of(ground, "events", "evaluation", ["sensitive"])
    carriers = carriers_of(ground, trials)
    rng = np.random.default_rng(0)
    change = change_of(ground, carriers, 1 + rng.normal(size=len(trials)), is_rate=False)
    alone = stated("a", "It does.", change, score="x")
    assert alone.p == pytest.approx(2 / 401)
    assert alone.low < alone.effect < alone.high
    assert (alone.n, alone.n_carriers) == (len(trials), trials["carrier_place"].nunique())
    ranked = stated("a", "It does.", change, score="x", among=(1.0, [0.0] * 18 + [2.0]))
    assert ranked.p == pytest.approx(2 / 20)
    nothing = change_of(ground, carriers, rng.normal(size=len(trials)), is_rate=False)
    assert stated("a", "It does.", nothing, score="x").p > 0.05


def test_ground_that_an_experiment_cannot_use_is_refused(ground, make_ground):
    with pytest.raises(EvidenceError, match="must have trials of the split 'evaluation'"):
        trials_of(ground, "events", "evaluation", ["poem"])
    with pytest.raises(EvidenceError, match="'task'"):
        trials_of(ground, "poems", "evaluation")
    with pytest.raises(EvidenceError, match="'contrast'"):
        contrast_of(ground, "poems")
    trials = trials_of(ground, "events", "evaluation").drop(columns="carrier_place")
    with pytest.raises(EvidenceError, match="must have carriers"):
        carriers_of(ground, trials)
