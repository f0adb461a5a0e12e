"""Series of checkpoints and load options: what a study says becomes ordinary subjects."""

import copy
import json

import pytest
import yaml

from lmri.config import STAGES, LoadOptions, StudyConfig, SubjectOptions, stage_slice
from lmri.errors import ConfigError

HUB = {"source": "hub", "id": "somebody/model"}


@pytest.fixture(scope="module")
def default(repository) -> dict:
    return yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))


def read(default, subjects):
    return StudyConfig.from_dict({**copy.deepcopy(default), "subjects": subjects}, "my.yaml")


def test_revisions_become_subjects_in_their_order(default):
    study = read(
        default,
        {
            "first": HUB,
            "pythia": {**HUB, "revisions": ["step1000", "step2000-tokens4B"], "dtype": "bfloat16"},
            "last": HUB,
        },
    )
    assert list(study.subjects) == [
        "first",
        "pythia_step1000",
        "pythia_step2000_tokens4b",
        "last",
    ]
    assert study.subjects["pythia_step2000_tokens4b"] == SubjectOptions(
        "pythia_step2000_tokens4b",
        "hub",
        id="somebody/model",
        revision="step2000-tokens4B",
        series="pythia",
        step=2000,
        dtype="bfloat16",
    )
    assert (study.claims, study.jobs["fetch"]) == (4, 4)
    assert "series     pythia: steps 1000, 2000" in study.summary()


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        (
            {**HUB, "revisions": {"main": 143000, "Early": 1}},
            {"s_main": ("revision", "main", 143000), "s_early": ("revision", "Early", 1)},
        ),
        (
            {"source": "directory", "paths": ["runs/checkpoint-50", "runs/100"]},
            {
                "s_checkpoint_50": ("path", "runs/checkpoint-50", 50),
                "s_100": ("path", "runs/100", 100),
            },
        ),
        (
            {"source": "directory", "paths": {"step9": "a", "Step_010": "b/../c"}},
            {"s_step9": ("path", "a", 9), "s_step_010": ("path", "b/../c", 10)},
        ),
        (
            {"source": "base", "base_seed": 11, "steps": [0, 500]},
            {"s_step0": ("base_seed", 11, 0), "s_step500": ("base_seed", 11, 500)},
        ),
    ],
)
def test_every_way_to_say_a_series(default, entry, wanted):
    subjects = read(default, {"s": entry}).subjects
    for name, (key, value, step) in wanted.items():
        assert (getattr(subjects[name], key), subjects[name].step) == (value, step)
        assert subjects[name].series == "s"
    assert set(subjects) == set(wanted)


def test_a_series_survives_json_as_its_subjects(default):
    study = read(default, {"s": {"source": "base", "base_seed": 11, "steps": [0, 50]}})
    again = json.loads(json.dumps(study.to_dict()))
    assert set(again["subjects"]) == {"s_step0", "s_step50"}
    assert again["subjects"]["s_step0"]["step"] == 0
    assert StudyConfig.from_dict(again) == study
    assert study.base_seeds == [11]


def test_one_checkpoint_changed_leaves_the_others_alone(default):
    series = {**HUB, "revisions": {"step1": 1, "step2": 2}}
    other = {**HUB, "revisions": {"step1": 1, "step2": 3}}
    studies = [read(default, {"s": entry}) for entry in (series, other)]

    def slices(name):
        return [stage_slice(study, "subject", subject=name) for study in studies]

    assert slices("s_step1")[0] == slices("s_step1")[1]
    assert slices("s_step2")[0] != slices("s_step2")[1]


LONG = "a" * 60
BAD = [
    (
        {"source": "embedded", "state": "localised", "revisions": ["step1"]},
        "'subjects.s.revisions' is for subjects with source: hub. Got source: embedded.",
    ),
    (
        {**HUB, "revision": "main", "revisions": ["step1"]},
        "'subjects.s' must have either 'revisions' or 'revision'. Got both.",
    ),
    (
        {**HUB, "step": 3, "revisions": ["step1"]},
        "'subjects.s' must have either 'revisions' or 'step'. Got both.",
    ),
    (
        {**HUB, "revisions": ["0123abc"]},
        "'subjects.s.revisions' must say the step of every checkpoint, as in 'step1000'. Got "
        "'0123abc': give a mapping, as in revisions: { main: 143000 }.",
    ),
    (
        {**HUB, "revisions": ["step10", "step10-b"]},
        "'subjects.s.revisions' must not have two checkpoints at one step. Got 'step10' and "
        "'step10-b' at step 10.",
    ),
    (
        {**HUB, "revisions": {"v.1": 1, "V-1": 2}},
        "two subjects must not have the same name. Got 's_v_1' twice, the second from "
        "'subjects.s': rename one of them.",
    ),
    (
        {**HUB, "revisions": {"...": 1}},
        "'subjects.s.revisions' must have letters or digits. Got '...'.",
    ),
    ({**HUB, "revisions": []}, "'subjects.s.revisions' must have at least 1 entry. Got []."),
    ({**HUB, "revisions": [1000]}, "'subjects.s.revisions.0' must be text. Got 1000."),
    (
        {"source": "directory", "paths": {"step1": 3}},
        "'subjects.s.paths.step1' must be text. Got 3.",
    ),
    (
        {**HUB, "series": "mine"},
        "missing key 'step' in 'subjects.s'. It is needed beside 'series'.",
    ),
    (
        {**HUB, "device": "cpu", "device_map": "auto"},
        "'subjects.s' must have either 'device' or 'device_map'. Got both.",
    ),
    (
        {**HUB, "dtype": "float8"},
        "'subjects.s.dtype' must be one of 'auto', 'bfloat16', 'float16', 'float32'. Got 'float8'.",
    ),
    (
        {**HUB, "device": "cuda:x"},
        "'subjects.s.device' must be one of cpu, cuda, cuda:0, cuda:1 and so on, or auto. "
        "Got 'cuda:x'.",
    ),
    (
        {**HUB, "id": "../x"},
        "'subjects.s.id' must be a hub id: owner/name. Got '../x'.",
    ),
]


@pytest.mark.parametrize(("entry", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_input_is_named_in_one_line(default, entry, message):
    with pytest.raises(ConfigError) as caught:
        read(default, {"s": entry})
    assert str(caught.value) == f"my.yaml: {message}"


@pytest.mark.parametrize("revision", ["../step1", "a/../step1", "-step1", "step 1", "step1\n"])
def test_a_revision_is_never_another_path(default, revision):
    for entry in ({"revision": revision}, {"revisions": {revision: 1}}):
        with pytest.raises(ConfigError) as caught:
            read(default, {"s": {**HUB, **entry}})
        assert str(caught.value).endswith(
            ".revision' must be a commit, tag or branch: letters, digits, and . _ / - between "
            f"them, without '..'. Got {revision!r}."
        )


def test_names_of_a_series_are_checked_like_any_other(default):
    with pytest.raises(ConfigError, match="two subjects must not have the same name"):
        read(default, {"s_step1": HUB, "s": {**HUB, "revisions": ["step1"]}})
    for name in (LONG, "Big", "a-b"):
        with pytest.raises(ConfigError, match="must be lower case letters"):
            read(default, {name: {**HUB, "revisions": ["step1000"]}})


def test_load_options_have_their_defaults_and_their_own_slice(default):
    study = read(default, {"a": HUB, "b": {**HUB, "dtype": "auto", "device": "cuda:1"}})
    assert study.subjects["a"].load == LoadOptions("float32", "cpu", None, None, None)
    assert study.subjects["b"].load == LoadOptions(dtype="auto", device="cuda:1")
    for stage in ("record", "localise", "validate"):
        selectors = {key: {"subject": "b", "task": "events"}[key] for key in STAGES[stage][1]}
        load = stage_slice(study, stage, **selectors)["load"]
        assert LoadOptions.from_dict(load) == study.subjects["b"].load
    assert set(stage_slice(study, "subject", subject="b")["subject"]) == {"name", "source", "id"}
