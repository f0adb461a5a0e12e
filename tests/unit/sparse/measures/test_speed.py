"""Arms are timed in turns, as often as it takes."""

from contextlib import contextmanager
from itertools import pairwise

import pandas as pd
import pytest
import torch

from lmri.sparse.measures import speed
from lmri.sparse.measures.speed import LEAST_ROUNDS, MOST_ROUNDS, SECONDS, measure_speed
from lmri.sparse.measures.trials import Trials

ARMS = ("transformers", "dense", "sparse")
TOKENS = 4


@pytest.fixture
def trials() -> Trials:
    ids = [[3, 4, 5], [6, 7, 8, 9, 10, 11], [3, 9]]
    return Trials("task", pd.DataFrame(index=range(3)), ids, [2, 5, 1], [2, 5, 1])


@pytest.fixture
def timed(tiny_subject, trials, monkeypatch):
    """Time three arms by a clock that every reading takes so much further."""

    def time_arms(step: float) -> tuple[pd.DataFrame, list[str]]:
        readings = iter(torch.arange(1000, dtype=torch.float64) * step)
        monkeypatch.setattr(speed, "_now", lambda subject: next(readings).item())
        entered = []

        @contextmanager
        def around(arm):
            entered.append(arm)
            yield

        arms = {arm: lambda arm=arm: around(arm) for arm in ARMS}
        return measure_speed(tiny_subject, arms, trials, TOKENS), entered

    return time_arms


def test_arms_take_turns_and_none_is_always_first(timed):
    table, entered = timed(SECONDS)
    turns = [tuple(entered[start : start + 3]) for start in range(0, len(entered), 3)]
    assert set(turns) == {ARMS, ARMS[::-1]}
    assert all(one != next_one for one, next_one in pairwise(turns))
    assert len(turns) == LEAST_ROUNDS + 1  # the first of which is not counted
    sizes = table.groupby(["phase", "arm", "round"]).size()
    assert len(sizes) == 2 * len(ARMS) * LEAST_ROUNDS
    assert (sizes == 1).all()


@pytest.mark.parametrize(
    ("step", "rounds"),
    [
        (SECONDS, LEAST_ROUNDS),  # a large model
        (SECONDS / 59, 10),  # six readings a round: nine are not quite enough
        (SECONDS / 10_000, MOST_ROUNDS),
    ],
)
def test_rounds_go_on_until_enough_has_been_timed(timed, step, rounds):
    table, _ = timed(step)
    assert table["round"].nunique() == rounds
    assert table["seconds"].to_numpy() == pytest.approx(step)


def test_the_longest_prompt_is_read_and_so_many_tokens_are_generated(timed):
    table, _ = timed(SECONDS)
    assert table.groupby("phase")["tokens"].unique().to_dict() == {"prefill": [5], "decode": [4]}
