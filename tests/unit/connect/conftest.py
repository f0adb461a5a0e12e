"""Activity of known connections: experts of a top-2 router on a grid of places and years."""

import numpy as np
import pandas as pd
import pytest

from lmri.connect.activity import Activity, select_nodes

NONE = np.zeros((0, 2), dtype=np.int64)


def grid(places, years):
    """Trials of every place in every year, half of the places of either condition."""
    place, year = np.repeat(np.arange(places), years), np.tile(np.arange(years), places)
    first = place < places // 2
    return pd.DataFrame(
        {
            "trial": [f"{p}:{y}" for p, y in zip(place, year, strict=True)],
            "condition": np.where(first, "one", "two"),
            "carrier_place": [f"p{p:02d}" for p in place],
            "carrier_year": [f"y{y:02d}" for y in year],
            "class_place": np.where(first, "one", "two"),
            "class_year": "all",
        }
    )


def codes(table):
    return [pd.factorize(table[f"carrier_{name}"])[0] for name in ("place", "year")]


@pytest.fixture
def route():
    """Experts that places and years choose; ``edge`` ties expert 1 to expert 0."""

    def make(seed, *, places=12, years=8, experts=8, shared=1.0, edge=0.0, layers=1):
        rng = np.random.default_rng(seed)
        table = grid(places, years)
        place, year = codes(table)
        shape = (layers, experts)
        logits = 0.5 * rng.normal(size=shape) + 0.5 * rng.normal(size=(len(table), *shape))
        logits += shared * rng.normal(size=(places, *shape))[place]
        logits += shared * rng.normal(size=(years, *shape))[year]
        logits[..., 1] += edge * (logits[..., 0] - logits[..., 1])
        values = np.zeros(logits.shape)
        np.put_along_axis(values, np.argsort(-logits, axis=-1)[..., :2], 1.0, axis=-1)
        ones = np.ones(len(table), dtype=np.int64)
        layer_ids = tuple(range(layers))
        found = Activity("expert", "prompt_last", table, values, ones, layer_ids, NONE, {})
        return select_nodes(found, 256)

    return make


@pytest.fixture
def heads():
    """Heads with effects of places and years; ``edge`` ties the first two in condition one."""

    def make(seed, *, places=12, years=8, units=6, edge=0.0, everywhere=False):
        rng = np.random.default_rng(seed)
        table = grid(places, years)
        place, year = codes(table)
        values = rng.normal(size=(places, units))[place] + rng.normal(size=(years, units))[year]
        values += 0.5 * rng.normal(size=values.shape)
        tied = np.ones(len(table)) if everywhere else (table["condition"] == "one").to_numpy()
        values[:, 1] += edge * tied * (values[:, 0] - values[:, 1])
        ones = np.ones(len(table), dtype=np.int64)
        found = Activity("head", "content", table, values[:, None], ones, (3,), NONE, {})
        return select_nodes(found, 256)

    return make
