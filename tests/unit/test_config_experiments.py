"""The section of experiments."""

import copy
import json
import re

import pytest
import yaml

from lmri.config import EXPERIMENTS, StudyConfig, stage_slice
from lmri.errors import ConfigError

TASK = {"task": "relations"}
VOID = {"void_layers": {"tasks": ["events"]}}
SUMS = {"task": "arithmetic"}
SKILLS = {"forget": [SUMS], "retain": [{"task": "relations"}]}
REUSE = {"behaviours": [SUMS, {"task": "relations"}]}


@pytest.fixture(scope="module")
def default(repository):
    return yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schema(repository):
    path = repository / "src/lmri/schemas/config.schema.json"
    return json.loads(path.read_text(encoding="utf-8"))["properties"]["experiments"]


def study(default, experiments):
    return StudyConfig.from_dict({**copy.deepcopy(default), "experiments": experiments})


def test_none_is_run_by_default(default):
    own = StudyConfig.from_dict(default)
    assert own.experiments == {}
    assert own.jobs["experiment"] == 0


def test_a_job_gets_its_options_and_reads_back(default):
    own = study(default, VOID)
    assert own.jobs["experiment"] == 2
    assert StudyConfig.from_dict(json.loads(json.dumps(own.to_dict()))) == own
    values = stage_slice(own, "experiment", subject="localised", experiment="void_layers")
    again = EXPERIMENTS["void_layers"].from_dict(values["options"])
    assert again == own.experiments["void_layers"]
    assert values["tasks"] == list(own.tasks)
    with pytest.raises(ConfigError, match="'experiment' of the study must be one of"):
        stage_slice(own, "experiment", subject="localised", experiment="poems")


def test_options_are_those_of_the_schema(schema):
    assert set(schema["properties"]) == set(EXPERIMENTS)
    for name, kind in EXPERIMENTS.items():
        assert set(schema["properties"][name]["properties"]) == set(kind.__dataclass_fields__)


@pytest.mark.parametrize(
    ("experiments", "words"),
    [
        ({"poems": {}}, "unknown key 'poems' in 'experiments'"),
        ({"void_layers": {}}, "missing key 'tasks' in 'experiments.void_layers'"),
        ({"void_layers": {"tasks": ["poems"]}}, "'experiments.void_layers.tasks' must be of"),
        ({"void_layers": {"tasks": ["events"], "draws": 20}}, "must be at least 59"),
        ({"relations": {"task": "poems"}}, "'experiments.relations.task' must be of"),
        ({"relations": {"kinds": ["head"]}}, "experiments.relations.kinds"),
        ({"relations": {"draws": 99}}, "'experiments.relations.draws' must be at least 199"),
        ({"skills": {"forget": [SUMS]}}, "missing key 'retain' in 'experiments.skills'"),
        (
            {"skills": {"forget": [SUMS], "retain": [{"task": "poems"}]}},
            "retain' must be of",
        ),
        ({"skills": {**SKILLS, "shares": [0.1, 0.01]}}, "'experiments.skills.shares' must ascend"),
        ({"skills": {**SKILLS, "draws": 98}}, "'experiments.skills.draws' must be at least 99"),
        (
            {"circuit_reuse": {"behaviours": [SUMS]}},
            "behaviours' must have at least 2 entries. Got",
        ),
        ({"circuit_reuse": {"behaviours": [SUMS, {"task": "poems"}]}}, "behaviours' must be of"),
        ({"circuit_reuse": {**REUSE, "draws": 98}}, "'experiments.circuit_reuse.draws' must be at"),
        ({"retrieval_heads": {}}, "'experiments.retrieval_heads.needle' must be of"),
        ({"retrieval_heads": {"needle": "relations"}}, "'record.full' must have 'attention'"),
        ({"copy_transition": {"task": "poems"}}, "'experiments.copy_transition.task' must be of"),
        ({"copy_transition": {"seeds": [1, 2, 3, 4, 5, 6]}}, "must be at least 7, or no statement"),
        ({"language_network": {}}, "'experiments.language_network.task' must be of"),
        ({"language_network": {**TASK, "percents": [2, 1]}}, "percents' must ascend. Got [2, 1]"),
        ({"language_network": {**TASK, "draws": 19}}, "must be at least 79"),
    ],
)
def test_bad_experiments_are_refused(default, experiments, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        study(default, experiments)


def test_what_units_are_ranked_by_must_be_recorded(default):
    record = {**default["record"], "full": [], "quantities": ["router"]}
    maps = {**default["localise"], "maps": ["expert.resonance"]}
    values = {**default, "record": record, "localise": maps}
    with pytest.raises(ConfigError, match=r"'record\.quantities' must have 'neuron' for"):
        study(values, {"relations": {}})


def test_units_that_are_not_recorded_cannot_be_found(default):
    changed = {**default, "record": {**default["record"], "quantities": ["router", "neuron"]}}
    with pytest.raises(ConfigError, match=r"'record.quantities' must have 'residual' for"):
        study(changed, {"language_network": {**TASK, "kinds": ["residual"]}})
