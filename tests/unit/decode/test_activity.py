"""Quantities with units, and those that are one number for a layer."""

import numpy as np
import pytest
import xarray as xr

from lmri.decode import Activity
from lmri.decode.activity import holds_pooled
from lmri.decode.positions import read_position

PHASES = ["content", "prompt_last"]


@pytest.fixture
def tree(rng):
    """Norms of layers and of heads, pooled and of every token."""
    coords = {"phase": PHASES, "statistic": ["mean", "last"], "layer": [1, 3]}
    dims = ("trial", "phase", "statistic", "layer")
    token = {"layer": [1, 3]}
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(attrs={"spans": ["content", "response"]}),
            "/trials": xr.Dataset({"n_prompt": ("trial", [2, 2])}),
            "/tokens/index": xr.Dataset(
                {
                    "trial": ("token", [0, 0, 0, 1, 1]),
                    "position": ("token", [0, 1, 2, 0, 1]),
                    "phase": ("token", [0, 0, 1, 0, 0]),
                }
            ),
            "/pooled/layer": xr.Dataset(
                {"norm": ((*dims, "place"), rng.normal(size=(2, 2, 2, 2, 2)))},
                coords={**coords, "place": ["before", "after"]},
            ),
            "/pooled/head": xr.Dataset(
                {"norm": ((*dims, "head"), rng.normal(size=(2, 2, 2, 2, 4)))}, coords=coords
            ),
            "/tokens/head": xr.Dataset(
                {"norm": (("token", "layer", "head"), rng.normal(size=(5, 2, 4)))}, coords=token
            ),
        }
    )


def test_a_layer_is_one_number_after_its_block(tree):
    activity = Activity(tree, "layer", tree["trials"].to_dataset().to_dataframe(), np.arange(2))
    values = activity.at(3, read_position("content", PHASES), np.arange(2))
    assert (activity.units, activity.layers, values.shape) == (1, [1, 3], (2, 1))
    own = tree["pooled/layer"]["norm"].sel(phase="content", statistic="mean", layer=3)
    np.testing.assert_array_equal(values[:, 0], own.sel(place="after"))
    assert not activity.has_tokens


def test_tokens_of_heads_are_read_where_trials_have_them(tree):
    activity = Activity(tree, "head", tree["trials"].to_dataset().to_dataframe(), np.arange(2))
    values = activity.at(1, read_position("response_first", ["content"]), np.array([1, 0]))
    assert np.isnan(values[0]).all()  # the second trial has no response
    np.testing.assert_array_equal(values[1], tree["tokens/head"]["norm"].values[2, 0])
    assert activity.units == 4


def test_what_was_recorded_is_known(tree):
    assert holds_pooled(tree, "head")
    assert not holds_pooled(tree, "residual")
