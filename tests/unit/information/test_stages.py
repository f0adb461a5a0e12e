"""The stages that profile a subject's recordings, and follow them over checkpoints."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lmri.config import (
    InformationOptions,
    QuestionOptions,
    RecordOptions,
    SplitOptions,
    TaskOptions,
    WorldOptions,
)
from lmri.errors import EvidenceError, StoreError
from lmri.information import Question, follow_series, information_subject, measures
from lmri.information.asking import questions_of
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import read_map, write_map

MEASURES = (
    *("residual", "expert", "spectral", "resolution", "rate_reduction", "codes", "unit_entropy"),
    *("attention", "lens", "massive", "active", "logits"),
)
OPTIONS = InformationOptions(
    measures=MEASURES,
    phases=("prompt_last", "think"),
    estimators=("compressed", "kt"),
    draws=19,
)


def record(folder, model, quantities):
    write_stimuli(
        out=folder / "stimuli/events.parquet",
        task="events",
        options=TaskOptions("events", "world"),
        splits=SplitOptions(0.4, 0.3, 0.3),
        world=WorldOptions(size="small"),
        seed=0,
        provenance={},
    )
    record_task(
        out=folder / "recordings/events/0.zarr",
        manifest=folder / "recordings/events/0.zarr.manifest.json",
        subject="tiny",
        model=model,
        task="events",
        stimuli=folder / "stimuli/events.parquet",
        shard=0,
        options=RecordOptions(max_new_tokens=3, quantities=quantities, full=("router", "neuron")),
        seed=0,
        provenance={"stage": "record"},
    )
    return folder


def profile(folder, model, options=OPTIONS, out="profiles"):
    information_subject(
        subject="tiny",
        model=model,
        recordings=folder / "recordings",
        out=folder / out,
        tasks={"events": ()},
        options=options,
        seed=0,
        provenance={"stage": "information"},
    )
    return folder / out


@pytest.fixture(scope="module")
def profiled(tiny_model_folder, tmp_path_factory):
    """A task of the small world with all measures."""
    folder = tmp_path_factory.mktemp("all")
    record(folder, tiny_model_folder, ("router", "attention", "residual", "extremes", "neuron"))
    return profile(folder, tiny_model_folder)


def reasons(folder):
    return json.loads((folder / "left_out.json").read_text(encoding="utf-8"))


def test_every_measure_is_written_with_its_origin(profiled):
    stores = {path.name for path in profiled.iterdir()} - {"left_out.json", "logits.zarr"}
    # Two places and two years of the reference are too few to halve.
    assert "both halves" in reasons(profiled)["events.unit_entropy"]
    written = [name for name in (*MEASURES[:-1], "changes") if name != "unit_entropy"]
    assert stores == {f"events.{name}.zarr" for name in written}
    assert read_map(profiled / "logits.zarr")["largest_logit"].dims == ("layer", "head")
    for store in stores:
        attributes = read_map(profiled / store).attrs
        assert (attributes["subject"], attributes["task"]) == ("tiny", "events")
        assert "'stage': 'information'" in attributes["provenance"]


def test_conditions_and_classes_are_asked_about_by_default(profiled):
    found = read_map(profiled / "events.residual.zarr")
    assert list(found["target"].values) == ["condition", "class_place", "class_year"]
    assert list(found["phase"].values) == ["prompt_last"]
    assert np.isfinite(found["value"].sel(estimator="kt_upper 0.1 I(X;T)")).all()
    classes = read_map(profiled / "events.rate_reduction.zarr")
    assert list(classes["exchanged"].values) == ["place and year", "place", "year"]
    codes = read_map(profiled / "events.codes.zarr")
    assert list(codes["target"].values) == ["condition", "class_place", "class_year"]
    assert codes.attrs["quantity"] == "expert"


def test_units_are_neurons_where_these_were_recorded(planted):
    asked = measures.Asked("events", [planted], (), None, InformationOptions(), 0)
    units = measures.MEASURES["unit_entropy"](asked)
    assert (units.attrs["quantity"], units.attrs["reference"]) == ("neuron", "benign")
    assert 2 <= units.attrs["bins"] <= 30


def test_measures_of_tokens_are_of_the_task(profiled):
    active = read_map(profiled / "events.active.zarr")
    assert active["kind"].values.tolist() == ["expert_neuron"]
    assert ((active["active"] > 0) & (active["active"] < 1)).all()
    massive = read_map(profiled / "events.massive.zarr")
    assert massive["ratio"].dims == ("layer", "place")
    assert (massive["ratio"] > 1).all()
    curve = read_map(profiled / "events.resolution.zarr").sel(phase="prompt_last")
    assert (curve["reason"].sel(layer=-1) == "All states are the same.").all()
    assert (curve["upper"].sel(layer=[0, 1]).diff("noise") >= -1e-9).all()  # less noise tells more


def test_answers_need_repeats(tiny_model_folder, profiled):
    options = InformationOptions(measures=("eigenscore",))
    folder = profile(profiled.parent, tiny_model_folder, options, "answers")
    assert "record.repeats" in reasons(folder)["events.eigenscore"]


def test_a_phase_without_tokens_is_left_out_and_said(profiled):
    said = reasons(profiled)
    assert "phase" in said["events.residual.think"]
    assert said["events.expert.think"] == "No trial has a token in this phase."
    assert set(said) == {"events.residual.think", "events.expert.think", "events.unit_entropy"}


def test_without_the_content_the_inputs_are_left_out_and_said(
    monkeypatch, tiny_model_folder, profiled
):
    monkeypatch.setattr(measures, "_has_inputs", lambda recordings: False)
    options = InformationOptions(
        measures=("residual",), phases=("prompt_last",), estimators=("pair", "compressed"), draws=19
    )
    folder = profile(profiled.parent, tiny_model_folder, options, "alone")
    assert "'content'" in reasons(folder)["events.residual.pair"]
    found = read_map(folder / "events.residual.zarr")
    assert not [name for name in found["estimator"].values if name.startswith("pair")]


def test_a_change_needs_two_channels(profiled):
    """The states of a random model, told by a saturated channel and a neighbour's."""
    found = read_map(profiled / "events.changes.zarr")
    rows = found.to_dataframe()
    asked = rows.groupby("quantity")["target"].agg(list)
    assert asked["I(X;T)"] == [""]  # one number, whatever is asked
    assert asked["I(T;Y)"] == ["condition", "class_place", "class_year"]
    assert set(rows["word"]) <= {"compression", "expansion", "not shown"}
    for row in rows.to_dict("records"):
        agreeing = list(json.loads(row["channels"]).values())
        sign = {"compression": -1, "expansion": 1}.get(row["word"])
        assert sign is None or agreeing.count(sign) >= 2
    assert (found["layer"].values == 0).all()
    assert (found["until_layer"].values == 1).all()


def test_what_was_not_recorded_is_left_out_and_said(tiny_model_folder, tmp_path):
    record(tmp_path, tiny_model_folder, ("router",))
    folder = profile(tmp_path, tiny_model_folder)
    assert {path.name for path in folder.glob("*.zarr")} == {
        *(f"events.{name}.zarr" for name in ("expert", "lens", "codes")),
        "logits.zarr",
    }
    said = reasons(folder)
    needed = ("residual", "spectral", "resolution", "rate_reduction", "unit_entropy", "attention")
    for name in (*needed, "massive", "active"):
        assert "record" in said[f"events.{name}"], name
        assert str(tmp_path) not in said[f"events.{name}"]


def test_a_missing_task_leaves_nothing(tiny_model_folder, tmp_path):
    with pytest.raises(EvidenceError, match="no recording"):
        profile(tmp_path, tiny_model_folder)
    assert not (tmp_path / "profiles").exists()


def test_an_unknown_column_is_refused(tiny_model_folder, profiled):
    asked = (QuestionOptions("events", "colour", (), "trials"),)
    options = InformationOptions(measures=("residual",), questions=asked)
    with pytest.raises(EvidenceError, match="colour"):
        profile(profiled.parent, tiny_model_folder, options, "bad")
    assert not (profiled.parent / "bad").exists()


class Table:
    def __init__(self, **columns):
        self.trials = pd.DataFrame(columns)


def test_what_carries_a_condition_is_exchanged():
    ask = InformationOptions()
    carried = Table(condition=["a", "a", "b"], carrier_item=["1", "1", "2"])
    assert questions_of("t", [carried], (), ask) == [Question("condition", ("item",))]
    within = Table(condition=["a", "b"], carrier_item=["1", "1"])
    assert questions_of("t", [within], (), ask) == [Question("condition", ("item",), "within")]
    alone = Table(condition=["a", "b"])
    assert questions_of("t", [alone], (), ask) == [Question("condition", (), "trials")]


ESTIMATORS = ("probe I(T;Y)", "compressed I(T;Y)", "kt_upper 1 I(X;T)", "pair I(X;T)")


def scalars(value):
    """An information profile of some estimators and two layers."""
    dims = ("target", "phase", "layer", "estimator")
    shape = (1, 1, 2, len(ESTIMATORS))
    numbers = np.zeros(shape)
    numbers[0, 0, 1] = value
    return xr.Dataset(
        {
            "value": (dims, numbers),
            "sd": (dims, np.full(shape, 0.01)),
            "freedom": (dims, np.full(shape, 4.0)),
            "flagged": ((*dims, "flag"), np.zeros((*shape, 1), dtype=bool)),
        },
        {
            "target": ["condition"],
            "phase": ["prompt_last"],
            "layer": [0, 1],
            "estimator": list(ESTIMATORS),
            "family": ("estimator", ["probe", "neighbours", "kernel", "neighbours"]),
            "flag": ["saturation"],
        },
    )


def tokens(step):
    """Massive activations that grow, and neurons that fall silent, over steps."""
    ratio = 2.0 + 30 * np.log(1 + step)
    share = 0.1 + np.exp(-0.02 * step - 1)
    cells = {"layer": [0, 1], "place": ["after"]}
    massive = xr.Dataset(
        {
            "ratio": (("layer", "place"), np.full((2, 1), ratio)),
            "flags": (("layer", "place"), np.full((2, 1), "")),
        },
        cells,
    )
    dims = ("kind", "layer")
    shares = {name: (dims, np.full((1, 2), share)) for name in ("active", "nonzero")}
    shares["flags"] = (dims, np.full((1, 2), ""))
    return massive, xr.Dataset(shares, {"kind": ["neuron"], "layer": [0, 1]})


def checkpoints(folder, values):
    steps = {}
    for number, value in enumerate(values):
        own, step = folder / f"growth_{number}", 50 * number
        write_map(own / "events.residual.zarr", scalars(value))
        massive, active = tokens(step)
        write_map(own / "events.massive.zarr", massive)
        write_map(own / "events.active.zarr", active)
        steps[f"growth_{number}"] = step
    return steps


def follow(folder, steps, sensitive=(), others=()):
    follow_series(
        series="growth",
        profiles=folder,
        study=folder,
        out=folder / "growth",
        steps=steps,
        tasks=["events"],
        sensitive=sensitive,
        others=others,
        seed=0,
        provenance={"stage": "dynamics"},
    )
    return read_map(folder / "growth/numbers.zarr")


def test_a_jump_is_found_and_two_channels_say_compression(tmp_path):
    found = follow(tmp_path, checkpoints(tmp_path, [1.0] * 5 + [0.2] * 5))
    chosen = (found["layer"].values == "1") & (found["measure"].values == "residual")
    moved = found.isel(number=chosen & (found["detail"].values != "kt_upper 1 I(X;T)"))
    assert moved.sizes["number"] == 3  # bounds, which are swept, are not followed
    assert list(found["step"].values) == [50 * number for number in range(10)]
    assert (moved["after"].values == 200).all()
    assert moved["jump"].values == pytest.approx(-0.8)
    claims = found[["claim_quantity", "claim_layer", "claim_word"]].to_dataframe()
    told = claims[claims["claim_quantity"] == "I(T;Y)"].set_index("claim_layer")["claim_word"]
    assert told.to_dict() == {0: "not shown", 1: "compression"}


def test_planes_have_two_channels_of_the_input(tmp_path):
    follow(tmp_path, checkpoints(tmp_path, [1.0, 0.5, 0.2]))
    plane = read_map(tmp_path / "growth/plane.zarr")
    assert set(plane["channel"].values) == {"kt_upper 1 I(X;T)", "pair I(X;T)"}
    own = plane.isel(point=(plane["layer"].values == 1))
    assert (
        own["i_xt"].values.tolist()
        == own["i_ty"].values.tolist()
        == [[v] * 2 for v in (1, 0.5, 0.2)]
    )
    assert not plane["flagged_x"].any()
    assert plane["step"].values.tolist() == [0, 50, 100]


def test_curves_of_tokens_are_fitted(tmp_path):
    follow(tmp_path, checkpoints(tmp_path, [1.0] * 10))
    massive = read_map(tmp_path / "growth/massive.zarr")
    assert massive["layer"].values.tolist() == [0, 1]
    np.testing.assert_allclose(massive["fitted"], massive["ratio"], atol=0.5)
    assert (massive["r_squared"] > 0.999).all()
    laws = read_map(tmp_path / "growth/sparsity.zarr").to_dataframe()
    first = laws.groupby(["layer", "variable"]).first()
    assert (first["law"] == "relu").all()
    assert first["limit"].to_numpy() == pytest.approx(0.1, abs=0.01)


def test_few_checkpoints_have_no_curve_and_say_why(tmp_path):
    follow(tmp_path, checkpoints(tmp_path, [1.0, 0.5, 0.2]))
    massive = read_map(tmp_path / "growth/massive.zarr")
    assert all("at least 10 checkpoints" in text for text in massive["reason"].values)
    laws = read_map(tmp_path / "growth/sparsity.zarr")
    assert all("at least 8 checkpoints" in text for text in laws["reason"].values)


def test_sensitive_units_are_looked_for_in_recordings(tmp_path, profiled):
    steps = checkpoints(tmp_path, [1.0] * 4)
    for name in steps:
        (tmp_path / "recordings" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "recordings" / name).symlink_to(profiled.parent / "recordings")
    follow(tmp_path, steps, ("prompt_last", "think"))
    found = read_map(tmp_path / "growth/sensitive.zarr")
    assert found["variability"].dims == ("task", "phase", "layer", "unit")
    assert (found["variability"] == 0).all()  # one subject, four times
    assert not found["selected"].any()
    assert "instability" in str(found["flags"].values[0, 0, 0])
    assert "events.sensitive.think" in reasons(tmp_path / "growth")
    few = dict(list(steps.items())[:3])
    shutil.rmtree(tmp_path / "growth")
    follow(tmp_path, few, ("prompt_last",))
    assert not (tmp_path / "growth/sensitive.zarr").exists()
    assert "at least 4 checkpoints" in reasons(tmp_path / "growth")["events.sensitive.prompt_last"]


def test_numbers_of_other_stages_are_followed_too(tmp_path):
    steps = checkpoints(tmp_path, [1.0] * 10)
    for number, name in enumerate(steps):
        scores = np.array([[0.0, 1.0], [2.0, 3.0 + 5 * (number > 5)]])
        dims = {"layer": [0, 1], "expert": [0, 1]}
        own = xr.Dataset({"score": (("layer", "expert"), scores)}, dims)
        write_map(tmp_path / "maps" / name / "refusal/expert.resonance.zarr", own)
    asked = {"folder": "maps/{subject}", "store": "refusal/expert.resonance.zarr"}
    found = follow(tmp_path, steps, others=[{**asked, "variable": "score"}])
    own = found.isel(number=found["measure"].values == "refusal/expert.resonance")
    assert own["detail"].values.tolist() == ["expert 0", "expert 1"] * 2
    assert own["layer"].values.tolist() == ["0", "0", "1", "1"]
    assert own["jump"].values[-1] == pytest.approx(5)
    assert own["after"].values[-1] == 250
    with pytest.raises(EvidenceError, match=r"has no numbers 'rank' to follow.*It has score"):
        follow(tmp_path, steps, others=[{**asked, "variable": "rank"}])


def test_few_checkpoints_are_kept_and_not_followed(tmp_path):
    found = follow(tmp_path, checkpoints(tmp_path, [1.0, 0.5, 0.2]))
    assert "at 6 checkpoints at least" in found.attrs["not_followed"]
    assert "jump" not in found
    own = found.isel(number=found["measure"].values == "residual")
    assert own["value"].sel(step=100).max() == 0.2


def test_a_number_that_a_checkpoint_lacks_is_missing_there(tmp_path):
    steps = checkpoints(tmp_path, [1.0] * 4 + [0.5] * 4)
    shutil.rmtree(tmp_path / "growth_2")
    own = scalars(1.0).isel(estimator=[0, 2])
    write_map(tmp_path / "growth_2" / "events.residual.zarr", own)
    found = follow(tmp_path, steps)
    found = found.isel(number=found["measure"].values == "residual")
    missing = found["detail"].values[np.isnan(found["value"].sel(step=100).values)]
    assert set(missing) == {"compressed I(T;Y)", "pair I(X;T)"}


def test_a_missing_checkpoint_ends_the_stage(tmp_path):
    steps = checkpoints(tmp_path, [1.0] * 6)
    shutil.rmtree(tmp_path / "growth_3")
    with pytest.raises(StoreError, match="growth_3: no profiles"):
        follow(tmp_path, steps)
    assert not (tmp_path / "growth").exists()
