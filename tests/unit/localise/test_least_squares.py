"""Least squares: the statistics of nilearn, from blocks of rows, whatever the means."""

import numpy as np
import pytest
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import run_glm
from scipy import stats

from lmri.errors import EvidenceError
from lmri.localise.least_squares import LeastSquares, least_squares, least_squares_stream

COLUMNS = ("a", "b", "c", "position", "constant")
ROWS, UNITS = 600, 70


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [
            rng.normal(size=(ROWS, 2)),
            np.arange(ROWS) >= 300,  # constant in the first blocks
            np.arange(ROWS) % 40,
            np.ones(ROWS),
        ]
    )
    return X, rng.normal(size=(ROWS, UNITS)) + X[:, :1] * rng.normal(size=UNITS)


def theirs(X, Y, weights):
    return compute_contrast(*run_glm(Y, X, noise_model="ols"), weights)


def cut(X, Y, rows):
    return ((X[i : i + rows], Y[i : i + rows]) for i in range(0, len(X), rows))


CONTRASTS = [np.array([1.0, -1, 0, 0, 0]), np.array([0, 0, 2.0, 0, 0]), np.eye(5)[:3]]


@pytest.mark.parametrize("weights", CONTRASTS, ids=["a - b", "c", "F"])
@pytest.mark.parametrize("mean", [0, 1e4])
def test_everything_equals_nilearn(data, weights, mean):
    X, Y = data[0], data[1] + mean
    expected = theirs(X, Y, weights)
    for fit in (least_squares(X, Y, COLUMNS), least_squares_stream(cut(X, Y, 50), COLUMNS)):
        contrast = fit.contrast(weights)
        assert contrast.statistic == pytest.approx(expected.stat(), abs=1e-8, rel=1e-9)
        assert contrast.effect == pytest.approx(expected.effect, abs=1e-8)
        assert contrast.variance == pytest.approx(expected.variance, rel=1e-8)
        assert contrast.p() == pytest.approx(expected.p_value(), abs=1e-8)
        assert contrast.z() == pytest.approx(expected.z_score(), abs=1e-8)
        assert contrast.df == expected.dof == ROWS - 5


def test_without_an_intercept_a_large_mean_is_not_taken_out(data):
    X, Y = data[0][:, :4], data[1] + 50
    expected = theirs(X, Y, np.eye(4)[0])
    fit = least_squares_stream(cut(X, Y, 50), COLUMNS[:4])
    assert fit.contrast({"a": 1}).statistic == pytest.approx(expected.stat(), abs=1e-8)


@pytest.mark.parametrize("mean", [0, 1e4])
def test_ones_that_only_the_first_blocks_have_are_no_intercept(mean):
    rng = np.random.default_rng(3)
    X = np.column_stack([np.arange(300) < 120, np.arange(300) >= 90, rng.normal(size=300)])
    X = X.astype(float)  # both columns are 1 in rows 90 to 119: ones are lost in the third block
    Y = rng.normal(size=(300, 9)) + mean
    expected = theirs(X, Y, np.array([1.0, -1, 0])).stat()
    fit = least_squares_stream(cut(X, Y, 45), ("early", "late", "noise"))
    assert fit.contrast({"early": 1, "late": -1}).statistic == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("columns", [5, 4], ids=["intercept", "no intercept"])
def test_panels_of_any_size_give_the_same(data, monkeypatch, dtype, columns):
    X, Y = data[0][:, :columns], data[1] + 9
    expected = theirs(X, Y, np.eye(columns)[0]).stat()
    monkeypatch.setattr("lmri.localise.least_squares.WIDEST", 16)
    monkeypatch.setattr("lmri.localise.least_squares.PANEL", 16 * 7 * np.dtype(dtype).itemsize)
    t = least_squares_stream(cut(X, Y, 50), COLUMNS[:columns], dtype=dtype).contrast({"a": 1})
    tolerance = 1e-8 if dtype == np.float64 else 1e-4
    assert t.statistic == pytest.approx(expected, abs=tolerance)


def test_an_intercept_in_the_span_is_found_without_a_column_of_ones(data):
    X, Y = data[0].copy(), data[1] + 1e4
    X[:, 4] -= X[:, 2]  # the two halves, as two columns that sum to ones
    expected = theirs(X, Y, np.eye(5)[2])
    fit = least_squares_stream(cut(X, Y, 50), COLUMNS)
    assert fit.contrast({"c": 1}).effect == pytest.approx(expected.effect, rel=1e-9)
    assert fit.contrast(CONTRASTS[0]).statistic == pytest.approx(
        theirs(X, Y, CONTRASTS[0]).stat(), abs=1e-8
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_data_of_less_precision_are_not_rounded_again(data, dtype):
    X, Y = data[0], (data[1] + 9).astype(dtype)
    expected = theirs(X, Y.astype(np.float64), CONTRASTS[0]).stat()
    t = least_squares_stream(cut(X, Y, 50), COLUMNS).contrast(CONTRASTS[0]).statistic
    assert t == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("mean", [0, 1e3])
def test_single_precision_gives_t_to_four_digits(data, mean):
    X, Y = data[0], (data[1] + mean).astype(np.float32)
    expected = theirs(X, Y.astype(np.float64), CONTRASTS[0]).stat()
    for fit in (
        least_squares(X, Y, COLUMNS, dtype=np.float32),
        least_squares_stream(cut(X, Y, 50), COLUMNS, dtype=np.float32),
    ):
        t = fit.contrast(CONTRASTS[0]).statistic
        assert t == pytest.approx(expected, abs=1e-4, rel=1e-5)
        assert not np.array_equal(t, expected)


def test_a_t_of_two_groups_is_that_of_students_test():
    rng = np.random.default_rng(1)
    group = np.repeat([0.0, 1.0], [12, 20])
    Y = rng.normal(size=(32, 3))
    contrast = least_squares(np.column_stack([group, np.ones(32)]), Y, ("group", "constant"))
    own = contrast.contrast({"group": 1})
    expected = stats.ttest_ind(Y[12:], Y[:12])
    assert own.statistic == pytest.approx(expected.statistic)
    assert own.p_two_sided() == pytest.approx(expected.pvalue)
    f = contrast.contrast(np.array([[1.0, 0.0]]))
    assert f.statistic == pytest.approx(own.statistic**2)
    assert f.p_two_sided() == pytest.approx(own.p_two_sided())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_unit_has_no_statistic(data, dtype):
    X, Y = data[0], data[1].astype(dtype)
    Y[:, 3], Y[:, 5], Y[:, 7] = 0.1, 0, X[:, 0]
    Y[9, 8], Y[40, 9], Y[41, 9] = np.nan, np.inf, -np.inf
    contrast = least_squares_stream(cut(X, Y, 50), COLUMNS, dtype=dtype).contrast({"a": 1})
    assert np.flatnonzero(np.isnan(contrast.statistic)).tolist() == [3, 5, 7, 8, 9]
    assert np.isfinite(np.delete(contrast.z(), [3, 5, 7, 8, 9])).all()


def test_dependent_columns_are_named(data):
    X, Y = data
    X = np.column_stack([X, 1 - X[:, 2]])
    with pytest.raises(EvidenceError, match=r"'c', 'constant', 'not_c' .* linearly dependent"):
        least_squares(X, Y, (*COLUMNS, "not_c"))
    X[:, 5] = 0
    with pytest.raises(EvidenceError, match="columns 'zero' of"):
        least_squares_stream(cut(X, Y, 50), (*COLUMNS, "zero"))


def test_contrasts_that_say_nothing_are_refused(data):
    fit = least_squares(*data, COLUMNS)
    with pytest.raises(EvidenceError, match="'column' of the contrast must be one of 'a'"):
        fit.contrast({"d": 1})
    with pytest.raises(EvidenceError, match=r"each of the 5 columns.*Got the shape \(3,\)"):
        fit.contrast(np.ones(3))
    for rows in (np.zeros(5), np.array([[1.0, 0, 0, 0, 0], [2.0, 0, 0, 0, 0]])):
        with pytest.raises(EvidenceError, match="linearly independent and not 0"):
            fit.contrast(rows)


def test_blocks_that_do_not_fit_are_refused(data):
    X, Y = data
    sums = LeastSquares(COLUMNS)
    sums.add(X[:5], Y[:5])
    with pytest.raises(EvidenceError, match=r"5 columns of the design and 70 units.*\(5, 9\)"):
        sums.add(X[:5], Y[:5, :9])
    with pytest.raises(EvidenceError, match="not finite"):
        sums.add(np.full((5, 5), np.nan), Y[:5])
    with pytest.raises(EvidenceError, match=r"at least 6 rows\. Got 5"):
        sums.fit()


def test_tokens_that_go_together_fool_least_squares_and_their_means_do_not():
    """AR(1) noise of .8 within trials of 20 tokens; the condition is one of the trial."""
    rng = np.random.default_rng(2)
    trials, tokens, units = 30, 20, 400
    noise = rng.normal(size=(trials, tokens, units))
    for i in range(1, tokens):
        noise[:, i] = 0.8 * noise[:, i - 1] + 0.6 * noise[:, i]
    condition = (np.arange(trials) % 2).astype(float)
    design = np.column_stack([condition, np.ones(trials)])
    names = ("condition", "constant")
    per_token = least_squares(
        np.repeat(design, tokens, axis=0), noise.reshape(-1, units), names
    ).contrast({"condition": 1})
    per_trial = least_squares(design, noise.mean(axis=1), names).contrast({"condition": 1})
    assert (per_token.p_two_sided() < 0.05).mean() > 0.4
    assert (per_trial.p_two_sided() < 0.05).mean() < 0.07
