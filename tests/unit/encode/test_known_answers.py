"""Planted activity: the ceiling is reached, shares are told apart, noise stays noise."""

import numpy as np
import pandas as pd
import pytest
from himalaya.scoring import correlation_score

from lmri.encode.bands import Layout
from lmri.encode.ceiling import explainable_variance
from lmri.encode.folds import Folds
from lmri.encode.partition import partition
from lmri.encode.ridge import search_of
from lmri.encode.scores import held_out_scores

UNITS = 20


def _planted(rng, X, share):
    """Units of which a share of the variance follows from the features."""
    signal = X @ rng.normal(size=(X.shape[1], UNITS))
    signal /= signal.std(0)
    return np.sqrt(share) * signal + np.sqrt(1 - share) * rng.normal(size=signal.shape)


@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.5, 0.8])
def test_scores_reach_the_planted_ceiling(share, rng, grouped, sums):
    folds = grouped(200, 6)
    X = rng.normal(size=(1200, 30))
    Y = _planted(rng, X, share)
    scores = held_out_scores(sums(X, Y, folds), folds, search_of(1, 1, 0), [30])
    assert scores.r2.mean() == pytest.approx(share, abs=0.03)
    assert scores.r.mean() == pytest.approx(np.sqrt(share), abs=0.06)


@pytest.mark.parametrize("shares", [(1, 0), (0.5, 0.5), (0, 1)])
def test_the_split_finds_the_planted_bands(shares, rng, grouped, sums):
    folds = grouped(200, 6)
    X = rng.normal(size=(1200, 30))
    parts = [
        np.sqrt(own) * _planted(rng, X[:, columns], 1)
        for own, columns in zip(shares, (slice(0, 10), slice(10, 30)), strict=True)
    ]
    Y = sum(parts) + rng.normal(size=(1200, UNITS))
    scores = held_out_scores(sums(X, Y, folds), folds, search_of(2, 8, 0), [10, 20])
    assert scores.split.mean(1) == pytest.approx(np.array(shares) / 2, abs=0.03)
    plain = held_out_scores(sums(X, Y, folds), folds, search_of(2, 1, 0), [10, 20])
    # Weights of bands help where one of them says nothing, and do no harm otherwise.
    gain = scores.r2.mean() - plain.r2.mean()
    assert gain > (0.002 if 0 in shares else -0.005)


def test_unique_and_shared_variance_of_correlated_bands(rng, grouped, sums):
    """a and b share a source, n is nuisance: what b copies of it is not its own."""
    folds = grouped(300, 6)
    n, a, own = rng.normal(size=(3, 1800))
    b = (a + own) / np.sqrt(2)
    X = np.column_stack([n, a, b])
    Y = np.sqrt(0.3) * n[:, None] + np.sqrt(0.3) * a[:, None]
    Y = Y + np.sqrt(0.4) * rng.normal(size=(1800, UNITS))
    layout = Layout(("n", "a", "b"), ("nuisance", "interest", "interest"), (1, 1, 1))
    found = partition(sums(X, Y, folds), folds, search_of(3, 1, 0), layout)
    assert found.nuisance.mean() == pytest.approx(0.3, abs=0.03)
    assert found.alone.mean(1) == pytest.approx([0.3, 0.15], abs=0.03)
    assert found.unique.mean(1) == pytest.approx([0.15, 0], abs=0.03)
    assert found.pairs == (("a", "b"),)
    assert found.shared.mean(1) == pytest.approx([0.15], abs=0.03)
    assert found.full.r2.mean() == pytest.approx(0.6, abs=0.03)


def _walks(rng, carriers, tokens, columns, rho=0.95):
    """Autocorrelated series, one for each carrier."""
    walk = rng.normal(size=(carriers, tokens, columns)) / np.sqrt(1 - rho**2)
    for token in range(1, tokens):
        walk[:, token] = rho * walk[:, token - 1] + rng.normal(size=(carriers, columns))
    return walk.reshape(-1, columns)


def test_grouped_folds_find_nothing_in_independent_series_and_shuffled_ones_do(rng, grouped, sums):
    folds = grouped(60, 20)
    X, Y = _walks(rng, 60, 20, 40), _walks(rng, 60, 20, UNITS)
    search = search_of(1, 1, 0)
    honest = held_out_scores(sums(X, Y, folds), folds, search, [40])
    assert abs(np.mean(honest.r)) < 0.05
    assert honest.r2.max() < 0.05
    shuffled = Folds(rng.permutation(folds.cell), folds.apart, folds.carriers)
    leaky = held_out_scores(sums(X, Y, shuffled), shuffled, search, [40])
    assert leaky.r.mean() > 0.3
    assert leaky.r2.mean() > 0.1


def test_offsets_of_carriers_leak_as_well(rng, grouped, sums):
    folds = grouped(25, 16)
    X = np.repeat(rng.normal(size=(25, 12)), 16, axis=0) + 0.3 * rng.normal(size=(400, 12))
    Y = np.repeat(rng.normal(size=(25, UNITS)), 16, axis=0) + rng.normal(size=(400, UNITS))
    search = search_of(1, 1, 0)
    honest = held_out_scores(sums(X, Y, folds), folds, search, [12])
    shuffled = Folds(rng.permutation(folds.cell), folds.apart, folds.carriers)
    leaky = held_out_scores(sums(X, Y, shuffled), shuffled, search, [12])
    assert honest.r2.mean() < 0.02
    assert leaky.r2.mean() > 0.1


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.8])
def test_explainable_variance_is_not_made_of_noise(share, rng):
    stimulus = np.repeat(np.arange(400), 6)
    signal = np.repeat(rng.normal(size=(400, UNITS)), 6, axis=0)
    Y = np.sqrt(share) * signal + np.sqrt(1 - share) * rng.normal(size=signal.shape)
    assert explainable_variance(Y, stimulus).mean() == pytest.approx(share, abs=0.02)
    means = Y.reshape(400, 6, UNITS).mean(1).var(0) / Y.var(0)
    assert means.mean() == pytest.approx(share + (1 - share) / 6, abs=0.02)  # .168 of noise alone
    corrected = means - (1 - means) / 5
    assert corrected == pytest.approx(explainable_variance(Y, stimulus), abs=0.01)


def test_a_feature_that_stands_still_in_training_decides_nothing(rng, grouped, sums):
    """One carrier is far away in a feature that is almost the same in all others."""
    folds = grouped(40, 5)
    X = np.column_stack([rng.normal(size=200), 1e-4 * rng.normal(size=200)])
    X[:5, 1] += 1
    Y = X[:, :1] + rng.normal(size=(200, UNITS))
    scores = held_out_scores(sums(X, Y, folds), folds, search_of(1, 1, 0), [2])
    assert scores.r2.min() > 0.2
    assert scores.split.shape == (1, UNITS)


def test_a_constant_unit_has_no_scores(rng, grouped, sums):
    folds = grouped(40, 5)
    X, Y = rng.normal(size=(200, 3)), rng.normal(size=(200, 2)) + 1e4
    Y[:, 1] = 1e4
    scores = held_out_scores(sums(X, Y, folds), folds, search_of(1, 1, 0), [3])
    assert np.isfinite(scores.r2[0])
    assert np.isnan(scores.r2[1])
    assert np.isnan(scores.r[1])


def test_r_is_the_usual_correlation_where_folds_are_alike(rng, grouped, sums):
    folds = grouped(200, 6)
    X = rng.normal(size=(1200, 5))
    Y = _planted(rng, X, 0.4)
    scores = held_out_scores(sums(X, Y, folds), folds, search_of(1, 1, 0), [5])
    coefficients = np.linalg.lstsq(X, Y, rcond=None)[0]
    assert scores.r == pytest.approx(correlation_score(Y, X @ coefficients), abs=0.03)


def test_repeats_of_unequal_number(rng):
    stimulus = np.concatenate([np.repeat(np.arange(200), 2), np.repeat(np.arange(200, 400), 5)])
    signal = rng.normal(size=(400, UNITS))[stimulus]
    Y = np.sqrt(0.3) * signal + np.sqrt(0.7) * rng.normal(size=signal.shape)
    once = np.concatenate([Y, rng.normal(size=(50, UNITS)) * 9])
    codes = np.concatenate([stimulus, np.full(50, -1)])
    assert explainable_variance(once, codes).mean() == pytest.approx(0.3, abs=0.03)


def test_one_row_of_each_stimulus_is_no_repeat():
    from lmri.encode.ceiling import honest_repeats

    table = pd.DataFrame(
        {
            "trial": [f"t{i // 2}" for i in range(40)],
            "repeat": [i % 2 for i in range(40)],
            "condition": "x",
            "family": "one",
            "carrier_item": [f"i{i // 2}" for i in range(40)],
        }
    )
    sampled = honest_repeats(table, "response")
    assert (sampled.kind, sampled.n) == ("sampled", 20)
    # The same forward pass twice, before anything is sampled.
    none = honest_repeats(table, "prompt_last")
    assert none.n == 0
    assert "no ceiling" in none.reason
    table["family"] = ["one", "two"] * 20
    assert honest_repeats(table, "prompt_last").kind == "paraphrase"
