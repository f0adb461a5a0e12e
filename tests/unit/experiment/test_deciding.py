"""That several things stay: only what was there can be lost."""

import numpy as np
import pandas as pd
import pytest

from lmri.experiment.deciding import Kept, all_stay
from lmri.validate.change import Carriers, Change

TRIALS = 120
CARRIERS = Carriers(
    pd.DataFrame({"carrier_place": [f"p{number // 12}" for number in range(TRIALS)]}), 400, 0
)


def kept(intact, change):
    """A part that is right in the share ``intact`` of the trials, and changes in all alike."""
    right = np.repeat([1.0, 0.0], [round(TRIALS * intact), TRIALS - round(TRIALS * intact)])
    return Kept(right, Change(np.full(TRIALS, change), CARRIERS, 0.95))


def stay(**parts):
    return all_stay("spares", "all stays", parts, 0.1, "exact", "removes")


def test_what_is_not_there_cannot_be_said_to_stay():
    found = stay(never=kept(0, 0.0), seldom=kept(0.1, 0.0))
    assert not found.testable
    assert found.reason == "intact nothing is there to be lost: 'never', 'seldom'"


def test_the_worst_of_what_is_there_decides_and_the_rest_is_named():
    found = stay(never=kept(0, -0.5), often=kept(0.9, 0.0), more=kept(1, -0.05))
    assert found.effect == pytest.approx(-0.05)
    assert found.p == pytest.approx(2 * 0.95**TRIALS, abs=0.01)
    assert found.given == "removes"
    assert found.statement == "all stays (most: 'more'; nothing to lose: 'never')"
