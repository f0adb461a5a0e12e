"""Folds keep carriers apart at both levels, and exchanges keep the folds."""

import numpy as np
import pytest

from lmri.decode import Question, label_trials
from lmri.decode.folds import carrier_folds, control_labels, exchanged_labels, shared_folds
from lmri.errors import EvidenceError

CONDITION = Question("condition", "events")


@pytest.fixture
def grid(make_trials):
    """A crossed grid with its labels."""
    return label_trials(CONDITION, make_trials["crossed"](), ("place", "year"))


def test_no_carrier_is_on_both_sides(grid):
    folds = carrier_folds(grid, 4, 0).folds
    assert len(folds) == 16
    assert np.array_equal(np.sort(np.concatenate([own.test for own in folds])), np.arange(144))
    for fold in folds:
        for train, test in [(fold.train, fold.test), *fold.inner]:
            for carrier in grid.carriers:
                assert not set(carrier.values[train]) & set(carrier.values[test])
        for train, test in fold.inner:
            assert not set(np.concatenate([train, test])) & set(fold.test)


def test_every_part_has_carriers_of_each_class(grid):
    made = carrier_folds(grid, 4, 0)
    for part, carrier in zip(made.parts, grid.carriers, strict=True):
        counts = np.zeros((4, 2), dtype=int)
        np.add.at(counts, (part, carrier.classes), 1)
        assert (counts == [2, 1]).all()


def test_an_exchange_leaves_the_classes_of_every_fold(grid):
    made = carrier_folds(grid, 4, 0)
    labels = exchanged_labels(grid, made, 50, 0)
    assert np.array_equal(labels[0], grid.codes)
    assert len(np.unique(labels, axis=0)) > 40
    for fold in made.folds:
        counts = [np.bincount(own[fold.test], minlength=4) for own in labels]
        assert (np.array(counts) == counts[0]).all()


def test_labels_within_a_place_stay_there(make_trials):
    labelled = label_trials(
        Question("condition", "relations"), make_trials["relations"](), ("place",)
    )
    labels = exchanged_labels(labelled, carrier_folds(labelled, 3, 0), 20, 0)
    for place in range(12):
        own = labels[:, labelled.carriers[0].values == place]
        assert (np.sort(own, axis=1) == [0, 1, 2]).all()
    assert (labels[1:] != labels[0]).any()


def test_repeats_of_a_wording_are_exchanged_together(make_trials):
    trials = make_trials["relations"]()
    twice = trials.loc[trials.index.repeat(2)].reset_index(drop=True)
    labelled = label_trials(Question("condition", "relations"), twice, ("place",))
    labels = exchanged_labels(labelled, carrier_folds(labelled, 3, 0), 20, 0)
    assert (labels[:, ::2] == labels[:, 1::2]).all()


def test_one_relation_against_others_stays_one_in_every_place(make_trials):
    trials = make_trials["relations"](names=("capital", "river", "dish", "animal"))
    sides = (("river", "dish", "animal"), ("capital",))
    labelled = label_trials(
        Question("capital", "relations", sides=sides, within="place"), trials, ("place",)
    )
    labels = exchanged_labels(labelled, carrier_folds(labelled, 3, 0), 50, 0)
    by_place = labels.reshape(51, 12, 4)
    assert (by_place.sum(axis=2) == 1).all()
    # Every relation is the odd one out about as often as any other.
    assert (np.abs(by_place[1:].mean(axis=(0, 1)) - 0.25) < 0.06).all()


def repeated(make_trials, **counts):
    """Relations of places, some of them asked more than once."""
    trials = make_trials["relations"](names=tuple(counts))
    return trials.loc[trials.index.repeat(trials["condition"].map(counts))].reset_index(drop=True)


def test_repeats_change_places_with_as_many_others(make_trials):
    trials = repeated(make_trials, capital=2, river=2, dish=1)
    labelled = label_trials(Question("condition", "relations"), trials, ("place",))
    labels = exchanged_labels(labelled, carrier_folds(labelled, 3, 0), 20, 0)
    dish = labelled.names.index("dish")
    assert ((labels == dish) == (labelled.codes == dish)).all()
    assert (labels[1:] != labels[0]).any()


def test_where_nothing_can_be_exchanged_there_is_no_null(make_trials):
    trials = repeated(make_trials, capital=2, river=1, dish=3)
    labelled = label_trials(Question("condition", "relations"), trials, ("place",))
    folds = carrier_folds(labelled, 3, 0)
    assert len(exchanged_labels(labelled, folds, 0, 0)) == 1
    with pytest.raises(EvidenceError, match="nothing can be exchanged"):
        exchanged_labels(labelled, folds, 20, 0)


def test_a_control_task_gives_each_entity_one_class(make_trials):
    trials = make_trials["entities"](12, trials=3)
    labelled = label_trials(CONDITION, trials, ("entity",))
    drawn = control_labels(labelled, 10, 0)
    assert (drawn != labelled.codes).any()
    for labels in drawn:
        by_entity = labels.reshape(12, 3)
        assert (by_entity == by_entity[:, :1]).all()
        assert np.bincount(labels).tolist() == [18, 18]


def test_shared_folds_have_every_entity_on_both_sides(grid):
    for fold in shared_folds(grid, 3, 0):
        assert set(grid.carriers[0].values[fold.test]) <= set(grid.carriers[0].values[fold.train])


@pytest.mark.parametrize(
    ("listed", "folds", "said"),
    [
        ((4, 3), 4, "at least 4 values of 'year' in each class, one for each of 4 folds. Got 3"),
        ((4, 4), 2, r"'folds' of decoding 'condition' of 'events' must be in \[3, inf\]"),
        ((3, 3), 3, "at least 2 trials of every class to train on.* Got 1 of 'sensitive'"),
    ],
)
def test_too_few_carriers_are_refused(make_trials, listed, folds, said):
    trials = make_trials["crossed"](listed=listed)
    labelled = label_trials(CONDITION, trials, ("place", "year"))
    with pytest.raises(EvidenceError, match=said):
        carrier_folds(labelled, folds, 0)
