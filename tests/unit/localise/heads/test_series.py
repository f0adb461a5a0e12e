"""Series of checkpoints and the table of heads."""

import numpy as np
import pytest
import xarray as xr

from lmri.errors import EvidenceError
from lmri.localise.heads import head_series, head_table


def score_map(values, name="induction"):
    values = np.asarray(values, dtype=float)
    return xr.Dataset({name: (("layer", "head"), values)}, coords={"layer": range(len(values))})


def test_the_jump_of_each_head_and_the_transition():
    steps = {
        300: score_map([[0.1, 0.9], [0.3, 0.2]]),
        0: score_map([[0.1, 0.0], [0.0, 0.0]]),
        100: score_map([[0.1, 0.1], [0.3, 0.1]]),
        200: score_map([[0.1, 0.8], [0.3, 0.1]]),
    }
    found = head_series(steps, "induction")
    assert found["step"].values.tolist() == [0, 100, 200, 300]
    np.testing.assert_allclose(found["jump"], [[0, 0.7], [0.3, 0.1]])
    assert found["jump_after"].values.tolist() == [[0, 100], [0, 0]]
    assert found["jump_until"].values.tolist() == [[100, 200], [100, 100]]
    np.testing.assert_allclose(found["most"], [0.1, 0.3, 0.8, 0.9])
    assert found.attrs == {
        "variable": "induction",
        "transition_after": 100,
        "transition_until": 200,
    }
    np.testing.assert_allclose(found["score"].sel(step=200)[0], [0.1, 0.8])


def test_a_head_without_a_score_has_no_jump():
    steps = {0: score_map([[np.nan, 0.0]]), 1: score_map([[np.nan, 0.5]])}
    found = head_series(steps, "induction")
    assert np.isnan(found["jump"][0, 0])
    assert float(found["jump"][0, 1]) == 0.5


def test_series_that_are_none():
    with pytest.raises(EvidenceError, match=r"at least two checkpoints\. Got 1"):
        head_series({0: score_map([[1]])}, "induction")
    with pytest.raises(EvidenceError, match=r"'copying' over layers and heads must be in step 0"):
        head_series({0: score_map([[1]]), 1: score_map([[1]])}, "copying")
    with pytest.raises(EvidenceError, match=r"same at every step\. Got \(1, 1\) at step 0 and"):
        head_series({0: score_map([[1]]), 1: score_map([[1, 1]])}, "induction")


def test_one_row_a_head_and_one_column_a_score():
    maps = {
        "head.patterns": score_map([[0.1, 0.2], [0.3, 0.4]]),
        "head.drain.events": score_map([[1, 1], [1, 0.5]], "drain"),
        "head.drain.copying": score_map([[2, 2], [2, 2]], "drain"),
        "layer.peak.events": xr.Dataset({"peak": (("layer", "place"), np.ones((2, 3)))}),
    }
    table = head_table(maps)
    assert list(table.columns) == [
        "layer",
        "head",
        "induction",
        "head.drain.events.drain",
        "head.drain.copying.drain",
    ]
    assert table[["layer", "head"]].values.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert table["induction"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert head_table({}).empty
