"""The two power laws of sparsity: published parameters, intervals, direction, too few points."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.dynamics import compare_sparsity_laws, fit_sparsity_law

TOKENS = np.linspace(0.8, 42, 28)  # billions


def relu(tokens, alpha, b, c, limit):
    return np.exp(-c * tokens**alpha + b) + limit


def silu(tokens, alpha, c, limit):
    return limit - c * tokens**-alpha


def test_a_relu_network_of_known_parameters():
    # Those published for the network of 1.2 billion parameters, on a longer training.
    tokens, true = np.linspace(1, 2000, 60), {"alpha": 0.6, "b": -1.5, "c": 0.2, "limit": 0.0782}
    found = fit_sparsity_law(tokens, relu(tokens, **true))
    assert found.parameters == pytest.approx(true, rel=1e-3)
    assert found.r_squared == pytest.approx(1)
    assert found.parameters["limit"] == pytest.approx(found.curve([1e6])[0], rel=1e-3)


def test_published_parameters_of_a_short_training_are_not_determined(generator):
    # Published for 0.1 billion parameters; noise as in the released points.
    true = {"alpha": 0.101, "b": -0.0151, "c": 3.2, "limit": 0.0614}
    ratios = relu(TOKENS, **true) + 5.6e-4 * generator.standard_normal(28)
    found = fit_sparsity_law(TOKENS, ratios)
    assert "unidentified" in found.flags
    assert found.low["limit"] < true["limit"] < found.high["limit"]
    np.testing.assert_allclose(found.curve(TOKENS), relu(TOKENS, **true), atol=1e-3)
    table = compare_sparsity_laws(TOKENS, ratios)
    assert table.index.tolist() == ["relu", "logarithm"]
    assert table["behind"]["logarithm"] > 2


def test_a_silu_network_of_published_parameters(generator):
    true = {"alpha": 0.479, "c": 0.102, "limit": 0.409}
    found = fit_sparsity_law(TOKENS, silu(TOKENS, **true), "silu")
    assert found.parameters == pytest.approx(true, rel=1e-5)
    ratios = silu(TOKENS, **true) + 1e-3 * generator.standard_normal(28)
    noisy = fit_sparsity_law(TOKENS, ratios, "silu")
    assert all(noisy.low[name] <= true[name] <= noisy.high[name] for name in true)
    assert noisy.flags == ()
    assert compare_sparsity_laws(TOKENS, ratios).index.tolist() == ["silu", "logarithm"]


def test_a_logarithm_is_not_taken_for_a_power_law(generator):
    ratios = 0.3 - 0.02 * np.log(TOKENS) + 1e-3 * generator.standard_normal(28)
    table = compare_sparsity_laws(TOKENS, ratios)
    assert table.index[0] == "logarithm"
    assert np.isnan(table["limit"]["logarithm"])


def test_intervals_cover_the_truth(generator):
    true = {"alpha": 0.479, "c": 0.102, "limit": 0.409}
    covered = []
    for _ in range(40):
        ratios = silu(TOKENS, **true) + 1e-3 * generator.standard_normal(28)
        found = fit_sparsity_law(TOKENS, ratios, "silu")
        covered.append(found.low["limit"] <= true["limit"] <= found.high["limit"])
    assert np.mean(covered) > 0.8


def test_series_that_follow_no_law():
    falling, rising = np.linspace(0.3, 0.2, 28), np.linspace(0.2, 0.3, 28)
    with pytest.raises(EvidenceError, match=r"'relu' must fall .* 0.2 to 0.3: try 'silu'"):
        fit_sparsity_law(TOKENS, rising)
    with pytest.raises(EvidenceError, match=r"'silu' must rise .* 0.3 to 0.2: try 'relu'"):
        fit_sparsity_law(TOKENS, falling, "silu")
    with pytest.raises(EvidenceError, match=r"at least 8 checkpoints\. Got 7"):
        fit_sparsity_law(TOKENS[:7], falling[:7])
    with pytest.raises(EvidenceError, match="without the untrained subject"):
        fit_sparsity_law(np.r_[0, TOKENS[1:]], falling)
    with pytest.raises(EvidenceError, match=r"ratios in .0, 1. that vary"):
        fit_sparsity_law(TOKENS, 100 * falling)
    with pytest.raises(EvidenceError, match="'law' of the sparsity over training"):
        fit_sparsity_law(TOKENS, falling, "gelu")
