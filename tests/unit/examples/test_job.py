"""The stage that looks for examples, on a real recording in two shards."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from network_recordings import random_subject, record_events, write_events

from lmri.config import ExampleOptions
from lmri.errors import AlteredError, EvidenceError, StoreError
from lmri.examples import find_examples, job
from lmri.examples.strongest import Strongest
from lmri.store import open_recording, open_recordings, read_table, write_finding, write_map

CONTRASTS = [
    {"name": "refusal", "task": "events", "conditions": ["sensitive", "benign"]},
    {"name": "nothing", "task": "events", "conditions": ["benign"]},
]
MAPS = ("expert.resonance", "head.welch_t")
OPTIONS = ExampleOptions(units=2, trials=8, window=3, facets=2, traces=1)
TABLES = ("units", "examples", "tokens", "traces")


def finding(folder, contrast, name, units):
    kind, _, method = name.partition(".")
    write_finding(
        folder / f"{contrast}.prompt_last/{name}.json",
        {
            "stage": "localise",
            "subject": "tiny",
            "task": "events",
            "contrast": contrast,
            "phase": "prompt_last",
            "kind": kind,
            "method": method,
            "role": "hypothesis",
            "status": "testable" if units else "null",
            "units": [dict(zip(("layer", kind, "score"), own, strict=True)) for own in units],
        },
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A random subject, whose findings and maps were written by hand."""
    folder = tmp_path_factory.mktemp("examples")
    model, stimuli = random_subject(folder / "tiny"), write_events(folder / "events.parquet")
    record_events(stimuli, model, folder / "recordings", "tiny", ("router", "head"), shards=2)
    finding(folder / "findings", "refusal", "expert.resonance", [(1, 3, 0.4), (0, 2, 0.9)])
    finding(folder / "findings", "refusal", "head.welch_t", [(1, 0, 5.0)])
    finding(folder / "findings", "nothing", "expert.resonance", [])
    score = np.zeros((2, 8))
    score[0, 2], score[1, 6], score[0, 5] = 0.9, 0.8, -0.95
    coordinates = {"layer": [0, 1], "expert": range(8)}
    for contrast in ("refusal", "nothing"):
        made = xr.Dataset({"score": (("layer", "expert"), score)}, coordinates)
        write_map(folder / f"maps/{contrast}.prompt_last/expert.resonance.zarr", made)
    return folder


def run(study, out, options=OPTIONS, **more):
    arguments = {
        "subject": "tiny",
        "model": study / "tiny",
        "recordings": study / "recordings",
        "findings": study / "findings",
        "maps": study / "maps",
        "out": out,
        "tasks": ["events"],
        "contrasts": CONTRASTS,
        "names": MAPS,
        "phase": "prompt_last",
        "options": options,
        "seed": 0,
        "provenance": {"stage": "examples"},
    }
    find_examples(**{**arguments, **more})
    return {name: read_table(out / f"{name}.parquet") for name in TABLES}


@pytest.fixture(scope="module")
def found(study, tmp_path_factory):
    return run(study, tmp_path_factory.mktemp("out") / "tiny")


def test_units_are_those_of_findings_and_then_of_the_primary_map(found):
    units = found["units"]
    named = list(zip(units["contrast"], units["source"], units["unit"], units["rank"], strict=True))
    assert named == [
        ("refusal", "finding", "[0, 2]", 1),
        ("refusal", "finding", "[1, 3]", 2),
        ("refusal", "map", "[1, 6]", 2),
        ("nothing", "map", "[0, 2]", 1),
        ("nothing", "map", "[1, 6]", 2),
    ]
    assert set(units["subject"]) == {"tiny"}


def test_examples_are_the_trials_with_the_largest_weights(study, found):
    tree = open_recordings(study / "recordings/events")
    index, router = tree["tokens/index"].dataset, tree["tokens/router"].dataset
    names = tree["trials"]["trial"].values[index["trial"].values]
    for unit in ("[0, 2]", "[1, 3]", "[1, 6]"):
        layer, expert = json.loads(unit)
        chosen = router["expert_id"].values[:, layer] == expert
        weight = np.where(chosen, router["weight"].values[:, layer], 0).sum(axis=1)
        best = pd.Series(weight).groupby(names).max().sort_values(ascending=False)
        own = found["examples"][found["examples"]["unit"] == unit]
        assert 0 < len(own) <= 8
        assert list(own["rank"]) == list(range(1, len(own) + 1))
        assert own["activity"].iloc[0] == best.iloc[0]
        assert own["activity"].is_monotonic_decreasing
        for row in own.to_dict("records"):
            at = (names == row["trial"]) & (index["position"].values == row["position"])
            assert weight[at] == row["activity"] == best[row["trial"]]
        units = found["units"].set_index("unit").loc[[unit]].iloc[0]
        assert units["largest"] == best.iloc[0]
        np.testing.assert_allclose(units["mean"], weight.mean(), rtol=1e-6)
        assert units["active"] == chosen.any(axis=1).mean()
        assert units["tokens"] == len(weight)


@pytest.mark.parametrize("encoder", [False, True])
def test_tokens_of_a_decoder_alone_see_only_what_is_before(study, tmp_path, monkeypatch, encoder):
    said = []

    def opened(*paths):
        recording = open_recording(*paths)
        recording.attributes["encoder"] = encoder
        return recording

    def strongest(*arguments, causal):
        said.append(causal)
        return Strongest(*arguments, causal=causal)

    monkeypatch.setattr(job, "open_recording", opened)
    monkeypatch.setattr(job, "Strongest", strongest)
    run(study, tmp_path / "tiny")
    assert said == [not encoder]


def test_tokens_are_the_words_of_the_trial(study, found):
    trials = open_recordings(study / "recordings/events")["trials"].dataset
    prompts = dict(zip(trials["trial"].values, trials["prompt"].values, strict=True))
    for row in found["examples"].to_dict("records"):
        own = found["tokens"]
        own = own[(own["unit"] == row["unit"]) & (own["rank"] == row["rank"])]
        text = "".join(own["token"][~own["span"].isin(["response"])]).strip()
        assert text in prompts[row["trial"]]
        assert own["token"][own["position"] == row["position"]].tolist() == [row["token"]]
        assert own["activity"].abs().max() == abs(row["activity"])
        assert len(own) <= 2 * OPTIONS.window + 1


def test_traces_are_whole_trials_of_the_calibration(study, found):
    traces = found["traces"]
    assert set(traces["contrast"]) == {"refusal"}  # the other has no finding
    assert list(dict.fromkeys(traces["condition"])) == ["sensitive", "benign"]
    assert set(traces["split"]) == {"calibration"}
    assert set(traces["unit"]) == {"[0, 2]", "[1, 3]"}
    for (_, unit), own in traces.groupby(["trial", "unit"]):
        assert own["position"].tolist() == list(range(own["length"].iloc[0])), unit
        assert set(own["span"]) >= {"content", "response"}


def test_what_was_not_recorded_at_every_token_is_left_out(study, tmp_path):
    run(study, tmp_path / "out")
    about = json.loads((tmp_path / "out/about.json").read_text())
    assert list(about["left_out"]) == ["head.norm"]
    assert "'record.full'" in about["left_out"]["head.norm"]
    assert about["provenance"] == {"stage": "examples"}


def test_the_same_bits_again(study, found, tmp_path):
    again = run(study, tmp_path / "out")
    for name in TABLES:
        pd.testing.assert_frame_equal(found[name], again[name], check_exact=True)


def test_without_units_there_are_empty_tables(study, tmp_path):
    tables = run(study, tmp_path / "out", contrasts=CONTRASTS[1:], maps=tmp_path / "none")
    assert all(table.empty for table in tables.values())


def test_a_task_without_recordings_is_refused(study, tmp_path):
    with pytest.raises(EvidenceError, match=r"relations: no recording"):
        run(study, tmp_path / "out", tasks=["events", "relations"])
    assert not (tmp_path / "out").exists()


def test_a_finding_that_was_changed_is_refused(study, tmp_path):
    finding(tmp_path / "findings", "refusal", "expert.resonance", [(1, 3, 0.4)])
    path = tmp_path / "findings/refusal.prompt_last/expert.resonance.json"
    path.write_text(path.read_text().replace("0.4", "0.5"))
    with pytest.raises(AlteredError, match="was changed after it was written"):
        run(study, tmp_path / "out", findings=tmp_path / "findings")
    assert not (tmp_path / "out").exists()


def test_a_damaged_recording_is_refused(study, tmp_path):
    shutil.copytree(study / "recordings", tmp_path / "recordings")
    min((tmp_path / "recordings/events/0.zarr/tokens/router/weight").glob("c.*")).unlink()
    with pytest.raises(StoreError, match=r"0\.zarr"):
        run(study, tmp_path / "out", recordings=tmp_path / "recordings")
    assert not (tmp_path / "out").exists()
