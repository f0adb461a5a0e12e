"""Facets: planted kinds of contexts are told apart, and random ones are not."""

import numpy as np
import pytest

from lmri.examples import facets_of


def contexts(rng, words, count, length=8):
    """Contexts that draw their tokens from a few words."""
    return [rng.choice(words, length).astype(np.int32) for _ in range(count)]


@pytest.mark.parametrize("kinds", [2, 3])
def test_planted_kinds_are_the_facets(rng, kinds):
    made = [contexts(rng, np.arange(10) + 100 * kind, 7) for kind in range(kinds)]
    mixed = [own for group in zip(*made, strict=True) for own in group]
    found = facets_of(mixed, 4, seed=0)
    assert found.tolist() == list(range(kinds)) * 7


def test_facets_are_numbered_by_their_strongest_context(rng):
    few, many = contexts(rng, np.arange(5), 4), contexts(rng, np.arange(50, 55), 9)
    assert facets_of([*few, *many], 3, 0).tolist() == [0] * 4 + [1] * 9
    assert facets_of([*many, *few], 3, 0).tolist() == [0] * 9 + [1] * 4


def test_random_contexts_have_one_facet():
    several = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        several += len(set(facets_of(contexts(rng, np.arange(30), 24), 3, seed).tolist())) > 1
    # One in twenty is expected: a cut that is cleaner than all of 19 exchanges.
    assert several <= 6


def test_no_more_facets_than_are_asked_for(rng):
    made = [own for kind in range(4) for own in contexts(rng, np.arange(10) + 50 * kind, 6)]
    assert len(set(facets_of(made, 2, 0).tolist())) == 2
    assert set(facets_of(made, 1, 0).tolist()) == {0}


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_contexts_have_one_facet(rng, count):
    assert facets_of(contexts(rng, np.arange(9), count), 3, 0).tolist() == [0] * count


def test_equal_contexts_have_one_facet():
    assert facets_of([np.array([1, 2, 3])] * 12, 3, 0).tolist() == [0] * 12


def test_the_same_seed_gives_the_same_facets(rng):
    made = contexts(rng, np.arange(12), 20) + contexts(rng, np.arange(6, 20), 10)
    assert facets_of(made, 3, 3).tolist() == facets_of(made, 3, 3).tolist()
