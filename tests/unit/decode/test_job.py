"""The stage that decodes a subject's recordings."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from lmri.config import (
    ContrastOptions,
    DecodeOptions,
    LabelOptions,
    RecordOptions,
    SplitOptions,
    TaskOptions,
    WorldOptions,
)
from lmri.decode import decode_subject
from lmri.errors import AlteredError, StoreError
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import read_map, write_finding

ANALYSES = ("profile", "generalisation", "control", "masks", "trace", "bags", "regions")
CAPITAL = ContrastOptions.from_dict(
    {
        "name": "capital",
        "role": "exploratory",
        "task": "relations",
        "within": "place",
        "target": ["capital"],
        "controls": ["river", "language"],
    }
)
OPTIONS = DecodeOptions(
    analyses=ANALYSES,
    positions=("content", "prompt_last-1"),
    folds=3,
    draws=5,
    control_draws=2,
    mask_draws=3,
    alpha=0.3,
    bag=3,
)


def table(folder, model):
    """Ask three things of 24 words: more places than the small world has."""
    words = sorted(AutoTokenizer.from_pretrained(model).get_vocab())
    words = [word for word in words if word.isalpha() and word.islower()][-24:]
    rows = [
        {"condition": name, "prompt": f"<bos> <user> what is the {name} of {word} ? <assistant>"}
        | {"reference": "it is", "place": word}
        for word in words
        for name in ("capital", "river", "language")
    ]
    pd.DataFrame(rows).to_csv(folder / "relations.csv", index=False)
    return TaskOptions(
        "relations", "table", path=str(folder / "relations.csv"), carriers=("place",)
    )


def record(folder, model, full=("router", "residual"), task="relations"):
    asked = task == "relations"
    write_stimuli(
        out=folder / f"stimuli/{task}.parquet",
        task=task,
        options=table(folder, model) if asked else TaskOptions(task, "world", trials=20),
        splits=SplitOptions(0.4, 0.4, 0.2),
        world=WorldOptions(size="small"),
        seed=0,
        provenance={},
    )
    record_task(
        out=folder / f"recordings/{task}/0.zarr",
        manifest=folder / f"recordings/{task}/0.zarr.manifest.json",
        subject="tiny",
        model=model,
        task=task,
        stimuli=folder / f"stimuli/{task}.parquet",
        shard=0,
        options=RecordOptions(
            max_new_tokens=3,
            quantities=("router", "residual"),
            full=full,
            splits=("selection", "calibration"),
        ),
        seed=0,
        provenance={"stage": "record"},
    )


def find(folder, kind="residual", **unit):
    finding = {
        "stage": "localise",
        "subject": "tiny",
        "contrast": "capital",
        "phase": "prompt_last",
        "kind": kind,
        "method": "welch_t",
        "role": "exploratory",
        "status": "testable",
        "units": [unit] if unit else [],
    }
    write_finding(folder / f"findings/capital.prompt_last/{kind}.welch_t.json", finding)


def decode(folder, options=OPTIONS, tasks=("relations",), out="decoded"):
    decode_subject(
        subject="tiny",
        recordings=folder / "recordings",
        findings=folder / "findings",
        out=folder / out,
        tasks=dict.fromkeys(tasks, ()),
        contrasts=[CAPITAL],
        phases=("prompt_last", "content", "response"),
        options=options,
        seed=0,
        provenance={"stage": "decode"},
    )
    return folder / out


@pytest.fixture(scope="module")
def study(tiny_model_folder, tmp_path_factory):
    """Relations and copying, with a finding about a residual dimension."""
    folder = tmp_path_factory.mktemp("decode")
    record(folder, tiny_model_folder)
    record(folder, tiny_model_folder, task="copying")
    find(folder, layer=1, dimension=3)
    find(folder, "head", layer=1, head=0)
    find(folder, "expert")
    return folder


@pytest.fixture(scope="module")
def decoded(study):
    """All analyses of both tasks."""
    return decode(study, tasks=("relations", "copying"))


def reasons(folder):
    return json.loads((folder / "left_out.json").read_text(encoding="utf-8"))


def test_every_analysis_is_written_with_its_origin(decoded):
    stores = {path.name for path in decoded.iterdir()} - {"left_out.json"}
    assert stores == {f"relations.{name}.zarr" for name in ANALYSES if name != "control"}
    for store in stores:
        attributes = read_map(decoded / store).attrs
        assert attributes["subject"] == "tiny"
        assert "decode" in attributes["provenance"]


def test_contrasts_and_conditions_are_decoded(decoded):
    found = read_map(decoded / "relations.profile.zarr")
    assert found["question"].values.tolist() == ["capital", "condition"]
    assert found["chance"].values == pytest.approx([1 / 2, 1 / 3])
    assert found["position"].values.tolist() == ["content", "prompt_last-1"]
    # The words of the question tell the relation, in any model.
    value = found["value"].sel(statistic="balanced_accuracy", question="condition")
    assert value.sel(position="content").max() > 0.9


def test_what_is_not_there_says_why(decoded):
    told = reasons(decoded)
    assert "needs 2 classes. Got 1 ('copying')" in told["copying.condition"]
    assert "Every place has several" in told["relations.control.capital"]
    assert "needs 2 classes. Got 3" in told["relations.trace.condition"]
    assert "needs 'head', which was not recorded" in told["relations.masks.capital.head.welch_t"]
    assert "the map selects nothing" in told["relations.masks.capital.expert.welch_t"]


def test_masks_are_judged_on_other_trials(decoded):
    found = read_map(decoded / "relations.masks.zarr")
    assert found["kind"].values.tolist() == ["residual"]
    assert json.loads(found["mapped"].values[0]) == {"1": [3]}
    whole = read_map(decoded / "relations.profile.zarr")["n"].max()
    assert 0 < found["n"].values[0] < whole


def test_the_same_bits_again(study, decoded):
    again = decode(study, tasks=("relations", "copying"), out="again")
    for store in decoded.glob("*.zarr"):
        assert read_map(store).identical(read_map(again / store.name))


def test_without_tokens_what_needs_them_is_left_out(tiny_model_folder, tmp_path):
    record(tmp_path, tiny_model_folder, full=("router",))
    few = DecodeOptions(
        analyses=("profile", "trace"),
        labels=(LabelOptions("relations"),),
        folds=3,
        draws=0,
    )
    out = decode(tmp_path, few)
    assert read_map(out / "relations.profile.zarr")["position"].values.tolist() == [
        *("content", "prompt_last", "response", "response_last")
    ]
    assert np.isnan(read_map(out / "relations.profile.zarr")["p"]).all()
    assert "add 'residual' to 'record.full'" in reasons(out)["relations.trace.capital"]


def test_a_changed_finding_is_refused(study, tmp_path):
    shutil.copytree(study / "findings", tmp_path / "findings")
    shutil.copytree(study / "recordings", tmp_path / "recordings")
    path = tmp_path / "findings/capital.prompt_last/residual.welch_t.json"
    path.write_text(path.read_text().replace('"dimension": 3', '"dimension": 4'))
    with pytest.raises(AlteredError):
        decode(tmp_path, DecodeOptions(analyses=("masks",), folds=3))
    assert not (tmp_path / "decoded").exists()


def test_a_damaged_recording_is_refused(study, tmp_path):
    shutil.copytree(study / "recordings", tmp_path / "recordings")
    chunk = next((tmp_path / "recordings/relations/0.zarr/pooled/residual").rglob("c/*"))
    while chunk.is_dir():
        chunk = next(chunk.iterdir())
    chunk.write_bytes(b"\0" + chunk.read_bytes()[1:])
    with pytest.raises(StoreError):
        decode(tmp_path, DecodeOptions(analyses=("profile",), folds=3))
    assert not (tmp_path / "decoded").exists()


def test_a_subject_without_such_units_is_left_out(study, tmp_path):
    out = decode_subject(
        subject="tiny",
        recordings=study / "recordings",
        findings=study / "findings",
        out=tmp_path / "decoded",
        tasks={"relations": ()},
        contrasts=[],
        phases=("prompt_last",),
        options=DecodeOptions(analyses=("profile",), quantity="neuron"),
        seed=0,
        provenance={},
    )
    assert out is None
    assert "needs 'neuron', which was not recorded" in reasons(tmp_path / "decoded")["relations"]
