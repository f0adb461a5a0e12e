"""The stage on tiny subjects that nothing can be tested on, and validation after it."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from families import configuration, random_model

from lmri.config import (
    ContrastOptions,
    EvidenceOptions,
    LocaliseOptions,
    RecordOptions,
    SplitOptions,
    TaskOptions,
    ValidateOptions,
    WorldOptions,
)
from lmri.localise import DIMENSIONS, localise_subject
from lmri.localise.findings import ALWAYS_RUN, NO_UNITS
from lmri.localise.job import _role
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import Recording, read_finding, read_map, read_table
from lmri.validate import validate_subject
from lmri.validate.job import VERDICT_COLUMNS
from lmri.world import build_tokenizer

NO_EXPERTS = NO_UNITS.format("experts")
QUANTITIES = ("router", "layer", "head", "attention", "neuron", "preactivation", "residual")
TASKS = ("marks", "words")  # the content is the first word, or both
CONDITIONS = {"target": ["a"], "controls": ["b"]}
CONTRASTS = (
    {"name": "claim", "role": "hypothesis", "bystanders": [{"task": "marks", "condition": "b"}]},
    {"name": "look", "role": "exploratory"},
)


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory, small_world):
    """Two conditions told by their first word; 16 entities in each."""
    folder = tmp_path_factory.mktemp("marks")
    first, second, *others = [w for w in small_world.words() if w.isalpha()][:40]
    for task in TASKS:
        with (folder / f"{task}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            names = ["condition", "entity", "class_entity", "prompt", "content", "reference"]
            writer.writerow(names)
            for i, word in enumerate(others[:32]):
                kind, mark = ("a", first) if i % 2 else ("b", second)
                content = mark if task == "marks" else f"{mark} {word}"
                writer.writerow([kind, word, kind, f"{mark} {word}", content, word])
        write_stimuli(
            out=folder / f"stimuli/{task}.parquet",
            task=task,
            options=TaskOptions(task, "table", str(folder / f"{task}.csv"), ("entity",)),
            splits=SplitOptions(0.5, 0.25, 0.25),
            world=WorldOptions(),
            seed=0,
            provenance={},
        )
    return folder / "stimuli"


@pytest.fixture
def run(stimuli, tmp_path, small_world):
    """Record, localise and validate the tiny model of an architecture."""

    def call(kind: str, contrasts=CONTRASTS, maps=("expert.resonance",), task="marks"):
        tokenizer = build_tokenizer(small_world)
        random_model(configuration(kind, vocab_size=len(tokenizer))).save_pretrained(
            tmp_path / "model"
        )
        tokenizer.save_pretrained(tmp_path / "model")
        common = {"subject": "tiny", "model": tmp_path / "model", "seed": 0, "provenance": {}}
        store = tmp_path / f"recordings/{task}/0.zarr"
        record_task(
            out=store,
            manifest=store.with_name("0.zarr.manifest.json"),
            task=task,
            stimuli=stimuli / f"{task}.parquet",
            shard=0,
            options=RecordOptions(max_new_tokens=2, quantities=QUANTITIES),
            **common,
        )
        localise_subject(
            stimuli=stimuli,
            recordings=tmp_path / "recordings",
            maps=tmp_path / "maps",
            findings=tmp_path / "findings",
            tasks={task: ("entity",)},
            contrasts=[
                ContrastOptions.from_dict({"task": task, **CONDITIONS, **c}) for c in contrasts
            ],
            options=LocaliseOptions(maps, ("content",), permutations=99),
            evidence=EvidenceOptions(minimum_trials=1, minimum_target_trials=1),
            claims=1,
            **common,
        )
        validate_subject(
            stimuli=stimuli,
            findings=tmp_path / "findings",
            out=tmp_path / "validation",
            options=ValidateOptions(bootstrap=100),
            **common,
        )
        return tmp_path

    return call


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_without_experts_there_is_no_map_and_the_finding_says_so(run, kind):
    out = run(kind)
    assert list((out / "maps").iterdir()) == []
    for contrast in ("claim", "look"):
        finding = read_finding(out / f"findings/{contrast}.content/expert.resonance.json")
        assert (finding["status"], finding["reason"]) == ("not_testable", NO_EXPERTS)
        assert finding["units"] == []
    verdicts = read_table(out / "validation/verdicts.parquet")
    assert tuple(verdicts["contrast"]) == ("claim",)
    assert set(verdicts.columns) == set(VERDICT_COLUMNS)
    (row,) = verdicts.to_dict("records")
    assert (row["verdict"], row["reason"], row["n"]) == ("not testable", NO_EXPERTS, 0)
    for table in ("arms", "transcripts"):
        assert len(read_table(out / f"validation/{table}.parquet")) == 0


def test_experts_that_always_run_are_mapped_and_not_tested(run):
    out = run("llama4_text")
    statistics = read_map(out / "maps/claim.content/expert.resonance.zarr")
    assert float(statistics["p_max"].min()) <= 0.05
    assert float(statistics["score"].max()) == 1.0
    finding = read_finding(out / "findings/claim.content/expert.resonance.json")
    assert (finding["status"], finding["reason"]) == ("not_testable", ALWAYS_RUN)
    assert finding["units"]
    look = read_finding(out / "findings/look.content/expert.resonance.json")
    assert look["reason"].startswith("an exploratory map decides nothing")
    (row,) = read_table(out / "validation/verdicts.parquet").to_dict("records")
    assert (row["verdict"], row["reason"], row["mode"]) == ("not testable", ALWAYS_RUN, "")


def test_a_study_without_claims_has_no_verdict(run):
    out = run("llama", contrasts=[CONTRASTS[1]])
    verdicts = read_table(out / "validation/verdicts.parquet", VERDICT_COLUMNS)
    assert len(verdicts) == 0


@pytest.mark.parametrize("role", ["hypothesis", "negative_control", "exploratory"])
def test_only_the_first_map_in_the_first_phase_decides(role):
    study = SimpleNamespace(options=LocaliseOptions(phases=("content", "prompt_last")))
    contrast = ContrastOptions(name="c", task="t", role=role)
    assert _role(study, contrast, "content", is_first=True) == role
    assert _role(study, contrast, "content", is_first=False) == "exploratory"
    assert _role(study, contrast, "prompt_last", is_first=True) == "exploratory"


MAPS = {
    "llama": (
        "neuron.welch_t",
        "neuron.preactivation.mean_difference",
        "head.welch_t",
        "head.entropy.d_prime",
        "residual.average_precision",
        "residual.before.mean_difference",
        "layer.glm_t",
    ),
    "olmoe": (
        "expert.risk_difference",
        "expert.welch_t",
        "expert.logits.welch_t",
        "expert_neuron.mean_difference",
        "expert_neuron.conditional.welch_t",
    ),
    "qwen2_moe": ("shared_neuron.welch_t",),
}

WEAK = ("head.entropy.d_prime", "layer.glm_t", "expert_neuron.mean_difference")
"""Of a random model little can be said: these are looked at for their form only."""


@pytest.mark.parametrize("kind", MAPS)
def test_every_kind_of_unit_is_mapped_and_the_condition_is_found(run, kind):
    out = run(kind, contrasts=[CONTRASTS[1]], maps=MAPS[kind], task="words")
    for name in MAPS[kind]:
        statistics = read_map(out / f"maps/look.content/{name}.zarr")
        finding = read_finding(out / f"findings/look.content/{name}.json")
        parts = name.split(".")
        assert (finding["kind"], finding["method"]) == (parts[0], ".".join(parts[1:]))
        assert statistics["score"].dims == DIMENSIONS[parts[0]]
        # The first word of a trial is its condition: what reads it differs.
        if name not in WEAK:
            assert float(statistics["p_max"].min()) <= 0.05, name
            assert finding["units"], name
        assert statistics["p"].notnull().all()
        if parts[0] == "expert_neuron":
            assert statistics.attrs["conditional"] == ("conditional" in parts)
            rates = read_map(out / "maps/look.content/expert.welch_t.zarr")
            difference = rates["mean_target"] - rates["mean_control"]
            xr.testing.assert_allclose(statistics["routing_difference"], difference, atol=1e-6)
        for unit in finding["units"]:
            at = {dim: unit[dim] for dim in DIMENSIONS[parts[0]]}
            assert float(statistics["score"].sel(at)) == pytest.approx(unit["score"], abs=1e-6)


PREACTIVATION = "neuron.preactivation.mean_difference"


def test_the_preactivation_shift_is_the_difference_of_the_recorded_means(run):
    # a mixture whose first layer is dense
    out = run("deepseek_v3", contrasts=[CONTRASTS[1]], maps=(PREACTIVATION,), task="words")
    recording = Recording(out / "recordings/words/0.zarr")
    pooled = recording.array("pooled/preactivation/preactivation")
    phases = recording.array("pooled/preactivation/phase")[:].tolist()
    means = pooled[:][:, phases.index("content"), 0]
    trials = recording.trials
    of = {
        condition: (trials["condition"] == condition) & (trials["split"] == "selection")
        for condition in "ab"
    }
    expected = means[of["a"]].mean(0, np.float64) - means[of["b"]].mean(0, np.float64)
    statistics = read_map(out / f"maps/look.content/{PREACTIVATION}.zarr")
    assert statistics["layer"].values.tolist() == [0]
    np.testing.assert_allclose(statistics["score"].values, expected, atol=1e-5)
    finding = read_finding(out / f"findings/look.content/{PREACTIVATION}.json")
    assert all(unit["score"] > 0 for unit in finding["units"])


def test_a_mixture_without_dense_layers_has_no_preactivation_shift(run):
    maps = ("expert.resonance", PREACTIVATION)
    out = run("olmoe", contrasts=[CONTRASTS[1]], maps=maps, task="words")
    assert not Recording(out / "recordings/words/0.zarr").holds(
        "pooled/preactivation/preactivation"
    )
    names = [path.name for path in (out / "maps/look.content").iterdir()]
    assert names == ["expert.resonance.zarr"]
    assert not (out / f"findings/look.content/{PREACTIVATION}.json").exists()
