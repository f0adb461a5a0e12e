"""A mask of mapped units beside whole layers and random masks."""

import numpy as np
import pytest

from lmri.decode import Question, ask, label_trials
from lmri.decode.masks import compare_masks
from lmri.decode.positions import read_position
from lmri.errors import EvidenceError

POSITION = read_position("content", ("content",))


@pytest.fixture
def asked(make_trials):
    """Sixty entities of two conditions."""
    labelled = label_trials(
        Question("condition", "events"), make_trials["entities"](60), ("entity",)
    )
    return ask(labelled, folds=3, draws=0, seed=0)


@pytest.fixture
def activity(rng, make_trials, record_states):
    """Units 0 and 1 of layer 1 tell the condition, thirty others do not."""
    trials = make_trials["entities"](60)
    states = rng.normal(size=(60, 4, 2, 32))
    states[(trials["condition"] == "b").to_numpy(), :, 1, :2] += 2
    return record_states(trials, states, np.full(60, 3))


def test_the_units_that_tell_are_better_than_others(activity, asked):
    found = compare_masks(activity, asked, POSITION, {1: (0, 1)}, draws=19, seed=0)
    assert found.localised > 0.9
    assert found.random_upper < 0.75
    assert found.p == 0.05
    assert found.units == 2
    assert found.difference_low <= found.localised - found.whole <= found.difference_high


def test_units_that_do_not_tell_are_as_good_as_any(activity, asked):
    found = compare_masks(activity, asked, POSITION, {1: (5, 6), 0: (3,)}, draws=19, seed=0)
    assert found.localised < found.whole
    assert found.difference_high < 0
    assert found.p > 0.05
    assert found.layers == 2


def test_a_whole_layer_is_no_mask(activity, asked):
    with pytest.raises(EvidenceError, match="All 32 units of layer 0 are mapped"):
        compare_masks(activity, asked, POSITION, {0: tuple(range(32))}, draws=9, seed=0)


def test_a_mask_counts_once_and_the_mapped_one_never(activity, asked):
    # Of 32 units 31 are mapped: the mapped mask has one unit to spare, and 31 others exist.
    mapped = tuple(range(31))
    found = compare_masks(activity, asked, POSITION, {1: mapped}, draws=50, seed=0)
    assert found.masks == 31
    assert found.p >= 1 / 32


def test_where_few_masks_exist_p_cannot_be_small(rng, make_trials, record_states, asked):
    # Units 0 and 1 of four tell the condition: one pair is left to compare with.
    trials = make_trials["entities"](60)
    states = rng.normal(size=(60, 4, 1, 4))
    states[(trials["condition"] == "b").to_numpy(), :, 0, :2] += 2
    small = record_states(trials, states, np.full(60, 3))
    found = compare_masks(small, asked, POSITION, {0: (0, 1)}, draws=39, seed=0)
    assert found.masks == 1
    assert found.p == 0.5
