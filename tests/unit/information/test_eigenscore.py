"""EigenScore: closed forms, scale, the correct Chebyshev approximation, recordings with repeats."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.eigenscore import (
    efficient_eigenscore,
    eigenscore,
    eigenscore_map,
    log_determinant_score,
)


def test_known_determinants(generator):
    assert log_determinant_score(np.diag([1, np.e, np.e**2]), 0.0) == pytest.approx(1.0, abs=1e-14)
    embeddings = generator.standard_normal((5, 30))
    covariance = 29 * np.cov(embeddings)  # numpy centres each row, as J_d does
    expected = np.linalg.slogdet(covariance + 1e-3 * np.eye(5))[1] / 5
    assert eigenscore(embeddings) == pytest.approx(expected)


def test_scale_adds_its_logarithm(generator):
    embeddings = generator.standard_normal((6, 40))
    difference = eigenscore(10 * embeddings, 0.0) - eigenscore(embeddings, 0.0)
    assert difference == pytest.approx(2 * np.log(10))
    # A constant added to all features of an answer is none of its content.
    shifted = embeddings + generator.standard_normal((6, 1))
    assert eigenscore(shifted) == pytest.approx(eigenscore(embeddings))


def test_answers_that_are_alike_score_low(generator):
    one = generator.standard_normal(40)
    alike = np.stack([one] * 6)
    assert eigenscore(alike) == pytest.approx(
        (np.log(6 * 40 * one.var()) + 5 * np.log(1e-3)) / 6, abs=1e-3
    )
    assert eigenscore(alike, 0.0) < -5
    assert eigenscore(generator.standard_normal((6, 40))) > eigenscore(alike) + 5


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_the_efficient_score_keeps_the_scale(generator, scale):
    # The released code gives -.04 and -.05 here.
    embeddings = generator.standard_normal((40, 500)) * np.linspace(0.5, 1.5, 40)[:, None]
    embeddings = scale * embeddings
    exact = eigenscore(embeddings, scale**2)
    found = efficient_eigenscore(embeddings, scale**2, degree=300, probes=400)
    assert found.value == pytest.approx(exact, rel=0.005)
    assert abs(found.value - exact) < 4 * found.error + found.truncation
    assert found.flags == ()
    assert found.truncation < 1e-3


def test_of_equal_eigenvalues_it_is_exact():
    embeddings = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]])  # rows centred and orthogonal
    found = efficient_eigenscore(embeddings, 1.0, degree=40, probes=8)
    assert found.value == pytest.approx(np.log(3), abs=1e-12)
    assert found.error == pytest.approx(0, abs=1e-12)


def test_a_polynomial_of_too_low_degree_is_flagged(generator):
    found = efficient_eigenscore(generator.standard_normal((10, 200)), 1e-3, degree=10)
    assert found.flags == ("unconverged",)
    assert found.truncation > 1


def test_questions_with_repeats_are_scored(recorded, generator, record_texts, monkeypatch):
    hidden, layers = 12, 2
    states = generator.standard_normal((5, 1, 2, layers, 2, hidden))
    states[4] = np.nan  # an answer without tokens
    arrays = {
        "phase": np.array(["response"]),
        "statistic": np.array(["mean", "last"]),
        "layer": np.arange(layers),
        "place": np.array(["before", "after"]),
        "residual": states,
    }
    arrays = {f"pooled/residual/{name}": values for name, values in arrays.items()}
    recording = record_texts([(np.arange(2), np.zeros(2, int))] * 5, block=2, **arrays)
    recording.trials["trial"] = ["a", "b", "a", "a", "b"]
    found = eigenscore_map([recording])
    assert found["answers"].values.tolist() == [3, 1]
    expected = [eigenscore(states[[0, 2, 3], 0, 1, layer, 1]) for layer in range(layers)]
    np.testing.assert_allclose(found["eigenscore"].sel(trial="a"), expected)
    assert np.isnan(found["eigenscore"].sel(trial="b")).all()
    second = [eigenscore(states[[0, 3], 0, 1, layer, 1]) for layer in range(layers)]
    np.testing.assert_allclose(found["without"].sel(trial="a", answer=1), second)
    assert np.isnan(found["without"].sel(trial="b")).all()
    both = eigenscore_map([recording], embedding="mean_and_last")["eigenscore"].sel(trial="a")
    mixed = states[[0, 2, 3], 0, :, 0, 1].mean(axis=1)
    assert float(both[0]) == pytest.approx(eigenscore(mixed))
    monkeypatch.setattr("lmri.information.eigenscore.MEMORY", 1)  # a question at a time
    assert eigenscore_map([recording]).identical(found)
    with pytest.raises(EvidenceError, match=r"None has two: set 'record.repeats' above 1"):
        eigenscore_map(recorded)


def test_what_has_no_score(generator, record_texts):
    with pytest.raises(EvidenceError, match=r"at least 2 answers .* Got the shape \(1, 4\)"):
        eigenscore(np.ones((1, 4)))
    with pytest.raises(EvidenceError, match="not finite"):
        eigenscore(np.full((3, 4), np.nan))
    with pytest.raises(EvidenceError, match=r"must be at least 0\. Got -1"):
        eigenscore(np.ones((2, 4)), -1)
    with pytest.raises(EvidenceError, match="'alpha' above 0"):
        efficient_eigenscore(generator.standard_normal((3, 4)), 0.0)
    recording = record_texts([(np.arange(2), np.zeros(2, int))])
    with pytest.raises(EvidenceError, match=r"add 'residual' to 'record.quantities'"):
        eigenscore_map([recording])
    with pytest.raises(EvidenceError, match="'embedding' of the EigenScore must be one of"):
        eigenscore_map([recording], embedding="first")
