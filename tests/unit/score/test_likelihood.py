"""Scores from log-probabilities: known answers from readers that are tables."""

import numpy as np
import pytest

from lmri.score import choice_log_likelihoods, forced_choice, refusal_log_odds


def reader_of(table):
    """Log-probabilities of tokens, the same at every place."""

    def read(rows, continuations):
        return [
            np.log([table[row][token] for token in own])
            for row, own in zip(rows, continuations, strict=True)
        ]

    return read


def test_log_odds_of_one_and_of_several_first_tokens():
    reader = reader_of([{5: 0.8, 6: 0.1}, {5: 0.5, 6: 0.25}, {}])
    found = refusal_log_odds(reader, [[5], [5, 6, 5], []])
    np.testing.assert_allclose(found[:2], np.log([0.8 / 0.2, 0.75 / 0.25]))
    assert np.isnan(found[2])
    assert np.isnan(refusal_log_odds(reader, [[]])).all()


def test_certainty_is_finite_or_infinite_but_never_undefined():
    found = refusal_log_odds(reader_of([{5: 1.0}, {5: 1e-300}]), [[5], [5]])
    assert found[0] > 500
    assert found[1] == pytest.approx(np.log(1e-300))


def test_the_likeliest_choice_and_its_margin():
    reader = reader_of([{1: 0.5, 2: 0.25, 3: 0.125}] * 4)
    choices = [[[1], [2]], [[2, 2], [1, 1], [3]], [[1, 1], [2]], [[1]]]
    likelihoods = choice_log_likelihoods(reader, choices)
    np.testing.assert_allclose(likelihoods[1], np.log([1 / 16, 1 / 4, 1 / 8]))
    right, margin = forced_choice(likelihoods)
    np.testing.assert_allclose(right, [1, 0, 0.5, np.nan])
    np.testing.assert_allclose(margin, [np.log(2), np.log(1 / 4), 0, np.nan], atol=1e-12)
    assert choice_log_likelihoods(reader, []) == []
