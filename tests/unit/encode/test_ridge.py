"""Ridge from moments is himalaya's, and penalties are chosen inside the training folds."""

import numpy as np
import pandas as pd
import pytest
from himalaya.ridge import GroupRidgeCV, RidgeCV
from sklearn.model_selection import PredefinedSplit

from lmri.encode.folds import carrier_folds
from lmri.encode.moments import Trained
from lmri.encode.ridge import ALPHAS, Search, choose, choose_everywhere, fit, search_of
from lmri.encode.scores import held_out_scores


@pytest.fixture
def data(rng, grouped):
    folds = grouped(30, 6)
    X = rng.normal(size=(180, 9)) * rng.uniform(0.5, 3, size=9) + 5
    Y = X @ rng.normal(size=(9, 12)) + rng.normal(size=(180, 12)) * np.linspace(1, 20, 12) - 3
    return X, Y, folds


@pytest.fixture
def unscaled(monkeypatch):
    """Features as they are: himalaya does not standardise them inside folds."""
    scaled = Trained.of

    def of(moments, cells):
        found = scaled(moments, cells)
        one, own = np.ones_like(found.scale), found.scale
        xx, xy = found.xx * np.outer(own, own), found.xy * own[:, None]
        return Trained(found.n, found.x, found.y, one, xx, xy)

    monkeypatch.setattr(Trained, "of", of)


def test_sums_are_those_of_standardised_rows(data, sums):
    X, Y, folds = data
    moments, train = sums(X, Y, folds), np.array([1, 2, 3])
    trained = Trained.of(moments, train)
    rows = np.isin(folds.cell, train)
    assert trained.x == pytest.approx(X[rows].mean(0) - moments.about[0])
    assert trained.scale == pytest.approx(X[rows].std(0))
    Z = (X[rows] - X[rows].mean(0)) / X[rows].std(0)
    assert trained.xy == pytest.approx(Z.T @ (Y[rows] - Y[rows].mean(0)))
    seen, test = trained.seen(moments, 0), folds.cell == 0
    Z = (X[test] - X[rows].mean(0)) / X[rows].std(0)
    assert seen.xx == pytest.approx(Z.T @ Z)
    assert seen.xy == pytest.approx(Z.T @ (Y[test] - Y[rows].mean(0)))
    assert seen.yy == pytest.approx(((Y[test] - Y[rows].mean(0)) ** 2).sum(0))


@pytest.mark.parametrize("bands", [1, 3])
def test_choice_and_weights_are_himalayas(data, sums, bands, unscaled):
    X, Y, folds = data
    sizes = [9 // bands] * bands
    # himalaya divides by the weights: none is 0.
    gammas = np.random.default_rng(1).dirichlet(np.ones(bands), size=6 if bands > 1 else 1)
    search = Search(np.array([0.1, 1, 10, 100, 1000]), gammas)
    split = PredefinedSplit(folds.cell)
    if bands == 1:
        theirs = RidgeCV(alphas=search.alphas, fit_intercept=True, cv=split).fit(X, Y)
        expected = theirs.coef_, theirs.best_alphas_
    else:
        theirs = GroupRidgeCV(
            groups=np.repeat(np.arange(bands), 3),
            solver_params={"n_iter": search.gammas, "alphas": search.alphas, "progress_bar": False},
            fit_intercept=True,
            cv=split,
        ).fit(X, Y)
        expected = theirs.coef_, np.exp(theirs.deltas_)
    moments = sums(X, Y, folds)
    everywhere = np.arange(5)
    chosen = choose(moments, folds, everywhere, search, sizes)
    weights = fit(Trained.of(moments, everywhere), chosen, search, sizes)
    assert weights == pytest.approx(expected[0], rel=1e-6, abs=1e-9)
    if bands == 1:
        assert search.alphas[chosen.alpha] == pytest.approx(expected[1])
    else:
        deltas = search.gammas[chosen.gamma] / search.alphas[chosen.alpha][:, None]
        assert pytest.approx(expected[1], rel=1e-6) == deltas.T


def test_the_penalty_is_blind_to_the_test_fold(data, sums):
    X, Y, folds = data
    search = search_of(1, 1, 0)
    train = np.array([1, 2, 3, 4])
    before = choose(sums(X, Y, folds), folds, train, search, [9])
    Y = Y.copy()
    Y[folds.cell == 0] = 1000
    after = choose(sums(X, Y, folds), folds, train, search, [9])
    assert (before.alpha == after.alpha).all()


def test_shared_training_sets_make_the_same_choice(rng, sums):
    """With two carriers a set of cells is trained on inside several tests."""
    pairs = [(f"p{place}", f"y{year}") for place in range(8) for year in range(8)]
    carriers = pd.DataFrame(pairs, columns=["carrier_place", "carrier_year"])
    folds = carrier_folds(carriers, 4, 0, "a test")
    X, search = rng.normal(size=(64, 5)), search_of(1, 1, 0)
    moments = sums(X, X @ rng.normal(size=(5, 40)) + 3 * rng.normal(size=(64, 40)), folds)
    assert len(folds.nested) < sum(len(folds.inner(train)) for _, train in folds.tests)
    found = choose_everywhere(moments, folds, np.array(ALPHAS))
    for own, (_, train) in zip(found, folds.tests, strict=True):
        assert (own.alpha == choose(moments, folds, train, search, [5]).alpha).all()
        assert (own.gamma == 0).all()


def test_blocks_of_any_size_give_the_same(data, sums):
    X, Y, folds = data
    search = search_of(1, 1, 0)
    one, many = (held_out_scores(sums(X, Y, folds, own), folds, search, [9]) for own in (7, 1000))
    assert one.r2 == pytest.approx(many.r2, abs=1e-9)


def test_scores_are_those_of_predictions(data, sums):
    """Against predictions that are made row by row."""
    X, Y, folds = data
    search, sizes = search_of(2, 3, 0), [4, 5]
    moments = sums(X, Y, folds)
    scores = held_out_scores(moments, folds, search, sizes)
    error, total, split = 0, 0, 0
    correlations = []
    for cell, train in folds.tests:
        trained = Trained.of(moments, train)
        weights = fit(trained, choose(moments, folds, train, search, sizes), search, sizes)
        Z = (X[folds.cell == cell] - moments.about[0] - trained.x) / trained.scale
        y = Y[folds.cell == cell] - moments.about[1] - trained.y
        parts = np.stack([Z[:, :4] @ weights[:4], Z[:, 4:] @ weights[4:]])
        made = parts.sum(0)
        error, total = error + ((y - made) ** 2).sum(0), total + (y**2).sum(0)
        split = split + (2 * y * parts - parts * made).sum(1)
        cov = ((y - y.mean(0)) * made).mean(0)
        correlations.append(cov / y.std(0) / made.std(0))
    assert scores.r2 == pytest.approx(1 - error / total)
    assert scores.split == pytest.approx(split / total)
    assert scores.split.sum(0) == pytest.approx(scores.r2)
    assert scores.r == pytest.approx(np.mean(correlations, axis=0))


def test_crossed_carriers_are_never_shared():
    table = pd.DataFrame(
        [{"carrier_place": f"p{p}", "carrier_year": f"y{y}"} for p in range(9) for y in range(9)]
    )
    folds = carrier_folds(table, 3, 0, "a test")
    assert len(folds.apart) == 9
    for cell, train in folds.tests:
        for column in table:
            tested = set(table[column][folds.cell == cell])
            assert not tested & set(table[column][np.isin(folds.cell, train)])
        assert len(folds.inner(train)) == 4


def test_a_search_begins_with_what_is_simple():
    plain = search_of(3, 1, 0)
    assert plain.gammas.tolist() == [[1 / 3] * 3]
    found = search_of(3, 9, 0).gammas
    assert found[1:4].tolist() == np.eye(3).tolist()
    assert found[4].tolist() == [0, 0.5, 0.5]
    assert len(found) == 9
    assert found.sum(1) == pytest.approx(1)
    assert search_of(1, 9, 0).gammas.tolist() == [[1]]
    assert (search_of(3, 9, 0).gammas == found).all()


def test_a_part_of_a_search_keeps_proportions():
    search = Search(np.ones(1), np.array([[0.2, 0.2, 0.6], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    assert search.of([0, 1]).gammas.tolist() == [[0.5, 0.5]]
    assert search.of([0, 2]).gammas.tolist() == [[0, 1], [0.25, 0.75], [1, 0]]
