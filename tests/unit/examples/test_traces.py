"""Trials that are traced: drawn by the seed, of the split that no map was made on."""

import numpy as np
import pandas as pd
import pytest

from lmri.examples.traces import MOST_TOKENS, draw_trials, trace_of


@pytest.fixture
def tables():
    def table(split, count=6, **more):
        conditions = np.where(np.arange(count) % 2, "benign", "sensitive")
        return pd.DataFrame({"condition": conditions, "split": split, "repeat": 0, **more})

    return [table("selection"), table("calibration"), table("selection")]


def test_one_trial_of_each_condition_of_the_calibration(tables):
    drawn = draw_trials(tables, ["sensitive", "benign"], 1, seed=0)
    assert sorted((shard, row % 2) for shard, row in drawn) == [(1, 0), (1, 1)]
    assert drawn == draw_trials(tables, ["sensitive", "benign"], 1, seed=0)
    # A condition more changes nothing for the others.
    assert draw_trials(tables, ["benign"], 1, seed=0) < drawn


def test_draws_differ_by_seed(tables):
    assert len({frozenset(draw_trials(tables, ["benign"], 1, seed)) for seed in range(20)}) == 3


def test_other_splits_where_there_is_no_calibration(tables):
    drawn = draw_trials([tables[0], tables[2]], ["benign"], 9, seed=0)
    assert drawn == {(shard, row) for shard in (0, 1) for row in (1, 3, 5)}
    assert draw_trials(tables, ["unheard_of"], 1, seed=0) == set()


def test_repeats_of_a_response_are_not_drawn(tables):
    tables[1]["repeat"] = [0, 1, 2, 3, 4, 5]
    assert draw_trials(tables, ["sensitive"], 5, seed=0) == {(1, 0)}


@pytest.mark.parametrize(
    ("length", "prompt", "start"),
    [(20, 12, 0), (1000, 900, 820), (1000, 10, 0), (1000, 1000, 840)],
)
def test_a_long_trial_is_cut_around_the_end_of_its_prompt(trial, length, prompt, start):
    own = trace_of(trial(3, list(range(length)), {}), "events", 1, prompt)
    assert (own.task, own.shard, own.row, own.start) == ("events", 1, 3, start)
    assert own.ids.tolist() == list(range(start, min(length, start + MOST_TOKENS)))
