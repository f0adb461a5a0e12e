"""A planted router: 4 layers x 16 experts, top-2, one expert that answers to a conjunction."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from lmri.config import ContrastOptions
from lmri.localise import Cells

PLANTED = (2, 5)
CROSSED = ContrastOptions.from_dict(
    {
        "name": "refusal",
        "role": "hypothesis",
        "task": "events",
        "target": ["sensitive"],
        "controls": ["near_miss_place", "near_miss_year", "benign"],
        "interaction": {
            "sensitive": 1,
            "near_miss_place": -1,
            "near_miss_year": -1,
            "benign": 1,
        },
        "null_condition": "benign",
    }
)


@pytest.fixture(scope="session")
def crossed() -> ContrastOptions:
    """The default contrast on a crossed grid."""
    return CROSSED


@pytest.fixture(scope="session")
def grid() -> pd.DataFrame:
    """Selection trials: 8 sensitive and 12 null places x 6 sensitive and 12 null years."""
    names = {(True, True): "sensitive", (True, False): "near_miss_place"}
    names |= {(False, True): "near_miss_year", (False, False): "benign"}
    rows = []
    for place, year in product(range(20), range(18)):
        listed = place < 8, year < 6
        rows.append(
            {
                "trial": f"{place}:{year}",
                "condition": names[listed],
                "carrier_place": f"p{place:02d}",
                "carrier_year": f"y{year:02d}",
                "class_place": "sensitive" if listed[0] else "null",
                "class_year": "sensitive" if listed[1] else "null",
            }
        )
    return pd.DataFrame(rows)


def route(grid: pd.DataFrame, shift: float, seed: int) -> Cells:
    """Choose 2 of 16 experts in 4 layers for every trial; one logit is shifted if sensitive.

    Places and years have preferences of their own, as in a real subject.
    """
    rng = np.random.default_rng(seed)
    logits = 0.3 * rng.normal(size=(len(grid), 4, 16))
    for column in ("carrier_place", "carrier_year"):
        codes, values = pd.factorize(grid[column])
        logits += 0.7 * rng.normal(size=(len(values), 4, 16))[codes]
    logits[grid["condition"] == "sensitive", PLANTED[0], PLANTED[1]] += shift
    chosen = np.argsort(-logits, axis=-1)[..., :2]
    counts = np.zeros((len(grid), 4, 16), dtype=np.int64)
    np.put_along_axis(counts, chosen, 1, axis=-1)
    labels = grid[["carrier_place", "carrier_year", "condition"]]
    ones = np.ones(len(grid), dtype=np.int64)
    return Cells(labels, counts, ones, ones, (0, 1, 2, 3))


@pytest.fixture(scope="session")
def routed():
    """The function that makes a grid's routing."""
    return route


@pytest.fixture(scope="session")
def planted(grid: pd.DataFrame) -> Cells:
    """A grid with the planted expert."""
    return route(grid, shift=4.0, seed=0)
