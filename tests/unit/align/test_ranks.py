"""p of a score among its draws."""

import numpy as np

from lmri.align.ranks import rank_p


def test_draws_that_could_not_be_made_count_against_the_claim():
    assert rank_p(np.array([0.1, 0.9, 0.2]), 0.5) == 0.5
    assert rank_p(np.array([np.nan, np.nan, 0.2]), 0.5) == 0.75
    assert rank_p(np.array([0.5 + 1e-15]), 0.5) == 1


def test_no_score_and_no_draws_have_no_p():
    assert np.isnan(rank_p(np.zeros(9), np.nan))
    assert np.isnan(rank_p(np.zeros(0), 0.5))
