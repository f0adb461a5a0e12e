"""Planted activity: tokens of known words at which units are known to be active."""

import numpy as np
import pytest

from lmri.examples.reading import Trial


@pytest.fixture
def rng():
    """Random numbers that are the same in every test."""
    return np.random.default_rng(0)


@pytest.fixture
def trial():
    """Make a trial of some tokens in which each unit is active at given places."""

    def make(row, ids, *active, spans=None):
        activity = np.zeros((len(ids), len(active)), dtype=np.float32)
        for unit, places in enumerate(active):
            for position, value in places.items():
                activity[position, unit] = value
        spans = np.zeros(len(ids)) if spans is None else spans
        return Trial(row, np.array(ids, np.int32), np.array(spans, np.uint8), activity)

    return make
