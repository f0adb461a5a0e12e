"""Steering the planted subject, whose refusals are one direction, and a contrast of nothing."""

import numpy as np
import pandas as pd
import pytest
from planted_model import IS_SENSITIVE, REFUSE, SENSITIVE, make_trials

from lmri.config import SteeringOptions
from lmri.errors import EvidenceError
from lmri.experiment import steering
from lmri.experiment.measuring import trials_of
from lmri.experiment.steering.directions import (
    Sides,
    random_directions,
    sham_directions,
    sides_of,
    vector_of,
)

OPTIONS = SteeringOptions(
    contrast="refusal", vectors=("mean_difference",), scales=(0.5, 1.0, 2.0), draws=59, trials=40
)


@pytest.fixture(scope="module")
def ground(make_ground):
    return make_ground()


@pytest.fixture(scope="module")
def sides(ground):
    return sides_of(
        ground, *(trials_of(ground, "events", "selection", [c]) for c in ("sensitive", "benign"))
    )


def test_vectors_lead_to_where_refusals_are(ground, sides):
    difference = vector_of(ground, sides, "mean_difference")
    assert np.abs(difference[0]).argmax() == IS_SENSITIVE
    assert np.abs(difference[1]).argmax() == REFUSE
    component = vector_of(ground, sides, "control_vector")
    cosine = (component * difference).sum(1) / np.prod(
        [np.linalg.norm(own, axis=1) for own in (component, difference)], axis=0
    )
    assert (cosine > 0.9).all()
    uncertain = vector_of(ground, sides, "entropy_weighted")
    np.testing.assert_allclose(
        np.linalg.norm(uncertain, axis=1), np.linalg.norm(difference, axis=1)
    )


def test_controls_are_as_long_and_stand_for_nothing(ground, sides):
    random = random_directions(ground, 3.0, 20, "a")
    sham = sham_directions(ground, sides, 1, 3.0, 20, "a")
    for own in (random, sham):
        assert own.shape == (20, 64)
        np.testing.assert_allclose(np.linalg.norm(own, axis=1), 3.0)
        assert (np.abs(own[:, REFUSE]) < 2).all()
    assert (random == random_directions(ground, 3.0, 20, "a")).all()
    assert (random != random_directions(ground, 3.0, 20, "b")).any()


def _of_places(values, trials=24):
    """Sides whose control trials are of so many places, and of years that go with these."""
    numbers = [number % values for number in range(trials)]
    carriers = pd.DataFrame(
        {
            "carrier_place": [f"p{number}" for number in numbers],
            "carrier_year": [f"y{number}" for number in numbers],
        }
    )
    states = np.random.default_rng(0).normal(size=(trials, 1, 64))
    return Sides(states, states, np.zeros(2 * trials), carriers)


@pytest.mark.parametrize(("values", "halves"), [(1, 0), (2, 2), (4, 6), (6, 20), (10, 40)])
def test_sham_vectors_are_of_distinct_halves(ground, values, halves):
    found = sham_directions(ground, _of_places(values), 0, 1.0, 40, "a")
    assert len(found) == halves
    assert len(np.unique(found.round(9), axis=0)) == halves


def test_with_too_few_carriers_for_sham_vectors_no_vector_is_tested(make_ground):
    trials = make_trials()
    # Two places of the control condition in each split.
    few = trials[trials["carrier_place"].str[1:].astype(int) < SENSITIVE + 6]
    outcome = steering.run(make_ground(trials=few.reset_index(drop=True)), OPTIONS)
    induces = outcome.statements[0]
    assert not induces.testable
    assert "halves for 2 sham vectors; 59 are needed" in induces.reason


def test_the_behaviour_is_switched_on_and_off_more_than_by_controls(ground):
    outcome = steering.run(ground, OPTIONS)
    claims = {own.claim: own for own in outcome.statements}
    assert list(claims) == ["induces_mean_difference", "removes_mean_difference"] + [
        "spares_mean_difference"
    ]
    for name in ("induces_mean_difference", "removes_mean_difference"):
        assert claims[name].effect > 0.5
        assert claims[name].p == pytest.approx(1 / 60)
    effects = outcome.tables["effects"].set_index(["aim", "arm"])
    induced = effects.loc[("mean difference induces", "vector")]
    assert (induced["intact"], induced["value"]) == (0.0, 1.0)
    assert effects.loc[("mean difference removes", "vector"), "change"] == -1.0
    assert abs(effects.loc[("mean difference induces", "random"), "change"]) < 0.2
    rows = outcome.tables["row_space"].set_index("aim")
    assert (rows["kept"] > 0.9).all()
    scales = outcome.tables["scales"]
    unmoved = scales[scales["scale"] == 0]
    assert (unmoved["divergence"] == 0).all()
    assert scales["divergence"].max() > 0.1
    assert steering.run(ground, OPTIONS).statements == outcome.statements


def test_bystanders_that_are_never_right_are_not_spared(make_ground):
    trials = make_trials()
    trials.loc[trials["condition"] == "benign", "reference"] = "no"
    outcome = steering.run(make_ground(trials=trials), OPTIONS)
    spares = outcome.statements[-1]
    assert (outcome.tables["bystanders"]["intact"] == 0).all()
    assert spares.reason == "intact nothing is there to be lost: 'events, benign'"


def test_a_vector_that_unsettles_raises_the_entropy(ground):
    options = SteeringOptions(
        contrast="refusal",
        vectors=("entropy_weighted",),
        scales=(0.5, 1.0, 2.0, 4.0),
        target_effect=0.1,
        draws=59,
        trials=40,
    )
    outcome = steering.run(ground, options)
    (claim,) = outcome.statements
    assert claim.claim == "unsettles_entropy_weighted"
    assert claim.score == "entropy"
    rows = outcome.tables["uncertainty"].set_index("arm")
    assert rows.loc["vector", "change"] > 0.1
    # The benign are the uncertain ones: the way there is away from refusals.
    assert rows.loc["vector", "cosine"] < -0.9
    assert "effects" not in outcome.tables


def test_a_contrast_of_nothing_steers_nothing(make_ground):
    trials = make_trials()
    benign = trials[trials["condition"] == "benign"].reset_index(drop=True)
    half = benign["carrier_place"].str[1:].astype(int) % 2 == 0
    benign["condition"] = half.map({True: "sensitive", False: "benign"})
    outcome = steering.run(make_ground(trials=benign), OPTIONS)
    assert all(own.p > 0.05 for own in outcome.statements if own.testable)
    untested = [own for own in outcome.statements if not own.testable]
    assert untested
    assert "no layer and scale reaches the target" in untested[0].reason


def test_a_contrast_that_is_not_there_is_named(ground):
    with pytest.raises(EvidenceError, match="'contrast'"):
        steering.run(ground, SteeringOptions(contrast="poems"))
