"""The five-parameter curve of massive activations: both regimes, its peak, noise."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.dynamics import fit_massive_curve, peak_step

STEPS = np.r_[0, 2.0 ** np.arange(10), np.arange(1000, 143_001, 4000)]  # as of Pythia
TRUE = {"A": 300.0, "decay": 0.05, "rate": 1e-3, "offset": 1.0, "K": 50.0}


def curve(steps, A, decay, rate, offset, K):
    x = rate * steps + offset
    return A * np.exp(-decay * x) * np.log(x) + K


def test_an_early_peak_is_recovered(generator):
    ratios = curve(STEPS, **TRUE) + 2 * generator.standard_normal(len(STEPS))
    found = fit_massive_curve(STEPS, ratios)
    for name, value in TRUE.items():
        assert found.low[name] <= value <= found.high[name]
        assert found.parameters[name] == pytest.approx(value, rel=0.1)
    dense = np.linspace(0, 143_000, 100_001)
    assert peak_step(found) == pytest.approx(dense[curve(dense, **TRUE).argmax()], rel=0.1)
    assert found.r_squared > 0.999
    assert found.error == pytest.approx(2, rel=0.3)
    assert found.flags == ()


def test_logarithmic_growth_has_a_curve_but_no_parameters(generator):
    growth = {**TRUE, "decay": 0.0}
    ratios = curve(STEPS, **growth) + 2 * generator.standard_normal(len(STEPS))
    found = fit_massive_curve(STEPS, ratios)
    np.testing.assert_allclose(found.curve(STEPS), curve(STEPS, **growth), atol=6)
    assert "unidentified" in found.flags
    assert peak_step(found) > 143_000


def test_intervals_cover_the_truth(generator):
    covered = []
    for _ in range(30):
        found = fit_massive_curve(STEPS, curve(STEPS, **TRUE) + generator.standard_normal(47))
        covered.append(found.low["decay"] <= TRUE["decay"] <= found.high["decay"])
    assert np.mean(covered) > 0.8


def test_noise_is_not_explained(generator):
    found = fit_massive_curve(STEPS, generator.standard_normal(len(STEPS)))
    assert found.r_squared < 0.5
    assert "unidentified" in found.flags


def test_series_without_a_curve():
    with pytest.raises(EvidenceError, match=r"at least 10 checkpoints\. Got 9"):
        fit_massive_curve(range(9), range(9))
    with pytest.raises(EvidenceError, match="All are the same"):
        fit_massive_curve(range(20), np.ones(20))
    with pytest.raises(EvidenceError, match="finite numbers"):
        fit_massive_curve(range(20), [np.inf] * 20)
