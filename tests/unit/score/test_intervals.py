"""Intervals over carriers."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binomtest

from lmri.score import Resampler, carrier_columns, joint_carriers


def grid(places: int, years: int) -> pd.DataFrame:
    rows = [(f"p{p}", f"y{y}") for p, y in product(range(places), range(years))]
    return pd.DataFrame(rows, columns=["carrier_place", "carrier_year"])


def test_the_interval_of_one_carrier_is_that_of_its_means():
    # Trials repeat their place's value: the bootstrap must see 8 values, not 80.
    rng = np.random.default_rng(0)
    values = rng.normal(size=8)
    carriers = pd.DataFrame({"carrier_place": np.repeat([f"p{i}" for i in range(8)], 10)})
    effect = Resampler(carriers, 20000, seed=0).effect(np.repeat(values, 10), 0.95)
    means = rng.choice(values, size=(20000, 8)).mean(axis=1)
    assert effect.mean == pytest.approx(values.mean())
    assert [effect.low, effect.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.03)
    assert (effect.n, effect.n_carriers) == (80, 8)


def test_crossed_carriers_widen_the_interval_over_that_of_trials():
    carriers = grid(10, 10)
    rng = np.random.default_rng(1)
    by_place = rng.normal(size=10)[pd.factorize(carriers["carrier_place"])[0]]
    by_year = rng.normal(size=10)[pd.factorize(carriers["carrier_year"])[0]]
    differences = by_place + by_year
    effect = Resampler(carriers, 4000, seed=0).effect(differences, 0.95)
    trials = pd.DataFrame({"carrier_trial": [str(i) for i in range(100)]})
    naive = Resampler(trials, 4000, seed=0).effect(differences, 0.95)
    assert effect.high - effect.low > 2 * (naive.high - naive.low)


def test_the_interval_covers_a_null_effect_as_often_as_it_says():
    rng = np.random.default_rng(2)
    carriers = grid(12, 10)
    places, years = (pd.factorize(carriers[c])[0] for c in carriers)
    covered = 0
    for seed in range(200):
        noise = rng.normal(size=12)[places] + rng.normal(size=10)[years]
        effect = Resampler(carriers, 400, seed).effect(noise + rng.normal(size=120), 0.95)
        covered += effect.low <= 0 <= effect.high
    assert covered >= 176  # 1 % point of 200 draws at .92: the bootstrap of 10 values is small


def changed_trials(rng, spread: float) -> np.ndarray:
    """Trials of 10 places x 12 years change with probability .10, unevenly by place and year."""
    log_odds = spread * (rng.normal(size=10)[:, None] + rng.normal(size=12)).reshape(-1)
    drawn = rng.normal(size=20000) * spread * np.sqrt(2)
    mean = brentq(lambda m: expit(m + drawn).mean() - 0.1, -20, 0)
    return -(rng.random(120) < expit(mean + log_odds)).astype(float)


def test_intervals_of_unevenly_changed_trials_cover_about_as_often_as_they_say():
    carriers, each_trial = grid(10, 12), pd.DataFrame({"carrier_trial": np.arange(120)})
    rng, covered = np.random.default_rng(5), np.zeros(2)
    for seed in range(150):
        differences = changed_trials(rng, spread=1.0)
        effects = [
            Resampler(c, 200, seed).effect(differences, 0.95) for c in (carriers, each_trial)
        ]
        covered += [effect.low <= -0.1 <= effect.high for effect in effects]
    by_carrier, by_trial = covered / 150
    assert 0.92 <= by_carrier < 1
    assert by_trial < 0.85  # the trials are not independent


def test_no_variation_gives_the_bound_of_no_event_in_independent_trials():
    effect = Resampler(grid(10, 15), 100, seed=0).effect(np.zeros(150), 0.95)
    assert effect.high == pytest.approx(binomtest(0, 150).proportion_ci(0.95).high)
    assert effect.low == -effect.high


def test_no_variation_keeps_the_bound_by_carrier_beside():
    # Ten places that each change all of their trials or none: the interval would be far too short.
    effect = Resampler(grid(10, 15), 100, seed=0).effect(np.zeros(150), 0.95)
    assert effect.carrier_bound == pytest.approx(binomtest(0, 10).proportion_ci(0.95).high)
    varied = Resampler(grid(10, 15), 100, seed=0).effect(np.eye(150)[0], 0.95)
    assert np.isnan(varied.carrier_bound)


def test_a_score_without_bounds_has_no_interval_without_variation():
    resampler = Resampler(grid(10, 12), 100, seed=0)
    effect = resampler.effect(np.full(120, -3.5), 0.95, is_rate=False)
    assert effect.mean == -3.5
    assert np.isnan([effect.low, effect.high, effect.carrier_bound]).all()
    logits = np.linspace(-7, -3, 120)
    assert resampler.effect(logits, 0.95, is_rate=False) == resampler.effect(logits, 0.95)


def test_bounds_of_rates_stay_within_one():
    effect = Resampler(grid(10, 12), 100, seed=0).effect(np.ones(120), 0.95)
    assert (effect.mean, effect.high) == (1, 1)
    assert effect.low == pytest.approx(0.9697, abs=1e-4)


def test_the_same_seed_gives_the_same_bits():
    differences = np.random.default_rng(3).normal(size=120)
    first, again = (Resampler(grid(10, 12), 500, 7).effect(differences, 0.95) for _ in range(2))
    assert first == again


def test_carriers_of_other_tasks_are_left_out():
    trials = pd.DataFrame({"carrier_place": ["a", "b"], "carrier_words": [None, None], "x": [1, 2]})
    assert list(carrier_columns(trials).columns) == ["carrier_place"]


def test_carriers_of_several_tasks_are_all_there_and_missing_where_a_task_has_none():
    trials = pd.DataFrame(
        {
            "trial": ["t0", "t1", "t2", "t3"],
            "task": ["events", "relations", "events", "plain"],
            "carrier_place": ["oslo", "oslo", "rome", None],
            "carrier_year": ["1901", None, "1902", None],
        },
        index=[3, 1, 2, 0],
    )
    joint = joint_carriers(trials)
    assert joint["carrier_place"].tolist()[:3] == ["oslo", "oslo", "rome"]  # one place in two tasks
    assert joint["carrier_year"].dropna().to_dict() == {3: "1901", 2: "1902"}
    assert joint["trial of plain"].dropna().to_dict() == {0: "t3"}
    assert joint["carrier_place"].isna().sum() == 1


def test_an_effect_that_varies_with_the_second_carrier_of_two_tasks_is_as_uncertain_as_that():
    # Over the first carriers, which come with every year, the effect would be sure.
    years = np.tile(np.arange(8), 16)
    trials = pd.DataFrame({"task": np.repeat(["a", "b"], 64), "trial": np.arange(128)})
    trials["carrier_place"] = [f"{n // 8}" for n in range(128)]
    trials["carrier_year"] = years
    effect = Resampler(joint_carriers(trials), 2000, 0).effect(years.astype(float), 0.95)
    first = Resampler(trials[["carrier_place"]], 2000, 0).effect(years.astype(float), 0.95)
    assert first.high - first.low < 1e-9
    assert effect.high - effect.low > 2.5  # 2 * 1.96 * 2.29 / sqrt(8) is 3.2
