"""Profiles that compare classes of trials: planted differences, carriers, cells without any."""

import numpy as np
import pytest

from lmri.errors import EvidenceError
from lmri.information.class_profiles import rate_reduction_profile, unit_entropy_profile
from lmri.information.question import Question

TRIALS = 120


@pytest.fixture
def recorded(record_texts):
    """A recording of one layer whose states, (n, units), are given, with carriers by name."""

    def make(condition, states, **carriers):
        arrays = {
            "pooled/residual/residual": np.tile(
                states[:, None, None, None, None], (1, 1, 2, 1, 2, 1)
            ),
            "pooled/residual/statistic": np.array(["mean", "last"]),
            "pooled/residual/layer": np.array([0]),
            "pooled/residual/place": np.array(["before", "after"]),
        }
        recording = record_texts([(np.arange(1), np.zeros(1, int))] * len(states), **arrays)
        recording.attributes["phases"] = ["content"]
        recording.trials["condition"] = condition
        for name, own in carriers.items():
            recording.trials[f"carrier_{name}"] = own.astype(str)
        return recording

    return make


def test_rate_reduction_is_where_the_classes_differ(planted):
    found = rate_reduction_profile([planted], split=None)
    assert found["layer"].values.tolist() == [-1, 0, 1]
    own = found.sel(phase="response")
    assert own["p"].values[2] == pytest.approx(0.01)
    assert own["excess"].values[2] > 10 * abs(own["excess"].values[:2]).max()
    assert own["flags"].values.tolist() == ["failed_null", "failed_null", ""]
    assert (found["reduction"].sel(phase="content") > 0).all()  # of any classes of few rows
    assert (found["flags"].sel(phase="content") == "failed_null").all()
    assert (found["samples"].sel(phase="response") == TRIALS).all()


def test_a_phase_without_tokens_says_why(planted):
    reduction = rate_reduction_profile([planted], draws=0)
    assert np.isnan(reduction["rate"].sel(phase="think")).all()
    assert str(reduction["reason"].sel(phase="think")[0].values) == (
        "No trial has a token in the phase."
    )


def test_a_carrier_of_two_classes_is_a_reason(planted):
    asked = Question("condition", ("place",))
    found = rate_reduction_profile([planted], question=asked, draws=9)
    assert "differ from the first of their group" in str(found["reason"][0, 0].values)


def test_what_several_carriers_make_is_exchanged_as_they_are(recorded):
    # Places and years that differ, and classes of them that tell nothing: trials look significant.
    rng = np.random.default_rng(0)
    place, year = (own.ravel() for own in np.meshgrid(range(12), range(10), indexing="ij"))
    spread = rng.normal(size=(12, 16))[place] + rng.normal(size=(10, 16))[year]
    spread += 0.1 * rng.normal(size=spread.shape)
    conjunction = np.where(place % 2 & year % 2, "sensitive", "benign")
    shown = recorded(conjunction, spread, place=place, year=year)
    for name, own in (("place", place), ("year", year)):
        shown.trials[f"class_{name}"] = own % 2
    settings = {"split": None, "draws": 99}
    among = rate_reduction_profile([shown], **settings)
    asked = Question("condition", ("place", "year"))
    found = rate_reduction_profile([shown], question=asked, **settings)
    assert float(among["p"][0, 0]) <= 0.05 < float(found["p"][0, 0])
    assert abs(float(found["excess"][0, 0])) < float(among["excess"][0, 0]) / 2


def test_an_attribute_within_a_carrier_is_exchanged_in_it(recorded):
    # Both classes are of all places, and more alike than trials of some: seen within places only.
    rng = np.random.default_rng(0)
    place, kind = np.repeat(np.arange(12), 6), np.arange(72) % 2
    shift = 0.3 * np.eye(16)[0] * (2 * kind[:, None] - 1)
    values = rng.normal(size=(12, 16))[place] + shift + 0.1 * rng.normal(size=(72, 16))
    shown = recorded(np.where(kind, "sensitive", "benign"), values, place=place)
    settings = {"split": None, "draws": 199}
    asked = Question("condition", ("place",), "within")
    found = rate_reduction_profile([shown], question=asked, **settings)
    among = rate_reduction_profile([shown], **settings)
    assert float(found["p"][0, 0]) <= 0.05 < float(among["p"][0, 0])


def test_entropy_of_units_falls_where_they_fall_silent(planted):
    found = unit_entropy_profile([planted], "sensitive", split=None, bins=4)
    own = found.sel(phase="response", layer=1)
    assert float(own["entropy"].sel({"class": "sensitive"})[4]) > 1.6
    assert float(own["entropy"].sel({"class": "benign"})[4]) < 1.3
    # Half of the places set the edges: elsewhere the reference of the others is as any class.
    elsewhere = found["entropy"].sel(phase="content").mean(["layer", "unit"])
    assert float(abs(elsewhere[0] - elsewhere[1])) < 0.05
    counted = found["samples"].sel(phase="content", layer=0)
    assert counted.values.tolist() == [TRIALS / 4, TRIALS / 4]
    assert found["samples"].sel(phase="think").values.tolist() == [[0, 0], [0, 0]]
    assert np.isnan(found["entropy"].sel(phase="think")).all()


def test_other_places_and_years_are_no_difference(recorded):
    # States are of places and years, and of nothing else: classes of some look narrow beside trials
    # that share these with the reference.
    rng = np.random.default_rng(1)
    place, year = (own.ravel() for own in np.meshgrid(range(24), range(18), indexing="ij"))
    states = rng.normal(size=(24, 64))[place] + rng.normal(size=(18, 64))[year]
    sensitive = (place % 3 == 0) & (year % 3 == 0)
    neither = (place % 3 != 0) & (year % 3 != 0)
    condition = np.select([sensitive, neither], ["sensitive", "benign"], "near_miss")
    shown = recorded(condition, states, place=place, year=year)
    found = unit_entropy_profile([shown], "benign", quantity="residual", split=None, bins=4)
    entropy = found["entropy"].isel(phase=0, layer=0).mean("unit")
    told = {str(name): float(entropy.sel({"class": name})) for name in found["class"].values}
    assert told["benign"] == pytest.approx(told["sensitive"], abs=0.05)
    assert int(found["samples"].sel({"class": "benign"})[0, 0]) == 8 * 6
    assert int(found["samples"].sel({"class": "sensitive"})[0, 0]) == 8 * 6


def test_without_carriers_every_other_trial_sets_the_edges(recorded):
    states = np.random.default_rng(0).normal(size=(200, 32))
    condition = np.where(np.arange(200) < 150, "benign", "sensitive")
    found = unit_entropy_profile(
        [recorded(condition, states)], "benign", quantity="residual", split=None
    )
    assert found["samples"][:, 0, 0].values.tolist() == [75, 50]
    assert found.attrs["bins"] == 5  # ten trials of the smallest class for each


def test_a_class_that_is_not_counted_takes_no_bins_from_the_others(recorded):
    place = np.repeat(np.arange(40), 10)
    condition = np.where((place == 0) & (np.arange(400) % 2 == 0), "odd", "benign")
    shown = recorded(condition, np.random.default_rng(0).normal(size=(400, 8)), place=place)
    bins = {0: set(), 5: set()}
    for seed in range(8):  # place 0 is in the half that sets the bins, or in the other
        found = unit_entropy_profile([shown], "benign", quantity="residual", split=None, seed=seed)
        bins[int(found["samples"].sel({"class": "odd"})[0, 0])].add(found.attrs["bins"])
    assert bins == {0: {19}, 5: {2}}


def test_a_reference_that_cannot_be_halved_says_so(recorded):
    states = np.random.default_rng(0).normal(size=(8, 4))
    condition = np.array(["benign"] * 4 + ["sensitive"] * 4)
    shown = recorded(condition, states, place=np.arange(8) % 4, year=np.arange(8) % 4)
    with pytest.raises(EvidenceError, match="both halves of its carrier_place and carrier_year"):
        unit_entropy_profile([shown], "benign", quantity="residual", split=None)


def test_tables_without_the_class(planted):
    with pytest.raises(EvidenceError, match=r"lacks the column.s. 'topic'"):
        rate_reduction_profile([planted], question=Question("topic", (), "trials"))
    with pytest.raises(EvidenceError, match=r"one of benign, sensitive. Got 'secret'"):
        unit_entropy_profile([planted], "secret")
