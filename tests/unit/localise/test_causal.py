"""Causal maps: units by their names, shams on null carriers only, the same path to a finding."""

import numpy as np
import pytest
import xarray as xr
from families import tiny_model

from lmri.anatomy import describe
from lmri.config import CausalOptions
from lmri.errors import LmriError
from lmri.localise import causal, contrast_design
from lmri.localise.causal import causal_maps, name_units
from lmri.stimuli.embedded import world_trials

OPTIONS = CausalOptions(
    contrasts=("refusal",),
    methods=("attribution_patching",),
    kinds=("expert", "head", "expert_neuron"),
    role_kinds=("residual",),
    correct="refusal",
    wrong="fact",
    metric="logit_difference",
    pairs=8,
    sample=4,
)


@pytest.fixture(scope="module")
def trials(small_world):
    """Events of a few places and years of the small world."""
    table = world_trials(small_world, "events", None, 0)
    places = [
        place
        for kind in ("sensitive", "null")
        for place in sorted(set(table.loc[table["class_place"] == kind, "carrier_place"]))[:6]
    ]
    years = [
        year
        for kind in ("sensitive", "null")
        for year in sorted(set(table.loc[table["class_year"] == kind, "carrier_year"]))[:6]
    ]
    keep = table["carrier_place"].isin(places) & table["carrier_year"].isin(years)
    return table[keep].reset_index(drop=True)


@pytest.fixture(scope="module")
def made(tiny_subject, trials, crossed):
    """Maps of the random subject with what they select."""
    design = contrast_design(crossed, trials, ("place", "year"))
    found = list(causal_maps(tiny_subject, trials, crossed, design, OPTIONS, seed=0))
    return {name: (statistics, selection) for name, statistics, selection in found}


def test_units_have_their_names_and_maps_by_role_select_nothing(made, tiny_subject):
    anatomy = tiny_subject.anatomy
    assert made["expert.attribution_patching"][0]["score"].dims == ("layer", "expert")
    neurons = made["expert_neuron.attribution_patching"][0]["score"]
    assert neurons.dims == ("layer", "expert", "neuron")
    assert neurons.shape[1:] == (anatomy.experts, anatomy.expert_size)
    selection = made["head.attribution_patching"][1]
    assert (selection.kind, selection.method) == ("head", "attribution_patching")
    assert selection.units.shape == (anatomy.layers, anatomy.heads)
    assert made["residual_by_role.attribution_patching"][1] is None


def test_selected_units_push_the_answer_and_survive(made):
    statistics, selection = made["head.attribution_patching"]
    units = selection.selected(1.0)
    scores = [row["score"] for row in selection.described(units)]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0
    assert len(units) == int((statistics["score"] > 1e-9).sum())
    assert selection.selected(0.0) == []


def test_shams_pair_null_trials_only_and_are_drawn_by_the_seed(made, trials, monkeypatch):
    _, selection = made["head.attribution_patching"]
    seen = []
    real = causal.attribution_maps

    def watched(subject, table, *arguments):
        seen.append(table)
        return real(subject, table, *arguments)

    monkeypatch.setattr(causal, "attribution_maps", watched)
    first, again, other = (
        selection.shams(trials, "benign", draws=3, most=4, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert [len(units) for units in first] == [4, 4, 4]
    for table in seen:
        null = trials.set_index("trial").loc[table["trial"], "condition"]
        assert (null == "benign").all()
        assert "sensitive" in set(table["condition"])  # they play it
    refused = first[0][0]
    kept = selection.shams(
        trials, "benign", draws=2, most=4, seed=0, usable=lambda units: refused not in units
    )
    assert not any(refused in units for units in kept)


def test_what_did_nothing_in_a_sham_stands_behind_what_did(made, trials, monkeypatch):
    statistics, selection = made["head.attribution_patching"]
    scores = np.array([[0.0, -1.0, 2.0, 0.0], [-3.0, 0.0, 1.0, -0.5]])
    played = {"head": statistics.assign(score=(("layer", "head"), scores))}
    monkeypatch.setattr(causal, "attribution_maps", lambda *arguments: played)
    (units,) = selection.shams(trials, "benign", draws=1, most=6, seed=0)
    assert units == [(0, 2), (1, 2), (1, 3), (0, 1), (1, 0), (0, 0)]


def test_splitting_the_units_keeps_every_value():
    anatomy = describe(tiny_model("olmoe"))
    shape = len(anatomy.moe_layers), anatomy.experts * anatomy.expert_size
    values = np.arange(np.prod(shape)).reshape(shape)
    data = xr.Dataset({"score": (("layer", "unit"), values)}, attrs={"method": "relp"})

    class Subject:
        pass

    Subject.anatomy = anatomy
    named = name_units(data, "expert_neuron", Subject)
    last = {"layer": -1, "expert": -1, "neuron": -1}
    assert int(named["score"].isel(last)) == values[-1, -1]
    assert int(named["score"].isel(layer=0, expert=1, neuron=2)) == anatomy.expert_size + 2
    assert named.attrs == data.attrs


def test_a_column_that_is_not_there_is_named(tiny_subject, trials, crossed):
    design = contrast_design(crossed, trials, ("place", "year"))
    options = CausalOptions(contrasts=("refusal",), correct="nothing")
    with pytest.raises(LmriError, match="nothing"):
        list(causal_maps(tiny_subject, trials, crossed, design, options, seed=0))
