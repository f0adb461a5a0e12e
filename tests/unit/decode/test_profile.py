"""Profiles find what is planted, where it is, and nothing where nothing is."""

import numpy as np
import pytest

from lmri.decode import Question, ask, label_trials, profile
from lmri.decode.labellings import decode_held_out
from lmri.decode.positions import read_position
from lmri.decode.profile import check_cell
from lmri.decode.scoring import balanced_accuracy, permutation_test, scores_of
from lmri.errors import EvidenceError

PHASES = ("content", "prompt_last", "response")
REFUSAL = Question(
    "refusal", "events", sides=(("benign", "near_miss_place", "near_miss_year"), ("sensitive",))
)
CONDITION = Question("condition", "events")


def states_of(rng, trials, layers=2, tokens=6, width=5):
    """Noise in which every place and year has a direction of its own."""
    states = rng.normal(size=(len(trials), tokens, layers, width))
    for name in [own for own in trials if own.startswith("carrier_")]:
        codes = trials[name].astype("category").cat.codes
        states += 0.5 * rng.normal(size=(codes.max() + 1, 1, layers, width))[codes]
    return states


def read(activity, names, question=REFUSAL, carriers=("place", "year"), draws=19, folds=3):
    labelled = label_trials(question, activity.trials, carriers)
    asked = ask(labelled, folds=folds, draws=draws, seed=0)
    left_out = {}
    positions = [read_position(name, PHASES) for name in names]
    return profile(activity, asked, positions, left_out), left_out


def test_the_planted_place_is_found(rng, make_trials, record_states):
    trials = make_trials["crossed"](listed=(6, 6))
    states = states_of(rng, trials)
    states[(trials["condition"] == "sensitive").to_numpy(), 3, 1, 0] += 4  # layer 1, last of prompt
    activity = record_states(trials, states, np.full(len(trials), 4))
    found, left_out = read(activity, ("content", "prompt_last-1", "prompt_last", "response"))
    accuracy = found["value"].sel(statistic="balanced_accuracy", layer=1, position="prompt_last")
    assert accuracy > 0.85
    p_max = found["p_max"].sel(statistic="balanced_accuracy")
    assert p_max.sel(layer=1, position="prompt_last") == 0.05
    assert (p_max.sel(position=["prompt_last-1", "response"]) > 0.05).all()
    assert (found["low"] <= found["value"].sel(statistic="balanced_accuracy")).all()
    assert found["classes"] == ("benign or near_miss_place or near_miss_year (108), sensitive (36)")
    assert left_out == {}


def test_several_classes_are_decoded(rng, make_trials, record_states):
    trials = make_trials["relations"]()
    states = states_of(rng, trials, layers=1)
    for number, name in enumerate(("capital", "river", "dish")):
        states[(trials["condition"] == name).to_numpy(), 1:4, 0, number] += 4
    activity = record_states(trials, states, np.full(len(trials), 4))
    found, _ = read(activity, ("content", "response"), CONDITION, ("place",))
    value = found["value"].sel(statistic="balanced_accuracy", layer=0)
    assert value.sel(position="content") > 0.9
    assert value.sel(position="response") < 0.6
    assert found["chance"] == pytest.approx(1 / 3)


def test_shuffled_labels_are_at_chance_and_selection_outside_folds_is_not(rng, make_trials):
    # 40 entities, 400 units of noise: units chosen on all trials know those that are held out.
    trials = make_trials["entities"](40)
    labelled = label_trials(CONDITION, trials, ("entity",))
    asked = ask(labelled, folds=4, draws=0, seed=0)
    inside, outside = [], []
    for _ in range(10):
        X = rng.normal(size=(40, 400))
        held = decode_held_out(X, asked.labels, asked.folds.folds, 2, components=8)
        inside.append(balanced_accuracy(held, asked.labels)[0])
        difference = X[labelled.codes == 1].mean(axis=0) - X[labelled.codes == 0].mean(axis=0)
        best = np.argsort(-np.abs(difference))[:10]
        held = decode_held_out(X[:, best], asked.labels, asked.folds.folds, 2, components=8)
        outside.append(balanced_accuracy(held, asked.labels)[0])
    assert np.mean(inside) == pytest.approx(0.5, abs=0.06)
    assert np.mean(outside) > 0.8


def test_the_best_of_all_layers_has_a_uniform_p(rng, make_trials):
    # Entities differ, without regard to their class, in each of four layers.
    labelled = label_trials(CONDITION, make_trials["entities"](18, trials=3), ("entity",))
    p_max, p_best, repeats = [], [], 45
    for repeat in range(repeats):
        asked = ask(labelled, folds=3, draws=19, seed=repeat)
        scores = []
        for _ in range(4):
            X = rng.normal(size=(18, 3))[labelled.carriers[0].values]
            X = X + 0.5 * rng.normal(size=(len(X), 3))
            held = decode_held_out(X, asked.labels, asked.folds.folds, 2, shrinkages=(0.5,))
            scores.append(scores_of(held, asked.labels)[1])
        tested = permutation_test(np.stack(scores, axis=-1))
        p_max.append(tested.p_max[tested.value.argmax()])
        p_best.append(tested.p.min())
    steps = np.arange(1, 21) / 20
    differences = [np.mean(np.array(p_max) <= step + 1e-9) - step for step in steps]
    assert np.max(np.abs(differences)) < 1.36 / np.sqrt(repeats)  # Kolmogorov-Smirnov at .05
    assert np.mean(np.array(p_best) <= 0.2) > 0.35  # the p of the best layer alone is not


def test_positions_that_few_trials_have_are_left_out(rng, make_trials, record_states):
    trials = make_trials["entities"](40)
    states = states_of(rng, trials)
    states[10:, 5] = np.nan  # a third token of the response in a quarter of the trials
    activity = record_states(trials, states, np.full(len(trials), 3))
    names = ("prompt_last", "response_first+2")
    found, left_out = read(activity, names, CONDITION, ("entity",))
    assert "needs a token there in at least 20 of 40 trials. Got 10" in left_out["response_first+2"]
    assert np.isnan(found["p_max"].sel(position="response_first+2")).all()
    assert np.isfinite(found["p_max"].sel(position="prompt_last")).all()
    assert (found["n"].sel(position="prompt_last") == 40).all()


def test_constant_units_are_named(rng, make_trials, record_states):
    trials = make_trials["entities"](40)
    states = states_of(rng, trials)
    states[:, 2] = 1.0
    activity = record_states(trials, states, np.full(len(trials), 3))
    _, left_out = read(activity, ("content", "prompt_last"), CONDITION, ("entity",))
    assert left_out["prompt_last"] == (
        "decoding 'condition' of 'events' at layer 1, prompt_last needs at least 1 unit that "
        "varies. All 5 are constant over 40 trials."
    )
    with pytest.raises(EvidenceError, match="All 5 are constant"):
        read(activity, ("prompt_last",), CONDITION, ("entity",))


def test_a_cell_needs_half_of_the_trials(make_trials):
    labelled = label_trials(CONDITION, make_trials["entities"](40), ("entity",))
    with pytest.raises(EvidenceError, match="at least 20 of 40"):
        check_cell(np.full((40, 2), np.nan), labelled, "layer 0, content")
