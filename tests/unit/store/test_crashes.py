"""A small version of ``benchmarks.crashes``."""

import pytest

from benchmarks.crashes import Recorded, corrupt_randomly, kill_randomly
from lmri.store import check_stores

SIZE = Recorded(shards=2, batches=4, trials=4, tokens=10)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Where a writer was killed twice, and what was found."""
    folder = tmp_path_factory.mktemp("crashes")
    return folder, kill_randomly(folder, kills=2, seed=0, writer=SIZE)


def test_kills_lose_nothing(killed):
    _, outcome = killed
    assert outcome.kills == 2
    assert (outcome.unreadable, outcome.lost, outcome.different, outcome.left) == (0, 0, 0, 0)


def test_random_damage_is_found_and_named(killed):
    folder, _ = killed
    assert corrupt_randomly(folder / "whole", count=40, seed=1) == (40, 40)
    assert not any(checked.problems for checked in check_stores([folder / "whole"]))
