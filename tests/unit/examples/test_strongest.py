"""The strongest examples of units: those that were planted, and nothing where nothing is."""

import numpy as np

from lmri.examples import Strongest


def added(kept, trials, task="events"):
    for own in trials:
        kept.add(own, task, 0)
    return kept


def test_the_planted_trial_and_token_are_on_top(trial):
    trials = [trial(row, [1, 2, 10 + row, 3], {2: row / 10}, {1: -row}) for row in range(20)]
    kept = added(Strongest(2, 3, 1), trials)
    (first,) = kept.examples(0)
    assert [own.row for own in first] == [19, 18, 17]
    assert {own.position for own in first} == {2}
    assert first[0].ids.tolist() == [2, 29, 3]
    np.testing.assert_allclose(first[0].activity, [0, 1.9, 0], rtol=1e-6)
    assert first[0].context.tolist() == [2, 29]
    # Of the other unit, all trials are the same up to the second token: one is an example.
    ((below,),) = kept.examples(1)
    assert (below.row, below.position, below.activity.tolist()) == (1, 1, [0, -1, 0])


def test_what_is_below_zero_stands_by_itself(trial):
    trials = [trial(row, [row, 50 + row], {0: row - 6.0, 1: 0.5 * row}) for row in range(10)]
    above, below = added(Strongest(1, 2, 1), trials).examples(0)
    assert [(own.row, own.strength) for own in above] == [(9, 4.5), (8, 4.0)]
    assert [(own.row, own.strength) for own in below] == [(0, 6.0), (1, 5.0)]
    assert below[0].activity.tolist() == [-6.0, 0.0]


def test_the_same_beginning_is_one_observation(trial):
    same = [trial(row, [7, 8, 20 + row], {1: 0.5}) for row in range(6)]
    other = trial(6, [7, 9, 30], {1: 0.4})
    kept = added(Strongest(1, 4, 2), [*same, other])
    assert [own.row for own in kept.examples(0)[0]] == [0, 6]


def test_what_was_pushed_out_may_come_again(trial):
    kept = Strongest(1, 2, 1)
    rows = [([1], 0.1), ([2], 0.2), ([3], 0.3), ([1], 0.4)]
    added(kept, [trial(row, ids, {0: value}) for row, (ids, value) in enumerate(rows)])
    assert [(own.row, own.ids.tolist()) for own in kept.examples(0)[0]] == [(3, [1]), (2, [3])]


def test_of_equals_the_first_are_kept_in_order(trial):
    kept = added(Strongest(1, 3, 0), [trial(row, [row], {0: 1.0}) for row in range(9)])
    assert [own.row for own in kept.examples(0)[0]] == [0, 1, 2]


def test_a_silent_unit_has_no_examples(trial):
    kept = added(Strongest(2, 3, 1), [trial(row, [row, 5], {}, {0: 1}) for row in range(4)])
    assert kept.examples(0) == []
    assert kept.active.tolist() == [0, 4]
    assert kept.tokens == 8
    assert kept.total.tolist() == [0, 4]


def test_the_window_ends_where_the_trial_does(trial):
    kept = added(Strongest(1, 1, 10), [trial(0, [4, 5, 6], {0: 1.0})])
    ((own,),) = kept.examples(0)
    assert (own.start, own.ids.tolist(), own.length) == (0, [4, 5, 6], 3)


def test_memory_does_not_grow_with_trials(trial):
    kept = added(Strongest(1, 5, 2), [trial(r, [r, 1], {0: float(r % 97)}) for r in range(2000)])
    side, _ = kept._sides
    assert len(side._kept[0]) == len(side._known[0]) == 5


def test_of_an_encoder_the_whole_trial_is_what_was_seen(trial):
    trials = [trial(row, [7, 8, 20 + row], {1: row + 1.0}) for row in range(3)]
    causal, encoder = Strongest(1, 4, 2), Strongest(1, 4, 2, causal=False)
    assert [own.row for own in added(causal, trials).examples(0)[0]] == [0]
    assert [own.row for own in added(encoder, trials).examples(0)[0]] == [2, 1, 0]
