"""Conditions decoded in a new subject through what others share."""

import numpy as np
import pytest

from lmri.align.transfer import ARMS, Halves, transfer
from lmri.errors import EvidenceError

COUNTS = (2, 4, 40)


def curves(halves):
    found = transfer(halves, 2, 5, COUNTS, orders()).mean(axis=1)
    return dict(zip(ARMS, found.T, strict=True))


@pytest.fixture
def halves(planted):
    """A condition in the smallest of five shared dimensions, in trials of two halves."""

    def make(seed=0, **options):
        rng = np.random.default_rng(seed)
        labels = np.tile(["one", "two"], 150)
        shared = 3 * rng.normal(size=(300, 5))
        shared[:, 0] = np.where(labels == "one", 2, -2) + rng.normal(size=300)
        _, subjects = planted(seed, shared=shared, **options)
        fit = slice(0, 200)
        return Halves(
            [own[fit] for own in subjects],
            [own[200:] for own in subjects],
            labels[fit],
            labels[200:],
        )

    return make


def orders(draws=8):
    return [np.random.default_rng(seed).permutation(200) for seed in range(draws)]


def test_an_adapter_beats_a_decoder_of_few_trials(halves):
    found = curves(halves())
    assert (found["adapter"] - found["scratch"])[1] > 0.1
    assert (found["adapter"] - found["permuted"] > 0.2).all()
    assert found["permuted"] == pytest.approx(0.5, abs=0.1)
    assert found["adapter"][-1] == pytest.approx(found["all"][-1], abs=0.06)
    assert found["adapter"][-1] > 0.85


def test_an_adapter_to_what_is_not_shared_is_no_help(halves):
    found = curves(halves(unrelated=(2,)))
    assert (np.abs(found["adapter"] - 0.5) < 0.1).all()
    assert (np.abs(found["adapter"] - found["permuted"]) < 0.1).all()


def test_counts_that_a_condition_does_not_have_are_missing(halves):
    found = transfer(halves(), 0, 5, (4, 101), orders(2))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_the_same_seed_gives_the_same_trials(halves):
    first, second = (transfer(halves(), 1, 5, (4,), orders(2)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_what_cannot_be_shared_is_refused(halves):
    own = halves()
    alone = Halves(own.fit[:1], own.score[:1], own.fit_labels, own.score_labels)
    with pytest.raises(EvidenceError, match=r"2 subjects or more.*Got 1"):
        transfer(alone, 0, 5, (4,), orders(1))
    one = Halves(own.fit, own.score, np.full(200, "one"), np.full(100, "one"))
    with pytest.raises(EvidenceError, match=r"2 conditions or more"):
        transfer(one, 0, 5, (4,), orders(1))
    with pytest.raises(EvidenceError, match=r"from 1 to 100, those of the rarest. Got .500."):
        transfer(own, 0, 5, (500,), orders(1))
    with pytest.raises(EvidenceError, match=r"Got 60 with 48 units"):
        transfer(own, 0, 60, (4,), orders(1))
