"""Bands that change places: the right ones do, the null is uniform, planted units are found."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from lmri.encode.folds import carrier_folds
from lmri.encode.ridge import ALPHAS
from lmri.encode.scores import plain_r2
from lmri.encode.significance import Exchange, exchanges, following, follows, null_scores, p_values


def _crossed(places=6, years=5):
    rows = [(f"p{p}", f"y{y}") for p in range(places) for y in range(years)]
    return pd.DataFrame(rows, columns=["carrier_place", "carrier_year"])


def test_a_band_of_a_carrier_is_exchanged_between_its_values(rng):
    carriers = _crossed()
    value = {f"y{i}": i for i in range(5)}
    band = carriers["carrier_year"].map(value).to_numpy()[:, None]
    found = exchanges(band, carriers, 20, 0)
    assert (found.scheme, found.carriers) == ("between", ("carrier_year",))
    for order in found.orders:
        own = band[order, 0].reshape(6, 5)
        assert (own == own[0]).all()
        assert sorted(own[0]) == [0, 1, 2, 3, 4]


def test_a_band_of_all_carriers_is_exchanged_in_all(rng):
    carriers = _crossed()
    band = rng.normal(size=(30, 2))
    found = exchanges(band, carriers, 20, 0)
    assert found.scheme == "crossed"
    for order in found.orders:
        rows = order.reshape(6, 5)
        assert ((rows // 5) == (rows // 5)[:, :1]).all()
        assert ((rows % 5) == (rows % 5)[:1]).all()
    gap = exchanges(band[1:], carriers[1:], 20, 0)
    assert gap.scheme == "within"


def test_a_band_that_differs_within_a_carrier_stays_there(rng):
    carriers = pd.DataFrame({"carrier_place": np.repeat(["a", "b", "c"], 4)})
    band = np.tile(np.eye(4), (3, 1))
    found = exchanges(band, carriers, 10, 0)
    assert found.scheme == "within"
    assert all((order // 4 == np.arange(12) // 4).all() for order in found.orders)
    assert (np.sort(found.orders) == np.arange(12)).all()


def test_only_what_is_alike_changes_places():
    carriers = _crossed()
    longer = np.isin(carriers["carrier_place"], ["p0", "p1"]).astype(int)
    place = pd.factorize(carriers["carrier_place"])[0][:, None]
    between = exchanges(place, carriers, 10, 0, longer)
    crossed = exchanges(np.arange(30)[:, None], carriers, 10, 0, longer)
    assert (between.scheme, crossed.scheme) == ("between", "crossed")
    for found in (between, crossed):
        assert all((longer[order] == longer).all() for order in found.orders)
        assert any((order != np.arange(30)).any() for order in found.orders)
    assert exchanges(place, carriers, 10, 0, np.arange(30)).scheme == ""
    within = exchanges(np.arange(30)[1:, None], carriers[1:], 10, 0, np.arange(29) % 2)
    assert within.scheme == "within"
    assert all((order % 2 == np.arange(29) % 2).all() for order in within.orders)


def test_what_follows_from_nuisance_is_told_by_group(rng):
    group = np.repeat(np.arange(20), 3)
    nuisance = rng.normal(size=(60, 2)) * [1.0, 1000.0]
    mean, _ = following(np.zeros((60, 1)), nuisance, group)
    assert mean == pytest.approx(nuisance.reshape(20, 3, 2).mean(axis=1).repeat(3, axis=0))
    planted = np.array([[2.0, -1.0], [0.5, 0.003]])
    assert following(mean @ planted + 4, nuisance, group)[1] == pytest.approx(planted)
    few = following(mean @ planted, nuisance, group // 3)
    assert (few[1] == 0).all()
    assert following(mean, np.zeros((60, 0)), group)[1].shape == (0, 2)


def test_a_band_that_follows_from_others_is_told(rng):
    """Classes of places and of years follow from four conditions, and these not from them."""
    place, year = rng.integers(0, 2, size=(2, 80))
    conditions = np.eye(4)[2 * place + year]
    X = np.column_stack([rng.normal(size=80), conditions, 1000.0 * place, year])
    about = X - X.mean(axis=0)
    gram = about.T @ about
    assert follows(gram, np.array([5]))
    assert follows(gram, np.array([5, 6]))
    assert not follows(gram, np.array([1, 2, 3, 4]))
    assert not follows(gram, np.array([0]))


def test_drawn_sums_are_those_of_an_exchanged_design(rng, grouped, sums):
    folds = grouped(12, 4, k=3)
    X, Y = rng.normal(size=(48, 5)), rng.normal(size=(48, 7))
    alphas, columns = np.array(ALPHAS), np.array([1, 3])
    moments = sums(X, Y, folds)
    orders = np.stack([rng.permutation(48) for _ in range(3)])
    exchange, none = Exchange("within", (), orders, np.arange(48)), np.arange(0)
    drawn = null_scores(X, Y, moments, folds, columns, exchange, none, alphas)
    for order, own in zip(orders, drawn, strict=True):
        moved = X.copy()
        moved[:, columns] = X[order][:, columns]
        assert own == pytest.approx(plain_r2(sums(moved, Y, folds), folds, alphas))
    # What follows from nuisance stays where it is.
    nuisance = np.array([0, 2])
    mean, slopes = following(X[:, columns], X[:, nuisance], exchange.group)
    drawn = null_scores(X, Y, moments, folds, columns, exchange, nuisance, alphas)
    moved = X.copy()
    moved[:, columns] = mean @ slopes + (X[:, columns] - mean @ slopes)[orders[0]]
    assert drawn[0] == pytest.approx(plain_r2(sums(moved, Y, folds), folds, alphas))


def _gains(X, Y, folds, sums, nuisance, carriers, draws):
    alphas, told = np.array(ALPHAS), np.arange(nuisance)
    moments = sums(X, Y, folds)
    full, less = plain_r2(moments, folds, alphas), plain_r2(moments.of(told), folds, alphas)
    columns = np.arange(nuisance, X.shape[1])
    found = exchanges(X[:, columns], carriers, draws, 1)
    drawn = null_scores(X, Y, moments, folds, columns, found, told, alphas)
    return p_values(full - less, drawn - less)


@pytest.mark.parametrize("collinear", [0.0, 4.0])
def test_p_is_uniform_where_there_is_nothing(rng, sums, collinear):
    """Carriers have effects of their own; a nuisance moves all units, and may move the band."""
    names = np.repeat([f"v{i:02d}" for i in range(24)], 3)
    carriers = pd.DataFrame({"carrier_item": names})
    p = []
    for seed in range(40):
        folds = carrier_folds(carriers, 4, seed, "a test")
        nuisance = rng.normal(size=(72, 1))
        if collinear:
            nuisance = np.repeat(nuisance[::3], 3, axis=0)
        band = collinear * nuisance + np.repeat(rng.normal(size=(24, 3)), 3, axis=0)
        Y = np.repeat(rng.normal(size=(24, 6)), 3, axis=0) + rng.normal(size=(72, 6))
        Y += (1 + collinear / 2) * nuisance
        X = np.column_stack([nuisance, band])
        p.append(_gains(X, Y, folds, sums, 1, carriers, 39)["p"])
    p = np.concatenate(p)
    assert np.mean(p <= 0.05) < 0.1
    assert kstest(p, "uniform").statistic < 0.12


def test_the_largest_of_many_units_is_as_rare_as_it_says(rng, sums):
    """With the penalties of the data in every draw, 7 to 10 of 30 subjects had such a unit."""
    carriers = pd.DataFrame({"carrier_item": np.repeat([f"v{i:02d}" for i in range(12)], 6)})
    band = np.repeat(np.resize([0.0, 1.0], 12), 6)[:, None]
    with_a_unit = 0
    for seed in range(30):
        folds = carrier_folds(carriers, 4, seed, "a test")
        Y = np.repeat(rng.normal(size=(12, 60)), 6, axis=0) + rng.normal(size=(72, 60))
        X = np.column_stack([rng.normal(size=(72, 2)), band])
        with_a_unit += _gains(X, Y, folds, sums, 2, carriers, 39)["p_max"].min() <= 0.05
    assert with_a_unit <= 4


def test_planted_units_are_found_and_no_others(rng, sums):
    carriers = pd.DataFrame({"carrier_item": np.repeat([f"v{i:02d}" for i in range(30)], 4)})
    folds = carrier_folds(carriers, 5, 0, "a test")
    nuisance = rng.normal(size=(120, 2))
    band = np.repeat(rng.normal(size=(30, 1)), 4, axis=0)
    Y = nuisance @ rng.normal(size=(2, 30)) + rng.normal(size=(120, 30))
    Y[:, :8] += 1.5 * band
    found = _gains(np.column_stack([nuisance, band]), Y, folds, sums, 2, carriers, 99)
    assert (found["p_max"][:8] <= 0.05).all()
    assert (found["q"][:8] <= 0.05).all()
    assert (found["p_max"][8:] > 0.05).sum() >= 21
    assert (found["p_max"] >= found["p"]).all()


def test_units_without_a_score_have_no_p():
    observed = np.array([0.5, np.nan])
    found = p_values(observed, np.array([[0.1, np.nan], [0.2, np.nan], [0.6, np.nan]]))
    assert found["p"][0] == found["p_max"][0] == found["q"][0] == 0.5
    assert np.isnan([found[name][1] for name in found]).all()
    assert np.isnan(p_values(observed, np.zeros((0, 2)))["p"]).all()
