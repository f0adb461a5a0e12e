"""What of a map goes onto the page of the atlas."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lmri.report.atlas import data
from lmri.report.atlas.data import AtlasMap, atlas_json
from lmri.report.kinds import MapName


def made(n=6, found=(), **changes):
    units = np.stack([np.repeat(0, n), np.arange(n)], axis=1)
    columns = {"score": np.linspace(-1, 1, n), "q": np.full(n, 0.123456)}
    mask = np.isin(np.arange(n), found)
    given = {"subject": "s", "contrast": "refusal", "phase": "prompt_last", "path": "maps/x"}
    return AtlasMap(
        **{**given, **changes},
        name=MapName("expert.resonance"),
        units=units,
        columns=columns,
        found=mask,
        total=n,
    )


def test_a_map_is_told_by_columns():
    told = made(3, found=[1]).to_dict()
    assert told["units"] == [[0, 0, 0], [0, 1, 2]]
    assert told["found"] == [1]
    assert told["dims"] == ["layer", "expert"]
    assert told["columns"][0] == {
        "name": "score",
        "label": "rate difference",
        "small": False,
        "values": [-1.0, 0.0, 1.0],
    }
    assert json.dumps(told["columns"][0]["values"]) == "[-1.0, 0, 1]"
    assert told["columns"][1]["small"]
    assert told["columns"][1]["values"] == [0.1235] * 3


def test_what_is_not_finite_is_null():
    own = made(3)
    own.columns["score"][:] = [np.nan, np.inf, 2.0]
    assert own.to_dict()["columns"][0]["values"] == [None, None, 2.0]


def test_no_text_of_a_study_ends_the_element():
    hostile = "</script><script>document.title='INJECTED'</script><!-- \u2028 & "
    text = atlas_json([made(2, subject=hostile)])
    assert not {"<", ">", "&", "\u2028"} & set(text)
    assert json.loads(text)["maps"][0]["subject"] == hostile


def test_of_a_map_that_does_not_fit_the_strongest_units_and_the_finding_stay(monkeypatch):
    monkeypatch.setattr(data, "STRONGEST", 4)
    kept = data._strongest(made(11, found=[5]))
    # Both ends, the first of the two that come next, and the middle one that the finding names.
    assert kept.units[:, 1].tolist() == [0, 1, 5, 10]
    assert kept.total == 11
    assert kept.found.tolist() == [unit == 5 for unit in kept.units[:, 1]]


def test_links_to_examples_stay_with_their_units(monkeypatch):
    monkeypatch.setattr(data, "STRONGEST", 4)
    own = replace(made(11, found=[5]), examples={3: "lost", 5: "middle", 10: "last"})
    kept = data._strongest(own)
    linked = {int(kept.units[at, 1]): anchor for at, anchor in kept.examples.items()}
    assert linked == {5: "middle", 10: "last"}
    assert kept.to_dict()["examples"] == {2: "middle", 3: "last"}


@pytest.mark.parametrize(("budget", "whole"), [(100, [True, True]), (10, [True, False])])
def test_small_maps_are_shown_whole_first(monkeypatch, budget, whole):
    monkeypatch.setattr(data, "BUDGET", budget)
    monkeypatch.setattr(data, "STRONGEST", 2)
    monkeypatch.setattr(data, "_read", lambda inputs: iter([made(4), made(20)]))
    maps = data.atlas_maps(None)
    assert [len(own.units) == own.total for own in maps] == whole
