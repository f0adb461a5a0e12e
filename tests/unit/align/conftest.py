"""Subjects that share what they do, in units of their own."""

import numpy as np
import pandas as pd
import pytest

WIDTHS = (64, 96, 48)


@pytest.fixture
def planted():
    """Subjects of k shared dimensions in noise; ``unrelated`` subjects share nothing."""

    def make(seed=0, *, n=300, k=5, noise=1.0, unrelated=(), shared=None):
        rng = np.random.default_rng(seed)
        shared = rng.normal(size=(n, k)) if shared is None else shared
        subjects = []
        for number, width in enumerate(WIDTHS):
            own = rng.normal(size=shared.shape) if number in unrelated else shared
            loading = rng.normal(size=(shared.shape[1], width))
            subjects.append(own @ loading + noise * rng.normal(size=(len(own), width)) + 3)
        return shared, subjects

    return make


@pytest.fixture
def places():
    """Trials of 12 places in 8 years with 2 conditions."""
    place, year = np.repeat(np.arange(12), 8), np.tile(np.arange(8), 12)
    return pd.DataFrame(
        {
            "trial": [f"{p}:{y}" for p, y in zip(place, year, strict=True)],
            "prompt": [f"{y} in {p}?" for p, y in zip(place, year, strict=True)],
            "condition": np.where(place < 6, "one", "two"),
            "carrier_place": [f"p{p:02d}" for p in place],
            "carrier_year": [f"y{y}" for y in year],
            "family": "what",
            "split": np.where(place % 2, "selection", "calibration"),
        }
    )
