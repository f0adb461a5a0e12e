"""Planted activity: units that follow bands of features to a known share."""

import numpy as np
import pandas as pd
import pytest

from lmri.encode.folds import carrier_folds
from lmri.encode.moments import Moments


@pytest.fixture
def rng():
    """Random numbers that are the same in every test."""
    return np.random.default_rng(0)


@pytest.fixture
def grouped():
    """Folds of one carrier, so many values with so many rows each."""

    def make(values, rows, k=5, seed=0):
        names = np.repeat([f"v{i:03d}" for i in range(values)], rows)
        return carrier_folds(pd.DataFrame({"carrier_item": names}), k, seed, "a test")

    return make


@pytest.fixture
def sums():
    """Moments of a design and units."""

    def make(X, Y, folds, block=64):
        made = Moments(len(folds.apart), X.shape[1], Y.shape[1])
        for start in range(0, len(X), block):
            own = slice(start, start + block)
            made.add(X[own], Y[own], folds.cell[own])
        return made

    return make
