"""What a study is told to take: known sizes, what it grows with, and what cannot be told."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from families import configuration, random_model
from small_tokenizers import bytes_tokenizer

from benchmarks.planning import large_study
from lmri import cli
from lmri.anatomy import describe
from lmri.config import EXPERIMENTS, RecordOptions, StudyConfig
from lmri.preflight import coefficients as per
from lmri.preflight import models
from lmri.preflight.estimate import estimate_study
from lmri.preflight.volumes import Trials, count_trials, recorded, units_of, value_bytes


@pytest.fixture
def small(repository) -> StudyConfig:
    values = yaml.safe_load((repository / "config/studies/small.yaml").read_text(encoding="utf-8"))
    return StudyConfig.from_dict(values)


def changed(study: StudyConfig, **sections) -> StudyConfig:
    """The study with some keys of its sections changed."""
    parts = {name: replace(getattr(study, name), **keys) for name, keys in sections.items()}
    return replace(study, **parts)


def test_jobs_are_those_of_the_study(small):
    told = estimate_study(small)
    assert told.jobs == small.jobs
    assert told.total_jobs == sum(small.jobs.values())
    stages = told.stages.set_index("stage")["seconds"]
    assert set(stages.index) <= {rule for rule, count in small.jobs.items() if count}
    assert (stages > 0).all()


def test_bytes_of_a_recording_by_hand():
    anatomy = describe(random_model(configuration("llama")))
    options = RecordOptions(quantities=("layer",), full=("layer",), max_new_tokens=3)
    rows, tokens = recorded(Trials({"selection": 10, "evaluation": 90}, 7.0), options)
    assert (rows, tokens) == (10, 100)
    norms = anatomy.layers * len(anatomy.places)
    by_hand = 21 * tokens + 4 * norms * tokens + 4 * 5 * 5 * norms * rows
    assert value_bytes(anatomy, options, rows, tokens) == by_hand
    sampled = replace(options, repeats=2)
    assert recorded(Trials({"calibration": 10}, 7.0), sampled) == (20, 200)


def test_neurons_of_experts_are_kept_the_smaller_way():
    anatomy = describe(random_model(configuration("olmoe")))
    options = RecordOptions(quantities=("neuron",))
    in_full = replace(options, full=("neuron",))
    few, many = (value_bytes(anatomy, options, 10, tokens) for tokens in (20, 100_000))
    assert few == value_bytes(anatomy, in_full, 10, 20)
    assert many < value_bytes(anatomy, in_full, 10, 100_000)


def test_nothing_recorded_is_nothing():
    anatomy = describe(random_model(configuration("llama")))
    assert value_bytes(anatomy, RecordOptions(), 0, 0.0) == 0


def test_units_of_every_kind():
    anatomy = describe(random_model(configuration("olmoe")))
    experts = len(anatomy.moe_layers) * anatomy.experts
    assert units_of("expert", anatomy) == experts
    assert units_of("expert_neuron", anatomy) == experts * anatomy.expert_size
    assert units_of("head", anatomy) == anatomy.layers * anatomy.heads
    assert units_of("feature", anatomy) == 0


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        ({"record": {"splits": ("selection", "calibration", "evaluation")}}, "record"),
        ({"record": {"quantities": ("router", "layer", "head", "residual")}}, "record"),
        ({"localise": {"permutations": 200_000}}, "localise"),
        ({"evidence": {"shams": 999}}, "validate"),
        ({"sparse": {"sparsities": (0.5, 0.6, 0.7, 0.8)}}, "sparse_run"),
    ],
)
def test_more_work_costs_more(small, change, stage):
    before, after = (estimate_study(study).stages for study in (small, changed(small, **change)))
    cost = [table.set_index("stage")["seconds"] for table in (before, after)]
    assert cost[1][stage] > cost[0][stage]
    others = [name for name in cost[0].index if name in {"subject", "information"}]
    assert (cost[1][others] == cost[0][others]).all()


def test_memory_grows_with_a_batch_and_never_with_trials(small):
    def memory(study: StudyConfig) -> float:
        return estimate_study(study).stages.set_index("stage")["memory"]["record"]

    everything = changed(small, record={"splits": ("selection", "calibration", "evaluation")})
    assert memory(everything) == pytest.approx(memory(small), rel=0.02)
    assert memory(changed(small, record={"rows": 1})) < memory(small)


def test_a_subject_on_a_gpu_takes_hours_of_a_gpu(small):
    subjects = {"one": replace(small.subjects["localised"], name="one", device="cuda")}
    told, on_cores = estimate_study(replace(small, subjects=subjects)), estimate_study(small)
    assert told.gpu_hours > 0 == on_cores.gpu_hours
    assert told.core_hours < on_cores.core_hours
    assert any("assumed" in line for line in told.lines())
    assert not told.stages.set_index("stage").loc["subject", "gpu"]


def test_checkpoints_of_a_hub_model_are_told_from_its_configuration(monkeypatch):
    model = random_model(configuration("llama"))
    asked = []

    def read(name, revision):
        asked.append((name, revision))
        return model.config

    monkeypatch.setattr(models, "read_configuration", read)
    told = estimate_study(StudyConfig.from_dict(large_study(3, 2)))
    assert asked == [("some/model", "step1000")]
    assert told.guessed
    parameters = sum(p.numel() for p in model.parameters())
    assert told.weights == 3 * 2 * parameters
    assert any("cache of the hub" in line for line in told.lines())
    assert told.stages.set_index("stage").loc["fetch", "disk"].sum() == 0


def test_tokens_are_those_of_the_tokenizer_or_told_from_characters():
    rows = {
        "trial": ["a", "b"],
        "prompt": ["x" * 8, "y" * 24],
        "split": "selection",
        "condition": ["c", "d"],
    }
    table = pd.DataFrame(rows)
    assert count_trials(table, None) == Trials({"selection": 2}, 4.0, conditions=2)
    assert count_trials(table, bytes_tokenizer()).prompt >= 16


def test_stages_without_a_model_are_named(small):
    assert estimate_study(small).left_out == []
    told = estimate_study(changed(small, validate={"shards": 2}))
    assert told.left_out == ["draws"]
    assert told.lines()[-1].startswith("left out    draws:")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_cost_what_they_multiply(name, repository):
    path = repository / "config/studies" / f"{name.replace('_', '-')}.yaml"
    study = StudyConfig.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    own = study.experiments[name]
    more = {"seeds": (*own.seeds, 28)} if name == "copy_transition" else {"draws": own.draws * 2}
    if name == "retrieval_heads":  # all sets are run
        more = {"draws": own.draws // 9}
    larger = replace(study, experiments={name: replace(own, **more)})
    cost, other = (
        estimate_study(asked).stages.groupby("stage")["seconds"].sum() for asked in (study, larger)
    )
    assert (other["experiment"] > cost["experiment"]) == (name != "retrieval_heads")
    assert other["experiment"] != cost["experiment"]
    assert (other.drop("experiment") == cost.drop("experiment")).all()
    assert cost["experiment"] > 10
    assert estimate_study(study).left_out == []


def test_analyses_cost_what_they_multiply(small):
    values = small.to_dict()
    more = {
        "encode": {"tasks": ["relations"], "draws": 9},
        "decode": {"analyses": ["profile", "control"], "quantity": "router"},
        "connect": {"kinds": ["expert"]},
        "align": {"quantities": ["router"]},
        "bottleneck": {"activations": ["relu"], "l2": [0]},
        "subjects": {
            **values["subjects"],
            "other": {"source": "trained", "base_seed": 3, "state": "localised"},
        },
    }
    study = StudyConfig.from_dict({**values, **more})
    told = estimate_study(study)
    assert told.left_out == []
    seconds = told.stages.groupby("stage")["seconds"].sum()
    assert seconds["bottleneck"] == pytest.approx(per.START + 2000 * 20 * per.PER_EPOCH)
    assert set(told.stages.loc[told.stages["stage"] == "base", "subject"]) == {"3"}
    for section, key, value in (("encode", "draws", 19), ("connect", "kinds", ["expert", "head"])):
        twice = StudyConfig.from_dict({**values, **more, section: {**more[section], key: value}})
        again = estimate_study(twice).stages.groupby("stage")["seconds"].sum()
        starts = 2 * per.START  # of two subjects
        before, after = seconds[section] - starts, again[section] - starts
        fits = (1 + 4 * 19) / (1 + 4 * 9) if section == "encode" else 2
        assert after == pytest.approx(fits * before)


def test_the_command_prints_lines_or_json(repository, capsys):
    path = str(repository / "config/studies/small.yaml")
    assert cli.main(["estimate", path]) == 0
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert words == ["study", "jobs", "stimuli", "disk", "memory", "core", "GPU", "most"] + [
        *("waiting", "accuracy")
    ]
    assert cli.main(["estimate", path, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["study"] == "small"
    assert told["disk_bytes"] == sum(stage["disk"] for stage in told["stages"])


def test_a_model_that_cannot_be_read_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    study = tmp_path / "hub.yaml"
    study.write_text(yaml.safe_dump(large_study(2, 1)))
    assert cli.main(["estimate", str(study)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("lmri: error: some/model: must be")
    assert err.count("\n") == 1
