"""Statistics equal those of trusted libraries, for every labelling at once."""

import numpy as np
import pytest
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import run_glm
from scipy.stats import ttest_ind
from sklearn.metrics import average_precision_score

from lmri.localise import STATISTICS, Sides
from lmri.localise.statistics import average_precisions, hedges_g, is_cut, mean_of

WEIGHTS = np.array([1.0, -1.0])


@pytest.fixture(scope="module")
def labels():
    """Three labellings of 60 rows, of which a few are in no condition."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=(3, 60))
    labels[:, :4] = -1
    return labels


@pytest.fixture(scope="module")
def values():
    """Units of different means and spreads; the fifth has ties."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(60, 5)) * [1, 2, 0.1, 1e3, 1] + [0, 5, 1e4, 0, 0]
    values[:, 4] = np.round(values[:, 4])
    return values


def evaluate(name, labels, values, weights=WEIGHTS, **options):
    return STATISTICS[name].evaluate(Sides(labels, weights, **options), values)


def test_welch_t_is_that_of_scipy(labels, values):
    for own, row in zip(labels, evaluate("welch_t", labels, values), strict=True):
        expected = ttest_ind(values[own == 0], values[own == 1], equal_var=False).statistic
        assert row == pytest.approx(expected, rel=1e-8)
        published = evaluate("published_welch_t", own[None], values)[0]
        both = np.abs(values[own == 0]), np.abs(values[own == 1])
        assert published == pytest.approx(ttest_ind(*both, equal_var=False).statistic, rel=1e-8)


def test_mirrored_labels_give_the_same_score_to_the_last_digits(values):
    # A relabelling that is the own partition must count as one as large.
    own = np.repeat([0, 1], 30)
    for separation in (0.0, 20.0, 100.0):
        shifted = values + separation * values.std(axis=0) * (own == 0)[:, None]
        for name in ("welch_t", "d_prime", "glm_t", "mean_difference"):
            many = evaluate(name, np.stack([own, 1 - own] * 100), shifted)
            alone = evaluate(name, own[None], shifted)[0]
            slack = 1e-9 * np.abs(alone) + 1e-12
            assert (np.abs(np.abs(many) - np.abs(alone)) <= slack).all(), (name, separation)


def test_perfect_separation_is_the_largest_score_and_not_missing():
    own = np.repeat([0, 1], 10)
    values = np.stack([1.0 - own, own * 3.0, np.full(20, 0.1)], axis=1)
    for name in ("welch_t", "d_prime", "glm_t"):
        score = evaluate(name, own[None], values)[0]
        assert (score[0], score[1]) == (1e6, -1e6), name
        assert np.isnan(score[2]), name
    sides = Sides(own[None], np.array([1.0, -1.0]))
    assert is_cut(evaluate("welch_t", own[None], values)[0]).tolist() == [True, True, False]
    assert np.isnan(hedges_g(sides, values)).all()  # no deviation to tell the difference in


def test_differences_weigh_conditions_not_trials(values):
    own = np.repeat([0, 1, 2], [20, 30, 10])
    weights = np.array([1.0, -0.5, -0.5])
    means = np.stack([values[own == c].mean(axis=0) for c in range(3)])
    expected = means[0] - means[1] / 2 - means[2] / 2
    assert evaluate("mean_difference", own[None], values, weights)[0] == pytest.approx(expected)
    control = mean_of(Sides(own[None], np.clip(-weights, 0, None)), values)
    assert control == pytest.approx(means[1:].mean(axis=0))
    interaction = mean_of(Sides(own[None], np.array([2.0, -1.0, -1.0])), values)
    assert interaction == pytest.approx(2 * expected, rel=1e-6)


def test_average_precision_is_that_of_scikit_learn_both_ways_and_with_ties(labels, values):
    up, down = average_precisions(Sides(labels, WEIGHTS), values)
    for row, own in enumerate(labels):
        used = own >= 0
        for unit in range(values.shape[1]):
            x, y = values[used, unit], own[used] == 0
            assert up[row, unit] == pytest.approx(average_precision_score(y, x))
            assert down[row, unit] == pytest.approx(average_precision_score(y, -x))
    score = evaluate("average_precision", labels, values)
    assert (np.abs(score) == np.maximum(up, down)).all()
    assert (np.sign(score) == np.where(up >= down, 1, -1)).all()


def test_average_precision_finds_negative_coding_where_one_side_misses_it():
    rng = np.random.default_rng(2)
    own = np.repeat([0, 1], [200, 800])
    values = rng.normal(size=(1000, 3))
    values[own == 0, 0] += 20
    values[own == 0, 1] -= 20
    up, down = (part[0] for part in average_precisions(Sides(own[None], WEIGHTS), values))
    assert up[0] == 1.0
    assert up[1] < 0.2  # below the prevalence: the published score calls it the least selective
    assert down[1] == 1.0
    assert max(up[2], down[2]) < 0.3


def test_glm_t_with_confounds_is_that_of_nilearn(labels, values):
    rng = np.random.default_rng(3)
    confounds = rng.normal(size=(60, 2))
    scores = evaluate("glm_t", labels, values, confounds=confounds)
    for row, own in enumerate(labels):
        used = own >= 0
        member = (own[used, None] == [0, 1]).astype(float)
        design = np.concatenate([member, confounds[used]], axis=1)
        fitted = run_glm(values[used], design, noise_model="ols")
        expected = compute_contrast(*fitted, np.array([1.0, -1.0, 0.0, 0.0]), stat_type="t").stat()
        assert scores[row] == pytest.approx(expected, rel=1e-8)


def test_a_confound_that_explains_the_difference_leaves_none():
    rng = np.random.default_rng(4)
    own = np.repeat([0, 1], 100)
    length = own * 2.0 + rng.normal(size=200)
    values = (3 * length + rng.normal(size=200))[:, None]
    confounds = (length - length.mean())[:, None]
    assert abs(evaluate("welch_t", own[None], values)[0, 0]) > 10
    assert abs(evaluate("glm_t", own[None], values, confounds=confounds)[0, 0]) < 3


def test_hedges_g_and_d_prime_have_their_closed_forms(values):
    own = np.repeat([0, 1], 30)
    a, b = values[:30], values[30:]
    pooled = np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 2)
    d = (a.mean(axis=0) - b.mean(axis=0)) / pooled
    assert evaluate("d_prime", own[None], values)[0] == pytest.approx(d)
    assert hedges_g(Sides(own[None], WEIGHTS), values)[0] == pytest.approx(d * (1 - 3 / 231))


def test_units_with_gaps_use_the_rows_they_have(values):
    own = np.repeat([0, 1], 30)
    gaps = values.copy()
    gaps[::3, 0] = np.nan
    gaps[:30, 1] = np.nan
    t = evaluate("welch_t", own[None], gaps)[0]
    parts = [gaps[own == c, 0] for c in (0, 1)]
    expected = ttest_ind(*parts, equal_var=False, nan_policy="omit").statistic
    assert t[0] == pytest.approx(expected)
    assert np.isnan(t[1])  # no row of a condition: no score
    assert t[2:] == pytest.approx(evaluate("welch_t", own[None], values)[0, 2:])
    assert np.isnan(evaluate("glm_t", own[None], gaps)[0, :2]).all()


@pytest.mark.parametrize("name", ["welch_t", "d_prime", "glm_t"])
def test_equal_values_are_none_also_where_rows_that_are_not_used_differ(name):
    own = np.repeat([0, 1, -1], 20)
    weights = np.array([1.0, -1 / 3, -1 / 3, -1 / 3])
    spread = np.repeat([0, 1, 2, 3, -1], 12)
    values = np.random.default_rng(0).normal(size=(60, 40))
    values[:40] = 0.1
    assert np.isnan(evaluate(name, own[None], values)).all()
    values = np.random.default_rng(0).normal(size=(60, 40))
    values[:48] = 0.0
    assert np.isnan(evaluate(name, spread[None], values, weights)).all()


@pytest.mark.parametrize("name", ["welch_t", "d_prime", "glm_t"])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4])
def test_without_variation_there_is_no_statistic(name, constant):
    own = np.repeat([0, 1], 30)
    assert np.isnan(evaluate(name, own[None], np.full((60, 2), constant))).all()


def test_absolute_values_miss_units_that_fall():
    # Notes, section 8: 50 of 5,000 units go from a mean of 3 to 2.
    rng = np.random.default_rng(0)
    own = np.repeat([0, 1], 240)
    values = rng.normal(size=(480, 5000))
    values[:, :50] += 3
    values[:240, :50] -= 1
    published = evaluate("published_welch_t", own[None], values)[0]
    signed = np.abs(evaluate("welch_t", own[None], values)[0])
    assert (np.argsort(-published)[:50] < 50).sum() == 0
    assert (np.argsort(-signed)[:50] < 50).sum() == 50
