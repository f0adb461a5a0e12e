"""From a causal map to a verdict: the feature that writes the behaviour, and one that does not."""

import csv
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from lmri.config import (
    CausalOptions,
    ContrastOptions,
    EvidenceOptions,
    LocaliseOptions,
    RecordOptions,
    SplitOptions,
    TaskOptions,
    ValidateOptions,
    WorldOptions,
)
from lmri.errors import StoreError
from lmri.localise import localise_subject
from lmri.localise.findings import NO_UNITS
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import read_finding, read_map, read_table, write_finding
from lmri.validate import validate_subject

WRITER, DECOY = 0, 1
CONTRAST = ContrastOptions.from_dict(
    {
        "name": "refusal",
        "role": "hypothesis",
        "task": "events",
        "target": ["sensitive"],
        "controls": ["benign"],
        "bystanders": [{"task": "events", "condition": "benign"}],
    }
)
CAUSAL = CausalOptions(
    contrasts=("refusal",),
    methods=("attribution_patching",),
    kinds=("feature", "residual"),
    role_kinds=(),
    correct="refusal",
    wrong="fact",
    metric="logit_difference",
    sample=4,
    shams=True,
    primary="feature.attribution_patching",
)
EVIDENCE = EvidenceOptions(
    doses=(1, 2),
    minimum_trials=30,
    minimum_target_trials=20,
    shams=19,
    exploratory_shams=4,
    matched_draws=3,
)


@pytest.fixture(scope="module")
def study(planted_subject, planted_trials, tmp_path_factory):
    """Stimuli, recording, model and dictionary of the planted subject."""
    root = tmp_path_factory.mktemp("causal")
    with (root / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        names = ["condition", "place", "class_place", "prompt", "content", "reference"]
        writer.writerow([*names, "fact", "refusal"])
        for row in planted_trials.itertuples():
            place = row.carrier_place
            first = [row.condition, place, row.condition, row.prompt, place, row.reference]
            writer.writerow([*first, "ok", "no"])
    write_stimuli(
        out=root / "stimuli/events.parquet",
        task="events",
        options=TaskOptions("events", "table", str(root / "events.csv"), ("place",)),
        splits=SplitOptions(0.4, 0.2, 0.4),
        world=WorldOptions(),
        seed=0,
        provenance={},
    )
    planted_subject.model.save_pretrained(root / "model")
    planted_subject.tokenizer.save_pretrained(root / "model")
    record_task(
        out=root / "recordings/events/0.zarr",
        manifest=root / "recordings/events/0.zarr.manifest.json",
        task="events",
        stimuli=root / "stimuli/events.parquet",
        shard=0,
        options=RecordOptions(max_new_tokens=3, quantities=("layer", "head", "residual")),
        subject="planted",
        model=root / "model",
        seed=0,
        provenance={},
    )
    # What the last layer hands on: the refusal, whether a place is sensitive (which nothing reads
    # any more), and noise.
    directions = torch.eye(64)[[63, 62, *range(0, 40, 4)]]
    tensors = {"encoder": directions.T, "encoder_bias": torch.zeros(12), "decoder": directions}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, root / "features.safetensors", {"layer": "1", "place": "after"})
    return root


def localised(study, out, maps=("head.welch_t",), causal=CAUSAL, **changes):
    if causal is not None:
        dictionary = str(study / "features.safetensors")
        causal = CausalOptions.from_dict({**causal.to_dict(), "dictionary": dictionary})
    localise_subject(
        subject="planted",
        model=study / "model",
        stimuli=study / "stimuli",
        recordings=study / "recordings",
        maps=out / "maps",
        findings=out / "findings",
        tasks={"events": ("place",)},
        contrasts=[CONTRAST],
        options=LocaliseOptions(maps, ("prompt_last",), permutations=99, causal=causal),
        evidence=EvidenceOptions.from_dict({**EVIDENCE.to_dict(), **changes}),
        claims=1,
        seed=0,
        provenance={},
    )
    return out


@pytest.fixture(scope="module")
def found(study, tmp_path_factory):
    return localised(study, tmp_path_factory.mktemp("found"))


def validated(study, findings, out):
    validate_subject(
        subject="planted",
        model=study / "model",
        stimuli=study / "stimuli",
        findings=findings,
        out=out,
        options=ValidateOptions(bootstrap=200, rows=256, control_bystander_trials=8),
        seed=0,
        provenance={},
    )
    return [read_table(out / f"{name}.parquet") for name in ("arms", "verdicts")]


FOLDER = "refusal.attribution"
FEATURE = f"{FOLDER}/feature.attribution_patching"


def test_the_feature_that_writes_the_behaviour_is_confirmed(study, found, tmp_path):
    statistics = read_map(found / f"maps/{FEATURE}.zarr")
    assert statistics["score"].dims == ("layer", "feature")
    assert "warning" not in statistics.attrs
    assert int(statistics["score"].values.argmax()) == WRITER
    finding = read_finding(found / f"findings/{FEATURE}.json")
    assert (finding["status"], finding["role"], finding["kind"]) == (
        *("testable", "hypothesis", "feature"),
    )
    assert finding["primary_endpoint"]["units"] == [[1, WRITER]]
    assert finding["primary_endpoint"]["mode"] == "zero"
    assert finding["calibration"][0]["effect"] == 1
    assert len(finding["controls"]["sham"]) == 19
    means = {tuple(unit): values for unit, values in finding["means"]}
    assert abs(means[1, WRITER][0]) < 0.5
    check = finding["row_space"]
    assert (check["width"], check["illusory"]) == (64, False)
    assert check["kept"] > 0.9 and check["effect"] > 1
    other = read_finding(found / "findings/refusal.prompt_last/head.welch_t.json")
    assert other["role"] == "exploratory"
    arms, verdicts = validated(study, found / "findings", tmp_path / "out")
    (row,) = verdicts.to_dict("records")
    assert (row["verdict"], row["kind"], row["phase"]) == ("confirmed", "feature", "attribution")
    assert row["effect"] == 1
    sites = arms[(arms["kind"] == "residual_site") & (arms["arm"] == "finding")]
    assert len(sites) and set(sites["mode"]) == {"mean"}


def test_a_feature_that_is_not_read_is_not_confirmed(study, found, tmp_path):
    finding = read_finding(found / f"findings/{FEATURE}.json")
    decoy = [1, DECOY]
    finding["units"] = [{"layer": 1, "feature": DECOY}, finding["units"][0]]
    finding["primary_endpoint"] |= {"units": [decoy], "dose": 1}
    finding["secondary"] |= {"doses": [1], "dose": 1}
    finding["means"].append([decoy, [0.0]])
    write_finding(tmp_path / f"findings/{FEATURE}.json", finding)
    _, verdicts = validated(study, tmp_path / "findings", tmp_path / "out")
    (row,) = verdicts.to_dict("records")
    assert row["verdict"] == "refuted"


def test_sites_are_named_by_their_places(found):
    statistics = read_map(found / f"maps/{FOLDER}/residual_site.attribution_patching.zarr")
    assert statistics["place"].values.tolist() == ["before", "mid", "after"]
    assert statistics.attrs["kind"] == "residual_site"
    finding = read_finding(found / f"findings/{FOLDER}/residual_site.attribution_patching.json")
    assert (finding["kind"], finding["role"], finding["status"]) == (
        *("residual_site", "exploratory", "testable"),
    )
    best = finding["units"][0]
    place = finding["units"][0]["place"]
    scores = statistics["score"]
    assert float(scores.sel(layer=best["layer"]).isel(place=place)) == pytest.approx(
        best["score"], abs=1e-5
    )


def test_another_dictionary_is_refused(study, found, tmp_path):
    finding = read_finding(found / f"findings/{FEATURE}.json")
    other = tmp_path / "other.safetensors"
    eye = torch.eye(64)[:12]
    tensors = {"encoder": eye.T.contiguous(), "encoder_bias": torch.zeros(12), "decoder": eye}
    save_file(tensors, other, {"layer": "1", "place": "after"})
    finding["dictionary"]["path"] = str(other)
    write_finding(tmp_path / f"findings/{FEATURE}.json", finding)
    with pytest.raises(StoreError, match=r"other\.safetensors: the 'dictionary' of .* made with"):
        validated(study, tmp_path / "findings", tmp_path / "out")
    finding["dictionary"]["path"] = str(tmp_path / "gone.safetensors")
    write_finding(tmp_path / f"findings/{FEATURE}.json", finding)
    with pytest.raises(StoreError, match=r"gone\.safetensors: a dictionary must be"):
        validated(study, tmp_path / "findings", tmp_path / "out")


def test_dimensions_are_resampled_with_controls_that_are_as_massive(study, tmp_path):
    changes = {"unit_mode": "resample", "neuron_doses": (1, 2)}
    out = localised(study, tmp_path, ("residual.welch_t",), None, **changes)
    finding = read_finding(out / "findings/refusal.prompt_last/residual.welch_t.json")
    assert finding["primary_endpoint"]["mode"] == "resample"
    assert finding["secondary"]["modes"] == ["zero", "mean", "resample"]
    assert set(finding["controls"]) == {
        *("sham", "layer_matched", "load_matched", "massive_matched", "bottom", "top_load"),
    }
    assert len(finding["controls"]["massive_matched"]["1"]) == 3
    assert {len(numbers) for _, numbers in finding["values"]} == {32}
    assert finding["row_space"]["width"] == 64
    first, again = (validated(study, out / "findings", tmp_path / name)[0] for name in "ab")
    assert first.equals(again)
    own = first[(first["arm"] == "finding") & (first["score"] == "refusal_onset")]
    assert {"zero", "mean", "resample"} == set(own["mode"])
    assert "massive_matched" in set(first["arm"])


def test_a_behaviour_that_is_not_there_is_told_beside_the_map(study, tmp_path):
    changes = {"baseline_target": 1.01}
    with pytest.warns(UserWarning, match=r"Causal maps of 'refusal': the behaviour is not there"):
        out = localised(study, tmp_path, **changes)
    statistics = read_map(out / f"maps/{FEATURE}.zarr")
    assert statistics.attrs["warning"].endswith("refusal_onset sensitive 1.00 < 1.01")
    assert read_finding(out / f"findings/{FEATURE}.json")["status"] == "not_testable"


def test_a_primary_map_of_units_that_are_not_there_cannot_be_tested(study, tmp_path):
    primary = "shared_neuron.attribution_patching"
    causal = replace(CAUSAL, kinds=("head", "shared_neuron"), primary=primary)
    out = localised(study, tmp_path, causal=causal)
    finding = read_finding(out / f"findings/{FOLDER}/{primary}.json")
    assert (finding["role"], finding["status"]) == ("hypothesis", "not_testable")
    assert finding["reason"] == NO_UNITS.format("neurons of shared experts")
    _, verdicts = validated(study, out / "findings", tmp_path / "out")
    assert verdicts["verdict"].tolist() == ["not testable"]
