"""Profiles of recordings: planted layers are found, by trial and carrier, and flags come along."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import t as student

from lmri.errors import EvidenceError, StoreError
from lmri.information import readings
from lmri.information.agreement import NOT_SHOWN, information_change
from lmri.information.changes import between_layers, corrected
from lmri.information.estimate import FLAGS
from lmri.information.measuring import Refused, Settings, measure, measure_choices
from lmri.information.mutual_profile import NUMBERS, information_of
from lmri.information.question import Question, sample_of
from lmri.information.readings import choice_rates, pooled_activity, select_trials
from lmri.store import Recording, RecordingWriter, read_map, write_map

PLACES, YEARS, TOKENS, HIDDEN, EXPERTS = 16, 8, 3, 12, 6
PHASES = ["content", "prompt_last", "think"]
QUICK = Settings(noise=(1.0, 0.1), draws=39, probe_draws=19)
PLACE = Question("class_place", ("place",))


def table() -> pd.DataFrame:
    rows = []
    for place, year, repeat in product(range(PLACES), range(YEARS), (0, 1)):
        listed = place % 2 == 0, year % 2 == 0
        rows.append(
            {
                "trial": f"{place}:{year}",
                "repeat": repeat,
                "split": "selection" if place < 14 else "calibration",
                "condition": f"{int(listed[0])}{int(listed[1])}",
                "carrier_place": f"p{place}",
                "carrier_year": f"y{year}",
                "class_place": "listed" if listed[0] else "null",
                "class_year": "listed" if listed[1] else "null",
                "n_prompt": TOKENS,
                "content_last": 1,
            }
        )
    return pd.DataFrame(rows)


def write(folder, trials, shards=2):
    """Three layers: one of the place itself, one that has its class too, one with nothing."""
    rng = np.random.default_rng(0)
    place = trials["carrier_place"].str[1:].astype(int).to_numpy()
    own = rng.normal(size=(PLACES, HIDDEN))[place]
    listed = (trials["class_place"] == "listed").to_numpy()
    noise = rng.normal(size=(3, len(trials), HIDDEN))
    states = np.stack([own, own + 4 * listed[:, None], 0 * own], axis=1) + noise.swapaxes(0, 1)
    chosen = rng.integers(0, EXPERTS, size=(len(trials), 3, TOKENS))
    chosen[:, 1, 2] = np.where(listed, 0, 1)  # at the last token of the prompt
    recordings = []
    for shard, rows in enumerate(np.array_split(np.arange(len(trials)), shards)):
        path = folder / f"{shard}.zarr"
        with RecordingWriter(path, {"phases": PHASES}) as writer:
            pooled = np.full((len(rows), len(PHASES), 2, 3, 2, HIDDEN), np.nan, np.float32)
            pooled[:, :2, 0, :, 1] = states[rows][:, None]
            # Before the first block: what the first layer tells in part, and the last not at all.
            pooled[:, :2, 0, :, 0] = states[rows][:, None, :1] + 0.3 * noise[0, rows][:, None, None]
            labels = {"phase": PHASES, "statistic": ["mean", "last"], "layer": [0, 1, 3]}
            dims = ("trial", "phase", "statistic", "layer")
            placed = {**labels, "place": ["before", "after"]}
            writer.append("pooled/residual", "residual", pooled, (*dims, "place", "dim"), placed)
            logits = np.zeros((len(rows), len(PHASES), 2, 3, EXPERTS), np.float32)
            writer.append("pooled/router", "logits", logits, (*dims, "expert"), labels)
            ids = chosen[rows].swapaxes(1, 2).reshape(-1, 3, 1).astype(np.uint8)
            writer.append(
                "tokens/router", "expert_id", ids, ("token", "layer", "slot"), {"layer": [0, 1, 3]}
            )
            index = {
                "trial": np.repeat(np.arange(len(rows)), TOKENS).astype(np.int32),
                "position": np.tile(np.arange(TOKENS), len(rows)).astype(np.int32),
                "phase": np.zeros(len(rows) * TOKENS, dtype=np.uint8),
            }
            for name, values in index.items():
                attributes = {"phases": ["content"]} if name == "phase" else {}
                writer.append("tokens/index", name, values, ("token",), attributes=attributes)
            writer.append_trials(trials.iloc[rows])
        recordings.append(Recording(path))
    return recordings, states, chosen


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return write(tmp_path_factory.mktemp("profile"), table())


@pytest.fixture(scope="module")
def profile(recorded):
    return information_of(recorded[0], [PLACE], phases=["prompt_last"], settings=QUICK)


def test_rows_are_trials_with_repeats_averaged(recorded):
    recordings, states, _ = recorded
    trials = select_trials(recordings)
    assert len(trials.table) == 14 * YEARS
    assert trials.table["trial"].is_unique
    layers = dict(pooled_activity(trials, "residual", "content"))
    assert list(layers) == [0, 1, 3]
    expected = states.reshape(-1, 2, 3, HIDDEN).mean(axis=1)[: 14 * YEARS]
    assert layers[1] == pytest.approx(expected[:, 1], abs=1e-6)
    assert len(select_trials(recordings, None).table) == PLACES * YEARS
    assert len(select_trials(recordings, None, ["11"]).table) == PLACES * YEARS // 4


def test_layers_are_read_alike_however_many_at_once(recorded, monkeypatch):
    trials = select_trials(recorded[0])
    whole = list(pooled_activity(trials, "residual", "content"))
    monkeypatch.setattr(readings, "BLOCK_BYTES", 1)
    single = list(pooled_activity(trials, "residual", "content"))
    for (layer, values), (again, others) in zip(whole, single, strict=True):
        assert layer == again
        assert np.array_equal(values, others)


def test_rates_are_shares_of_the_tokens_of_a_phase(recorded):
    recordings, _, chosen = recorded
    trials = select_trials(recordings)
    last = dict(choice_rates(trials, "prompt_last"))[1]
    assert last.sum(axis=1) == pytest.approx(1)
    expected = np.eye(EXPERTS)[chosen[:, 1, 2]].reshape(-1, 2, EXPERTS).mean(axis=1)
    assert last == pytest.approx(expected[: len(last)])
    whole = dict(choice_rates(trials, "content"))[3]
    expected = np.eye(EXPERTS)[chosen[:, 2]].mean(axis=1).reshape(-1, 2, EXPERTS).mean(axis=1)
    assert whole == pytest.approx(expected[: len(whole)])
    second = dict(choice_rates(trials, "content_last"))[0]
    expected = np.eye(EXPERTS)[chosen[:, 0, 1]].reshape(-1, 2, EXPERTS).mean(axis=1)
    assert second == pytest.approx(expected[: len(second)])
    assert np.isnan(dict(choice_rates(trials, "think"))[0]).all()


def test_the_planted_layer_is_found_and_the_others_are_not(profile):
    own = profile.sel(target="class_place", phase="prompt_last")
    probe = own.sel(estimator="probe I(T;Y)")
    assert probe["value"].sel(layer=1) > 0.6
    assert not probe["flagged"].sel(layer=1).any()
    assert probe["p"].sel(layer=1) == pytest.approx(1 / 20)
    # A layer that tells places apart, and nothing of their class: held-out places say so, ...
    assert probe["flagged"].sel(layer=0).any()
    # ... and so do classes that are exchanged among places, where neighbours find places.
    ross = own.sel(estimator="ross I(T;Y)", layer=0)
    assert ross["value"] > 0.1
    assert ross["flagged"].sel(flag="failed_null")
    nothing = own.sel(layer=3)
    labels = [name for name in own["estimator"].values if name.endswith("I(T;Y)")]
    assert nothing["flagged"].sel(estimator=labels, flag="failed_null").all()


def test_every_number_has_its_channel_and_its_flags(profile):
    assert profile["value"].dims == ("target", "phase", "layer", "estimator")
    assert set(NUMBERS) < set(profile.variables)
    assert tuple(profile["flag"].values) == FLAGS
    own = profile.sel(layer=1, estimator="kt_upper 0.1 I(X;T)").squeeze()
    assert own["n"] == 14 * YEARS
    assert own["groups"] == 14
    assert own["flagged"].sel(flag="saturation")
    assert "every input is told" in str(own["reasons"].values)
    channel = json.loads(str(own["channel"].values))
    assert channel["noise"] == 0.1
    assert channel["sd"] == pytest.approx(0.1 * channel["scale"])
    assert not profile["flagged"].sel(flag="dependent_tokens").any()  # carriers are exchanged


def test_layers_are_compared_by_the_noise_they_bear(profile):
    scale = profile["saturation_scale"].squeeze()
    assert scale.dims == ("layer",)
    full = profile["saturation"].squeeze() > 0.95
    for layer in (0, 1, 3):
        expected = [
            noise
            for noise in (1.0, 0.1)
            if full.sel(layer=layer, estimator=f"kt_upper {noise:g} I(X;T)")
        ]
        assert scale.sel(layer=layer) == max(expected)


def test_p_is_corrected_over_layers(profile):
    own = profile.sel(estimator="probe I(T;Y)").squeeze()
    order = np.argsort(own["p"].values)
    stepped = own["p"].values[order] * 3 / np.array([1, 2, 3])
    expected = np.minimum.accumulate(stepped[::-1])[::-1]
    assert own["q"].values[order] == pytest.approx(expected)


def test_bins_that_are_saturated_tell_no_more_than_independent_units(profile):
    own = profile.sel(estimator="ebab I(X;T)").squeeze()
    np.testing.assert_allclose(own["null_mean"], own["value"])
    assert (own["p"] == 1).all()
    assert own["flagged"].sel(flag="failed_null").all()
    assert "independent units" in str(own["reasons"].values[0])


def test_profile_can_be_stored_and_read(profile, tmp_path):
    write_map(tmp_path / "p.zarr", profile)
    xr.testing.assert_identical(read_map(tmp_path / "p.zarr"), profile)


def test_inputs_and_activity(recorded):
    settings = Settings(estimators=("pair", "copula"), draws=19, dimensions=2)
    found = information_of(
        recorded[0], [PLACE], phases=["content"], settings=settings, inputs="content"
    )
    for name in ("pair I(X;T)", "copula I(X;T)"):
        own = found.sel(estimator=name).squeeze()
        assert own["value"].sel(layer=0) > 0.5
        assert own["p"].sel(layer=0) == pytest.approx(1 / 20)
        assert own["value"].sel(layer=3) < 0.15
        assert own["flagged"].sel(layer=3, flag="failed_null")
    assert found["family"].values.tolist() == ["neighbours", "gaussian"]
    assert json.loads(str(own["channel"].sel(layer=0).values))["noise"] == 0.1
    with pytest.raises(EvidenceError, match="The 'phase' of"):
        information_of(recorded[0], [PLACE], phases=["content"], inputs="question")


def test_profile_is_reproducible(recorded):
    settings = Settings(estimators=("ross", "ebab"), draws=9)
    first, second = (
        information_of(recorded[0], [PLACE], phases=["content"], settings=settings)
        for _ in range(2)
    )
    xr.testing.assert_identical(first, second)


def test_crossed_carriers_are_both_kept_whole(recorded):
    crossed = Question("condition", ("place", "year"))
    trials = select_trials(recorded[0])
    sample = sample_of(trials, crossed, np.arange(len(trials.table)), 9, 0)
    assert sample.groups.shape == (2, 14 * YEARS)
    assert sample.independent == YEARS
    settings = Settings(estimators=("probe", "kt"), noise=(1.0,), draws=9, probe_draws=9)
    found = information_of(recorded[0], [crossed], phases=["content"], settings=settings)
    probe = found.sel(estimator="probe I(T;Y)").squeeze()
    assert (probe["groups"] == YEARS).all()
    assert (probe["freedom"] == YEARS - 1).all()
    bounds = found.sel(estimator="kt_upper 1 I(X;T)").squeeze()
    assert (bounds["freedom"] == 2).all()  # of three parts that share nothing


def test_what_is_told_of_inputs_is_as_sure_whatever_is_asked(recorded):
    year = Question("class_year", ("year",))
    both = Question("condition", ("place", "year"))
    settings = Settings(estimators=("kt",), noise=(1.0,), draws=19)
    found = information_of(
        recorded[0], [PLACE, year, both], phases=["prompt_last"], settings=settings
    )
    sd = found["sd"].isel(phase=0).transpose("estimator", "target", "layer")
    told = sd.sel(estimator="kt_upper 1 I(X;T)")
    assert (told > 0).all() and (told == told.isel(target=0)).all()
    assert (sd.sel(estimator="kt_upper 1 I(T;Y)").std("target") > 0).all()
    changes = between_layers(found)
    asked = changes.groupby("quantity")["target"].agg(list)
    assert asked["I(X;T)"] == [""]
    assert asked["I(T;Y)"] == ["class_place", "class_year", "condition"]


def test_experts(recorded):
    crossed = Question("condition", ("place", "year"))
    found = information_of(
        recorded[0], [PLACE, crossed], kind="expert", phases=["prompt_last"], settings=QUICK
    )
    own = found["value"].squeeze()
    assert own.sel(target="class_place", layer=1) == pytest.approx(np.log(2), abs=0.05)
    assert own.sel(target="condition", layer=1) == pytest.approx(np.log(2), abs=0.1)
    failed = found["flagged"].sel(flag="failed_null").squeeze()
    assert failed.sel(layer=3).all()
    assert not failed.sel(layer=1).any()


def test_exchanging_trials_is_flagged_where_they_share_carriers(recorded):
    settings = Settings(estimators=("ross",), draws=9)
    alone = Question("class_place", scheme="trials")
    found = information_of(recorded[0], [alone], phases=["content"], settings=settings)
    assert found["flagged"].sel(flag="dependent_tokens").all()
    assert (found["groups"] == 8).all()  # the years: the fewest values of a carrier


def test_exchange_within_a_carrier(recorded):
    trials = select_trials(recorded[0])
    rows = np.arange(len(trials.table))
    sample = sample_of(trials, Question("class_year", ("place",), "within"), rows, 20, 0)
    drawn = sample.labellings.reshape(20, 14, YEARS)
    assert (drawn.sum(axis=2) == YEARS // 2).all()
    assert len(np.unique(drawn[:, 0], axis=0)) > 5


def test_an_estimator_that_cannot_be_used_says_why(recorded):
    trials = select_trials(recorded[0])
    sample = sample_of(trials, PLACE, np.arange(len(trials.table)), 9, 0)
    constant = np.ones((len(trials.table), 4))
    found = {own.estimator: own for own in measure(constant, sample, QUICK)}
    for name in ("ross", "compressed", "kt"):
        assert isinstance(found[name], Refused)
        assert "must vary" in found[name].reason
    assert found["ebab"].value == pytest.approx(0)
    assert found["ebab"].has("dimension")
    rates = np.tile([0.5, 0.5], (len(trials.table), 1))
    assert measure_choices(rates, sample)[0].has("failed_null")


def test_refusals_are_kept_in_the_profile(tmp_path):
    trials = table()
    recordings, *_ = write(tmp_path, trials[trials["repeat"] == 0], shards=1)
    settings = Settings(estimators=("kt", "ebab"), draws=9)
    found = information_of(
        recordings, [PLACE], kind="router", phases=["content"], settings=settings
    )
    refused = found.sel(estimator="kt").squeeze()
    assert np.isnan(refused["value"]).all()
    assert "must vary for noise" in str(refused["refused"].values[0])


def changed(values, sds, flagged=()):
    names = ["kt_upper 1 I(X;T)", "ebab I(X;T)", "probe I(T;Y)"]
    flags = np.array([[name in flagged] for name in names])
    return xr.Dataset(
        {
            "value": ("estimator", np.array(values, dtype=float)),
            "sd": ("estimator", np.array(sds, dtype=float)),
            "freedom": ("estimator", np.full(len(sds), 4.0)),
            "flagged": (("estimator", "flag"), flags),
        },
        coords={
            "estimator": names,
            "family": ("estimator", ["kernel", "bins", "probe"]),
            "flag": ["saturation"],
        },
    )


def test_two_channels_must_agree_before_a_word_is_said():
    small = [0.1, 0.1, 0.1]
    before = changed([5, 4, 1], small)
    fallen = information_change(before, changed([3, 2, 2], small))
    assert fallen.word == "compression"
    assert fallen.channels == {"kernel": -1, "bins": -1}
    assert information_change(changed([3, 2, 2], small), before).word == "expansion"
    assert information_change(before, changed([3, 6, 1], small)).word == NOT_SHOWN
    assert (
        information_change(before, changed([3, 3.9, 1], small)).word == NOT_SHOWN
    )  # within the error
    alone = information_change(before, changed([3, 2, 1], small, flagged=["ebab I(X;T)"]))
    assert alone.word == NOT_SHOWN
    assert alone.left_out == ("ebab I(X;T)",)
    refused = information_change(before, changed([3, np.nan, 1], small))
    assert refused.word == NOT_SHOWN


def test_p_is_of_the_channel_that_changed_second_most():
    before = changed([5, 4, 1], [0.1, 0.1, 0.1])
    found = information_change(before, changed([3, 3.6, 1], [0.1, 0.1, 0.1]))
    p = 2 * student.sf(0.4 / np.hypot(0.1, 0.1), 8)  # of the bins; 4 degrees of freedom each
    assert found.p == pytest.approx(p)
    alone = information_change(before, changed([3, 2, 1], [0.1] * 3, flagged=["ebab I(X;T)"]))
    assert np.isnan(alone.p)


def test_words_are_taken_back_where_many_comparisons_are_made():
    p = [0.01, 0.04, *[0.9] * 8, np.nan]
    words = ["compression", "compression", *["not shown"] * 9]
    found = corrected(pd.DataFrame({"p": p, "word": words}))
    assert found["q"].tolist()[:2] == pytest.approx([0.1, 0.2])
    assert np.isnan(found["q"].tolist()[-1])
    assert set(found["word"]) == {NOT_SHOWN}
    one = corrected(pd.DataFrame({"p": [0.01, np.nan], "word": ["compression", NOT_SHOWN]}))
    assert one["word"].tolist() == ["compression", NOT_SHOWN]


def test_the_recorded_layers_show_no_compression(profile):
    own = profile.sel(target="class_place", phase="prompt_last")
    found = information_change(own.sel(layer=0), own.sel(layer=3))
    assert found.word == NOT_SHOWN
    assert "ebab I(X;T)" in found.left_out  # saturated


@pytest.mark.parametrize(
    ("questions", "changes", "message"),
    [
        ([Question("colour", ("place",))], {}, "colour"),
        ([Question("class_place", ("town",))], {}, "carrier_town"),
        ([Question("class_place")], {}, "must name the carriers"),
        ([Question("class_year", ("place",))], {}, "same in all samples of a group"),
        ([Question("class_place", ("place",), "within")], {}, "must differ there"),
        ([Question("class_place", ("place",), "rows")], {}, "'scheme' of a question"),
        ([Question("split", ("place",))], {}, "two values or more"),
        ([], {}, "must be asked about"),
        ([PLACE], {"kind": "head"}, "'kind' of information"),
        ([PLACE], {"phases": ["think"]}, "must have tokens"),
        ([PLACE], {"phases": ["answer"]}, "The 'phase' of"),
        ([PLACE], {"statistic": "median"}, "The 'statistic' of"),
        ([PLACE], {"place": "mid"}, "The 'place' of"),
        ([PLACE], {"split": "evaluation"}, "None is of the split 'evaluation'"),
        ([PLACE], {"conditions": ["12"]}, "'condition' of information"),
    ],
)
def test_what_is_refused(recorded, questions, changes, message):
    options = {"phases": ["content"], "settings": QUICK, **changes}
    with pytest.raises(EvidenceError, match=message):
        information_of(recorded[0], questions, **options)


def test_what_was_not_recorded(recorded):
    with pytest.raises(StoreError, match="holds no 'pooled/neuron/activation'"):
        information_of(recorded[0], [PLACE], kind="neuron", phases=["content"], settings=QUICK)
    with pytest.raises(EvidenceError, match="'estimators' of information"):
        Settings(estimators=("mine",))
    own = xr.Dataset({name: ("layer", [0.0]) for name in ("value", "sd", "freedom", "flagged")})
    with pytest.raises(EvidenceError, match="over 'estimator'"):
        information_change(own, own)
