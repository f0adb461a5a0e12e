"""Early warnings: a system that slows down, one that does not, surrogates."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from lmri.errors import EvidenceError
from lmri.information.dynamics import early_warning
from lmri.information.dynamics.early_warning import phase_surrogates
from lmri.information.dynamics.series import lag_one


def autoregressive(generator, strengths):
    values = np.zeros(len(strengths))
    for t in range(1, len(values)):
        values[t] = strengths[t] * values[t - 1] + generator.standard_normal()
    return values


def test_slowing_down_is_seen_in_both_indicators(generator):
    steps = np.arange(200)
    values = 0.02 * steps + autoregressive(generator, np.linspace(0, 0.97, 200))
    found = early_warning(steps, values, draws=199)
    assert (found["tau"] > 0.5).all()
    assert (found["p"] <= 0.05).all()
    assert found["flags"].values.tolist() == ["", ""]
    assert found["tau"].values == pytest.approx(
        [
            kendalltau(range(101), found[name].values[99:]).statistic
            for name in ("variance", "autocorrelation")
        ]
    )
    assert np.isnan(found["variance"][:99]).all()
    own = found["residual"].values[-100:]
    assert float(found["variance"][-1]) == pytest.approx(own.var(ddof=1))
    assert float(found["autocorrelation"][-1]) == pytest.approx(lag_one(own))


@pytest.mark.parametrize("strength", [0.0, 0.8])
def test_a_steady_system_seldom_warns(generator, strength):
    warned = []
    for seed in range(60):
        values = autoregressive(generator, np.full(80, strength))
        found = early_warning(range(80), values, draws=99, seed=seed)
        warned.append((found["p"] <= 0.05).values)
    assert (np.mean(warned, axis=0) < 0.15).all()


def test_a_jump_inside_the_series_must_be_left_out():
    values = np.random.default_rng(1).standard_normal(100)
    values[80:] += 30
    inside = early_warning(range(100), values, draws=99)
    assert float(inside["p"].sel(indicator="variance")) <= 0.05
    before = early_warning(range(100), values, until=79, draws=99)
    assert before["step"].values.max() == 79
    assert float(before["p"].sel(indicator="variance")) > 0.05


def test_surrogates_keep_the_spectrum(generator):
    for n in (50, 51):
        values = autoregressive(generator, np.full(n, 0.7))
        found = phase_surrogates(values, 20, generator)
        assert found.shape == (20, n)
        np.testing.assert_allclose(found.mean(axis=1), values.mean())
        np.testing.assert_allclose(found.var(axis=1), values.var())
        amplitude = np.abs(np.fft.rfft(found, axis=1))
        np.testing.assert_allclose(amplitude, [np.abs(np.fft.rfft(values))] * 20, atol=1e-9)
        assert not np.allclose(found, values)


def test_few_and_uneven_checkpoints_are_flagged(generator):
    steps = np.r_[0, 2 ** np.arange(15)]
    found = early_warning(steps, generator.standard_normal(16), draws=9)
    assert found["flags"].values[0].endswith("few_checkpoints,uneven_steps")


def test_series_without_a_warning(generator):
    with pytest.raises(EvidenceError, match=r"at least 12 checkpoints\. Got 10"):
        early_warning(range(20), range(20), until=9)
    with pytest.raises(EvidenceError, match="All are the same"):
        early_warning(range(20), np.ones(20))
    with pytest.raises(EvidenceError, match="'window' of the early warning must be in"):
        early_warning(range(20), generator.standard_normal(20), window=1.0)
    with pytest.raises(EvidenceError, match="one number at each step"):
        early_warning(range(21), range(20))
