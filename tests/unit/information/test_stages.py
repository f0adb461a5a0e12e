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
from lmri.information import Question, follow_series, information_subject, job
from lmri.information.job import questions_of
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import read_map, write_map

MEASURES = ("residual", "expert", "spectral", "rate_reduction", "attention", "lens")
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
        options=RecordOptions(max_new_tokens=3, quantities=quantities, full=("router",)),
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
    record(folder, tiny_model_folder, ("router", "attention", "residual"))
    return profile(folder, tiny_model_folder)


def reasons(folder):
    return json.loads((folder / "left_out.json").read_text(encoding="utf-8"))


def test_every_measure_is_written_with_its_origin(profiled):
    stores = {path.name for path in profiled.iterdir()} - {"left_out.json"}
    assert stores == {f"events.{name}.zarr" for name in (*MEASURES, "changes")}
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
    assert list(classes["exchanged"].values) == ["trials", "carrier_place", "carrier_year"]


def test_a_phase_without_tokens_is_left_out_and_said(profiled):
    said = reasons(profiled)
    assert "phase" in said["events.residual.think"]
    assert said["events.expert.think"] == "No trial has a token in this phase."
    assert set(said) == {"events.residual.think", "events.expert.think"}


def test_without_the_content_the_inputs_are_left_out_and_said(
    monkeypatch, tiny_model_folder, profiled
):
    monkeypatch.setattr(job, "_has_inputs", lambda recordings: False)
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
        "events.expert.zarr",
        "events.lens.zarr",
    }
    said = reasons(folder)
    for name in ("residual", "spectral", "rate_reduction", "attention"):
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


def scalars(value):
    """An information profile of one estimator and two layers."""
    dims = ("target", "phase", "layer", "estimator")
    shape = (1, 1, 2, 2)
    numbers = np.zeros(shape)
    numbers[0, 0, 1] = value
    return xr.Dataset(
        {
            "value": (dims, numbers),
            "sd": (dims, np.full(shape, 0.01)),
            "flagged": ((*dims, "flag"), np.zeros((*shape, 1), dtype=bool)),
        },
        {
            "target": ["condition"],
            "phase": ["prompt_last"],
            "layer": [0, 1],
            "estimator": ["probe I(T;Y)", "compressed I(T;Y)"],
            "family": ("estimator", ["probe", "neighbours"]),
            "flag": ["saturation"],
        },
    )


def checkpoints(folder, values):
    steps = {}
    for number, value in enumerate(values):
        write_map(folder / f"growth_{number}" / "events.residual.zarr", scalars(value))
        steps[f"growth_{number}"] = 50 * number
    return steps


def follow(folder, steps):
    follow_series(
        series="growth",
        profiles=folder,
        out=folder / "growth.zarr",
        steps=steps,
        seed=0,
        provenance={"stage": "dynamics"},
    )
    return read_map(folder / "growth.zarr")


def test_a_jump_is_found_and_two_channels_say_compression(tmp_path):
    found = follow(tmp_path, checkpoints(tmp_path, [1.0] * 5 + [0.2] * 5))
    moved = found.isel(number=found["layer"].values == "1")
    assert list(found["step"].values) == [50 * number for number in range(10)]
    assert (moved["after"].values == 200).all()
    assert moved["jump"].values == pytest.approx(-0.8)
    claims = found[["claim_quantity", "claim_layer", "claim_word"]].to_dataframe()
    told = claims[claims["claim_quantity"] == "I(T;Y)"].set_index("claim_layer")["claim_word"]
    assert told.to_dict() == {0: "not shown", 1: "compression"}


def test_few_checkpoints_are_kept_and_not_followed(tmp_path):
    found = follow(tmp_path, checkpoints(tmp_path, [1.0, 0.5, 0.2]))
    assert "at 6 checkpoints at least" in found.attrs["not_followed"]
    assert "jump" not in found
    assert found["value"].sel(step=100).max() == 0.2


def test_a_number_that_a_checkpoint_lacks_is_missing_there(tmp_path):
    steps = checkpoints(tmp_path, [1.0] * 4 + [0.5] * 4)
    shutil.rmtree(tmp_path / "growth_2")
    own = scalars(1.0).isel(estimator=[0])
    write_map(tmp_path / "growth_2" / "events.residual.zarr", own)
    found = follow(tmp_path, steps)
    missing = found["detail"].values[np.isnan(found["value"].sel(step=100).values)]
    assert set(missing) == {"compressed I(T;Y)"}


def test_a_missing_checkpoint_ends_the_stage(tmp_path):
    steps = checkpoints(tmp_path, [1.0] * 6)
    shutil.rmtree(tmp_path / "growth_3")
    with pytest.raises(StoreError, match="growth_3: no profiles"):
        follow(tmp_path, steps)
    assert not (tmp_path / "growth.zarr").exists()
