import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from report_files import DIRECTIONS, HOSTILE

from lmri.config import (
    STAGES,
    BottleneckOptions,
    EvidenceOptions,
    SplitOptions,
    StudyConfig,
    TaskOptions,
    TemplateOptions,
    load_study,
    read_stage,
    stage_slice,
)
from lmri.errors import ConfigError

SPARSE_STAGES = {"calibrate", "record_sparse", "survive", "sparse_run"}
JUDGED = {"validate", "report"}

REFUSED = (*HOSTILE, *DIRECTIONS, "../up", "a/b", ".")

SELECTORS = {
    "base": {"base_seed": 3},
    "subject": {"subject": "localised"},
    "stimuli": {"task": "events"},
    "record": {"subject": "localised", "task": "events"},
    "localise": {"subject": "localised"},
    "group": {},
    "score": {},
    "calibrate": {"subject": "localised"},
    "record_sparse": {"subject": "localised", "task": "events"},
    "survive": {"subject": "localised"},
    "sparse_run": {"subject": "localised"},
    "information": {"subject": "localised"},
    "connect": {"subject": "localised"},
    "align": {},
    "decode": {"subject": "localised"},
    "encode": {"subject": "localised"},
    "examples": {"subject": "localised"},
    "draws": {"subject": "localised"},
    "validate": {"subject": "localised"},
    "compare": {},
    "bottleneck_summary": {},
    "report": {},
}
"""A job of every stage of the default study; ``bottleneck`` has its tests below."""

BOTTLENECK = "config/studies/information-bottleneck.yaml"


@pytest.fixture(scope="module")
def default(repository) -> dict:
    return yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study(repository) -> StudyConfig:
    return load_study(repository / "config/config.yaml")


def changed(values: dict, key: str, value: object) -> dict:
    """Set a dotted key of a copy; ``...`` as the value removes it."""
    values = copy.deepcopy(values)
    *path, last = key.split(".")
    section = values
    for part in path:
        section = section[part]
    if value is ...:
        del section[last]
    else:
        section[last] = value
    return values


def test_default_study_reads_as_written(study):
    assert list(study.subjects) == ["localised", "distributed"]
    assert study.contrasts["refusal"].controls == ("near_miss_place", "near_miss_year", "benign")
    assert study.contrasts["refusal"].bystanders[4].condition is None
    assert study.contrasts["null_places"].random_split.carrier == "place"
    assert study.tasks["copying"] == TaskOptions(
        "copying", "world", splits=SplitOptions(0.1, 0.2, 0.7), trials=260
    )
    assert (study.claims, study.evidence.doses) == (2, (1, 2, 4, 8))


def test_every_shipped_study_is_valid(repository):
    for path in sorted((repository / "config").rglob("*.yaml")):
        if "stimuli" not in path.parts:
            assert load_study(path).study


def test_study_survives_json(study):
    again = json.loads(json.dumps(study.to_dict()))
    assert StudyConfig.from_dict(again) == study


def test_a_template_survives_the_slice_of_its_stage(default):
    template = {"kind": "chat", "arguments": {"enable_thinking": False}, "date": "2026-04-07"}
    values = changed(default, "tasks.mine", {**TABLE, "template": template})
    entry = stage_slice(StudyConfig.from_dict(values), "stimuli", task="mine")["task"]
    own = TaskOptions.from_dict(json.loads(json.dumps(entry))).template
    assert own == TemplateOptions(**template)
    assert (own.special_tokens, own.too_long) == (True, "error")


def test_a_probe_is_read_and_written_back(default):
    entry = {
        "source": "probe",
        "probe": "needle",
        "words": "plain",
        "lengths": [50],
        "depths": [0, 1],
    }
    entry["template"] = {"kind": "chat"}
    study = StudyConfig.from_dict(changed(default, "tasks.heads", entry))
    assert study.tasks["heads"].lengths == (50,)
    task = stage_slice(study, "stimuli", task="heads")["task"]
    assert TaskOptions.from_dict(task) == study.tasks["heads"]
    # A task without a probe is written as it was before there were any.
    assert not {"probe", "words", "lengths"} & set(study.tasks["copying"].to_dict())


def test_sections_left_out_take_the_defaults(default):
    needed = ("study", "subjects", "tasks", "contrasts")
    bare = StudyConfig.from_dict({key: default[key] for key in needed})
    assert bare.evidence == EvidenceOptions()
    assert StudyConfig.from_dict({**default, "evidence": {"shams": 50}}).evidence.margin == 0.1


HUB = {"source": "hub", "id": "somebody/model"}
TABLE = {"source": "table", "path": "x.csv", "carriers": ["entity"]}
PROBE = {"source": "probe", "probe": "needle"}
BAD = [
    ("evidence.shamz", 3, ["unknown key 'shamz' in 'evidence'", "mean 'shams'", "'margin'"]),
    ("colour", 3, ["unknown key 'colour' in the study", "Allowed: 'align', 'bottleneck'"]),
    # Three measured epochs are the fewest that a moving mean can be taken of.
    ("bottleneck", {"epochs": 1}, ["'bottleneck.epochs' must be at least 2. Got 1"]),
    ("study", ..., ["missing key 'study'"]),
    ("study", "../x", ["'study'", "lower case letters", "Got '../x'"]),
    ("subjects", {}, ["'subjects' must have at least 1 entry"]),
    ("subjects.Big", HUB, ["'subjects.Big'", "lower case"]),
    ("subjects.a", {"source": "hub"}, ["missing key 'id' in 'subjects.a'", "source: hub"]),
    ("subjects.a", {**HUB, "id": "model"}, ["'subjects.a.id'", "owner/name", "Got 'model'"]),
    ("subjects.a", {**HUB, "path": "x"}, ["unknown key 'path' in 'subjects.a'", "'revision'"]),
    ("subjects.a", {"source": "web"}, ["'subjects.a.source'", "'embedded'", "Got 'web'"]),
    ("subjects", {7: HUB}, ["the keys of 'subjects' must be text", "Got 7"]),
    ("tasks.weather", {"source": "world"}, ["'tasks.weather'", "'relations'"]),
    ("tasks.mine", {"source": "table", "path": "x.csv"}, ["missing key 'carriers'"]),
    ("tasks.events.path", "x.csv", ["unknown key 'path' in 'tasks.events'", "source: table"]),
    (
        "tasks.mine",
        {**TABLE, "template": {"kind": "jinja"}},
        ["'tasks.mine.template.kind'", "'chat'"],
    ),
    (
        "tasks.mine",
        {**TABLE, "template": {"kind": "text"}},
        ["must hold {prompt} once", "Got None"],
    ),
    (
        "tasks.mine",
        {**TABLE, "template": {"kind": "text", "text": "{prompt} {prompt}"}},
        ["'tasks.mine.template.text' must hold {prompt} once"],
    ),
    (
        "tasks.mine",
        {**TABLE, "template": {"arguments": {"enable_thinking": False}}},
        ["unknown key 'arguments' in 'tasks.mine.template'", "kind: chat"],
    ),
    (
        "tasks.mine",
        {**TABLE, "template": {"kind": "chat", "arguments": {"tokenize": True}}},
        ["unknown key 'tokenize' in 'tasks.mine.template.arguments'"],
    ),
    (
        "tasks.mine",
        {**TABLE, "template": {"kind": "chat", "date": "7 April"}},
        ["'tasks.mine.template.date' must be a date like '2026-01-01'. Got '7 April'"],
    ),
    (
        "tasks.mine",
        {**TABLE, "template": {"too_long": "cut"}},
        ["'tasks.mine.template.too_long'", "'truncate'", "Got 'cut'"],
    ),
    ("tasks.events.template", {"kind": "chat"}, ["'tasks.events.template.kind'", "source: world"]),
    ("tasks.heads", {"source": "probe"}, ["missing key 'probe' in 'tasks.heads'"]),
    ("tasks.heads", {**PROBE, "probe": "hay"}, ["'tasks.heads.probe'", "'needle'", "Got 'hay'"]),
    ("tasks.heads", {**PROBE, "depths": [1.5]}, ["'tasks.heads.depths.0'", "at most 1. Got 1.5"]),
    ("tasks.heads", {**PROBE, "path": "x.csv"}, ["unknown key 'path' in 'tasks.heads'"]),
    (
        "tasks.heads",
        {"source": "probe", "probe": "repeated", "depths": [0.5]},
        ["unknown key 'depths' in 'tasks.heads'", "probe: needle"],
    ),
    (
        "tasks.heads",
        {**PROBE, "template": {"kind": "chat"}},
        ["'tasks.heads.template.kind' must be 'none'", "words of the world"],
    ),
    ("tasks.copying.words", "plain", ["unknown key 'words' in 'tasks.copying'", "source: probe"]),
    ("splits.selection", 0.9, ["the shares in 'splits' must sum to 1", "Got 1.56"]),
    ("tasks.copying.splits.evaluation", 0.9, ["'tasks.copying.splits' must sum to 1"]),
    ("record.splits", ["evaluation"], ["'record.splits", "'selection'", "evaluation"]),
    ("record.quantities", ["layer"], ["'record.quantities' must contain 'router'"]),
    ("record.full", ["head_output"], ["'record.full' must name quantities", "Got 'head_output'"]),
    ("record.repeats", 3, ["'record.repeats' must be 1", "Got 3"]),
    ("record.when", "never", ["'record.when'", "'after', 'during'"]),
    ("record.without", {"units": [[0, 1]]}, ["'record.without' must be left out", "hypothesis"]),
    ("record.without", {"units": [[0]]}, ["'record.without.units"]),
    ("contrasts.refusal.task", "event", ["'contrasts.refusal.task'", "Got 'event'"]),
    ("contrasts.refusal.target", ["rude"], ["contrasts.refusal.target", "'benign'", "'rude'"]),
    ("contrasts.refusal.target", ["benign"], ["target or control, not both"]),
    ("contrasts.refusal.target", ..., ["missing key 'target' in 'contrasts.refusal'"]),
    ("contrasts.refusal.interaction.benign", 2, ["'contrasts.refusal.interaction'", "sum of 0"]),
    ("contrasts.refusal.null_condition", ..., ["missing key 'null_condition'", "sham maps"]),
    ("contrasts.refusal.null_condition", "sensitive", ["must not be a target"]),
    ("contrasts.refusal.bystanders", ..., ["missing key 'bystanders'"]),
    ("contrasts.refusal.transfer.task", "poems", ["'contrasts.refusal.transfer'", "'poems'"]),
    ("contrasts.null_places.target", ["benign"], ["either 'random_split' or 'target'"]),
    ("contrasts.null_places.role", "hypothesis", ["for a random split"]),
    ("localise.phases", ["middle"], ["'localise.phases.0'", "'prompt_last'", "Got 'middle'"]),
    (
        "localise.probes",
        {"needle": "copying"},
        ["'localise.probes.needle' must be a task with", "'copying', which asks for none"],
    ),
    (
        "localise.causal",
        {"contrasts": ["refusal"], "primary": "head.relp"},
        ["'localise.causal.primary' needs 'shams: true'"],
    ),
    (
        "localise.causal",
        {"contrasts": ["refusal"], "shams": True, "metric": "logit_difference"}
        | {"kinds": ["residual"], "methods": ["relp", "patch_noise"], "primary": "residual.relp"},
        ["'localise.causal.primary' must be a map", "of 'residual_site.relp'. Got 'residual.relp'"],
    ),
    (
        "localise.causal",
        {"contrasts": ["refusal"], "kinds": ["feature"]},
        ["missing key 'dictionary' in 'localise.causal'", "'feature' needs it"],
    ),
    ("evidence.unit_mode", "mask", ["'evidence.unit_mode'", "'resample'", "Got 'mask'"]),
    ("evidence.unit_mode", "gain", ["'evidence.gain' is the factor of", "Got the gain None"]),
    ("evidence.gain", 0.5, ["'evidence.gain' is the factor of", "mode None"]),
    ("localise.permutations", 5, ["'localise.permutations' must be at least 19"]),
    ("evidence.doses", [2, 1], ["'evidence.doses' must ascend", "Got [2, 1]"]),
    ("evidence.mode", "off", ["'evidence.mode'", "'zero_renormalise'", "Got 'off'"]),
    ("evidence.alpha", 1, ["'evidence.alpha' must be above 0 and at most 0.2. Got 1"]),
    ("evidence.alpha", "small", ["'evidence.alpha' must be a number"]),
    ("evidence.baseline_control", 0.9, ["must be below 'evidence.baseline_target' (0.8)"]),
    ("evidence.shams", 18, ["'evidence.shams' must be at least 19. Got 18"]),
    ("seed", float("nan"), ["'seed' must be a finite number"]),
    ("seed", True, ["'seed' must be a whole number. Got True"]),
    ("record", None, ["'record' must be a mapping", "Got None"]),
]


@pytest.mark.parametrize(("key", "value", "words"), BAD, ids=[f"{k}={v}" for k, v, _ in BAD])
def test_bad_input_is_named_in_one_line(default, key, value, words):
    with pytest.raises(ConfigError) as caught:
        StudyConfig.from_dict(changed(default, key, value), "my.yaml")
    message = str(caught.value)
    assert "my.yaml" in message
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("key", "value"), [("localise.confounds", ["length"]), ("encode.tasks", ["events"])]
)
def test_who_reads_surprisal_needs_next_tokens(default, key, value):
    values = changed(default, "record.next_token", False)
    StudyConfig.from_dict(values)
    with pytest.raises(ConfigError, match=f"'record.next_token' must be true .*'{key}'"):
        StudyConfig.from_dict(changed(values, key, value))


def test_a_bystander_counts_once(default):
    values = copy.deepcopy(default)
    bystanders = values["contrasts"]["refusal"]["bystanders"]
    bystanders.append(dict(bystanders[0]))
    with pytest.raises(ConfigError, match=r"'contrasts\.refusal\.bystanders' must not name anyth"):
        StudyConfig.from_dict(values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("study: [", "not valid YAML"),
        ("- a", "a study is a mapping"),
        ("", "a study is a mapping"),
        (b"\xff\xfe\x00", "not a readable study file"),
        ("seed: 1\nstudy: a\nseed: 2", "the key 'seed' is there twice.* line 3"),
        ("subjects:\n  a: {}\n  a: {}", "the key 'a' is there twice"),
        ("study: a\nrecord: &own\n  again: [*own]", "inside itself by an alias"),
    ],
)
def test_unreadable_files(tmp_path, text, words):
    path = tmp_path / "my.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=words) as caught:
        load_study(path)
    assert "\n" not in str(caught.value)


def test_missing_file():
    with pytest.raises(ConfigError, match="no such study file"):
        load_study(Path("nowhere.yaml"))


def test_paths_are_checked_before_any_work(default, tmp_path):
    values = changed(default, "subjects.mine", {"source": "directory", "path": str(tmp_path / "x")})
    study = StudyConfig.from_dict(values, "my.yaml")
    with pytest.raises(ConfigError, match=r"'subjects\.mine\.path' must be a folder"):
        study.check_files("my.yaml")
    (tmp_path / "x").mkdir()
    study.check_files("my.yaml")


def test_sham_draws_follow_the_claims():
    assert EvidenceOptions(shams=19).sham_draws(claims=1) == 19
    assert EvidenceOptions(shams=99).sham_draws(claims=6) == 119
    assert EvidenceOptions(shams=19, alpha=0.01).sham_draws(claims=3) == 299


@pytest.mark.parametrize("stage", SELECTORS)
def test_slice_reads_back_from_json_and_from_the_study(repository, study, stage):
    wanted = stage_slice(study, stage, **SELECTORS[stage])
    path = str(repository / "config/config.yaml")
    assert read_stage(path, stage, **SELECTORS[stage]) == wanted
    assert read_stage(json.dumps(wanted), stage, **SELECTORS[stage]) == wanted


@pytest.mark.parametrize(
    ("key", "value", "touched"),
    [
        ("report.transcripts", 3, {"report"}),
        ("validate.bootstrap", 300, {"validate", "compare", "report"}),
        ("validate.claims", ["dose"], {"localise", "validate", "report"}),
        ("validate.rows", 30, {"draws", "validate", "report"}),
        ("validate.shards", 3, {"draws", "validate", "report"}),
        ("evidence.margin", 0.2, {"localise", "survive", "report"}),
        ("record.rows", 3, {"record", "record_sparse", "report"}),
        ("tasks.events.trials", 30, {"stimuli", "report"}),
        ("tasks.copying.trials", 30, {"report"}),
        ("world.seed", 1, {"base", "subject", "stimuli", "report"}),
        ("subjects.localised.state", "distributed", {"subject", "report"}),
        (
            "subjects.localised.dtype",
            "bfloat16",
            {
                *("record", "localise", "encode", "information", "draws", "validate", "report"),
                *SPARSE_STAGES,
            },
        ),
        ("information.measures", ["lens"], {"information", "report"}),
        (
            "localise.phases",
            ["content"],
            {
                *("localise", "group", "survive", "encode", "decode", "connect", "align"),
                *("examples", "information", "report"),
            },
        ),
        ("connect.density", 0.2, {"connect", "report"}),
        ("align.dimensions", 3, {"align", "report"}),
        ("decode.folds", 5, {"decode", "report"}),
        ("examples.units", 2, {"examples", "report"}),
        ("decode.analyses", ["profile"], {"decode", "report"}),
        ("sparse.trials", 7, {"calibrate", "sparse_run", "report"}),
        ("sparse.finding_sparsity", 0.8, {"calibrate", "sparse_run", "record_sparse"} | JUDGED),
        ("subjects.distributed.dtype", "bfloat16", {"report"}),
        ("training", {"base_steps": 7}, {"base", "subject", "report"}),
        ("bottleneck.epochs", 3, {"bottleneck_summary", "report"}),
        ("scorers.names", ["match_f1"], {"score", "report"}),
        ("study", "another", {"report"}),
    ],
)
def test_slice_changes_only_where_the_stage_reads(default, study, key, value, touched):
    other = StudyConfig.from_dict(changed(default, key, value))
    differ = {
        stage
        for stage in SELECTORS
        if stage_slice(study, stage, **SELECTORS[stage])
        != stage_slice(other, stage, **SELECTORS[stage])
    }
    assert differ == touched


def test_slices_are_of_all_stages_but_those_the_default_study_has_no_job_of(repository, study):
    assert set(STAGES) - set(SELECTORS) == {"dynamics", "experiment", "bottleneck"}
    with pytest.raises(ConfigError, match="series"):
        stage_slice(study, "dynamics", series="growth")
    path = str(repository / "config/studies/information-training.yaml")
    found = read_stage(path, "dynamics", series="growth")
    assert found["steps"]["growth_step120"] == 120
    assert read_stage(json.dumps(found), "dynamics", series="growth") == found


def test_information_is_asked_of_the_tasks_of_contrasts_or_of_questions(repository, default):
    study = load_study(repository / "config/studies/information.yaml")
    assert study.informed_tasks == ["events", "relations"]
    assert study.followed_series == []
    assert study.jobs["information"] == 2
    training = load_study(repository / "config/studies/information-training.yaml")
    assert training.followed_series == ["growth"]
    assert (training.jobs["information"], training.jobs["dynamics"]) == (16, 1)
    followed = stage_slice(training, "dynamics", series="growth")
    assert (followed["tasks"], followed["sensitive"]) == (["relations"], ["prompt_last"])
    assert followed["follow"][0]["folder"] == "maps/{subject}"
    assert (
        "follow" not in stage_slice(training, "information", subject="growth_step0")["information"]
    )
    assert StudyConfig.from_dict(default).informed_tasks == []
    asked = {"measures": ["lens"], "questions": [{"task": "copying", "scheme": "trials"}]}
    other = StudyConfig.from_dict(changed(default, "information", asked))
    assert other.informed_tasks == ["copying"]
    assert other.followed_series == []
    own = stage_slice(other, "information", subject="localised")["information"]
    assert own["phases"] == ["prompt_last", "content", "response"]
    assert StudyConfig.from_dict(other.to_dict()) == other


@pytest.mark.parametrize(
    ("sparse", "words"),
    [
        ({"sparsities": [0.5, 0.505]}, "must be whole percents, which name plans. Got 0.505"),
        ({"policies": ["teal"], "sparsities": [0.4]}, "'sparse.finding_sparsity' must be among"),
        ({"policies": ["relu"], "finding_policy": "relu"}, "Got 'relu', which is one plan"),
        ({"policies": ["magic"]}, "'sparse.policies.0' must be one of"),
        ({"policies": ["teal", "cache_random"]}, "'sparse.full_heads' must name the heads"),
        ({"policies": ["cache_heads", "cache_random"]}, "under cache_heads and cache_random. Got"),
        ({"sparsities": [1.0]}, "'sparse.sparsities.0' must be"),
    ],
)
def test_bad_sparsity_is_refused(default, sparse, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        StudyConfig.from_dict(changed(default, "sparse", sparse))


def test_heads_that_keep_their_cache_may_be_named_without_a_policy(default):
    for policies in (["cache_heads"], ["wina"]):
        sparse = {"policies": policies, "full_heads": [[0, 1]]}
        study = StudyConfig.from_dict(changed(default, "sparse", sparse))
        assert study.sparse.full_heads == ((0, 1),)


def test_a_policy_that_is_not_asked_for_tests_no_finding(default):
    study = StudyConfig.from_dict(changed(default, "sparse", {"policies": ["wina"]}))
    assert study.sparse.finding_plan == ""
    assert study.tested_tasks == []


STORE = {"store": "refusal.prompt_last/expert.resonance.zarr", "variable": "score"}


@pytest.mark.parametrize(
    ("information", "words"),
    [
        ({"measures": ["entropy"]}, "must be one of 'active'"),
        ({"draws": 3}, "'information.draws' must be at least 19"),
        ({"questions": [{"task": "poems", "scheme": "trials"}]}, "Got 'poems'"),
        ({"questions": [{"task": "events"}]}, "missing key 'carriers'"),
        (
            {"questions": [{"task": "events", "carriers": ["a", "b"], "scheme": "within"}]},
            "must name one carrier",
        ),
        ({"questions": [{"target": "class_place"}]}, "missing key 'task'"),
        ({"follow": [{"folder": "maps", **STORE}]}, "'information.follow.0.folder'"),
        ({"follow": [{"folder": "../{subject}", **STORE}]}, "'information.follow.0.folder'"),
        ({"follow": [{"folder": "maps/{subject}"}]}, "missing key 'store'"),
        (
            {"follow": [{"folder": "maps/{subject}", **STORE, "store": "../a.zarr"}]},
            "'information.follow.0.store'",
        ),
        (
            {"questions": [{"task": "events", "carriers": [name]} for name in "ab"]},
            "must not ask twice about 'condition' of 'events'",
        ),
    ],
)
def test_bad_information_is_refused(default, information, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        StudyConfig.from_dict(changed(default, "information", information))


@pytest.mark.parametrize("name", REFUSED, ids=[str(number) for number in range(len(REFUSED))])
@pytest.mark.parametrize("section", ["study", "subjects", "tasks", "contrasts"])
def test_names_that_could_lead_anywhere_are_refused_in_one_short_line(default, section, name):
    """They become folders, labels and rules: no markup, direction, path or length gets that far."""
    values = copy.deepcopy(default)
    if section == "study":
        values["study"] = name
    else:
        values[section][name] = next(iter(values[section].values()))
    with pytest.raises(ConfigError) as refused:
        StudyConfig.from_dict(values)
    told = str(refused.value)
    assert "lower case letters" in told
    assert told.isprintable()
    assert len(told) < 600


@pytest.mark.parametrize(
    ("decode", "words"),
    [
        ({"analyses": ["guess"]}, "must be one of 'bags'"),
        ({"folds": 2}, "'decode.folds' must be at least 3"),
        ({"labels": [{"task": "poems"}]}, "Got 'poems'"),
        ({"positions": ["12"]}, "'decode.positions.0'"),
        ({"positions": ["prompt_first"]}, "'decode.positions.0'"),
        ({"analyses": ["profile"], "quantity": "router"}, None),
        (
            {"analyses": ["trace"]},
            "'record.full' must have 'residual', since 'trace' of 'decode.analyses' reads single",
        ),
        (
            {"analyses": ["profile"], "positions": ["prompt_last-1"]},
            "since 'prompt_last-1' of 'decode.positions' reads single tokens",
        ),
    ],
)
def test_bad_decoding_is_refused(default, decode, words):
    values = changed(default, "decode", decode)
    if words is None:
        assert StudyConfig.from_dict(values).decode.quantity == "router"
        return
    with pytest.raises(ConfigError, match=re.escape(words)):
        StudyConfig.from_dict(values)


def test_examples_are_looked_for_in_all_tasks_or_not_at_all(default):
    study = StudyConfig.from_dict(default)
    assert study.shown_tasks == list(study.tasks)
    assert study.jobs["examples"] == 2
    contrasts = stage_slice(study, "examples", subject="localised")["contrasts"]
    assert [own["conditions"] for own in contrasts] == [
        ["sensitive", "near_miss_place", "near_miss_year", "benign"],
        ["sensitive", "benign"],
        ["benign"],
    ]
    none = StudyConfig.from_dict({key: default[key] for key in default if key != "examples"})
    assert none.shown_tasks == []
    assert none.jobs["examples"] == 0


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ({"units": -1}, "'examples.units' must be at least 0. Got -1"),
        ({"units": 2, "facets": 0}, "'examples.facets' must be at least 1 and at most 8. Got 0"),
        ({"tokens": 3}, "'examples'"),
    ],
)
def test_bad_examples_are_refused(default, examples, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        StudyConfig.from_dict(changed(default, "examples", examples))


def test_what_was_not_recorded_cannot_be_decoded(default):
    values = changed(default, "decode", {"analyses": ["profile"]})
    values = changed(values, "record.quantities", ["router", "layer"])
    values = changed(values, "record.full", ["router"])
    with pytest.raises(ConfigError, match=r"'decode\.quantity' must be recorded\. Got 'residual'"):
        StudyConfig.from_dict(values)


def test_labels_are_decoded_of_all_tasks_or_of_those_asked_for(default):
    every = StudyConfig.from_dict(changed(default, "decode", {"analyses": ["profile"]}))
    assert every.decoded_tasks == list(every.tasks)
    assert every.jobs["decode"] == 2
    asked = {"analyses": ["profile"], "labels": [{"task": "relations"}]}
    few = StudyConfig.from_dict(changed(default, "decode", asked))
    assert few.decoded_tasks == ["events", "relations"]
    assert StudyConfig.from_dict(default).decoded_tasks == []


@pytest.mark.parametrize(
    ("key", "value", "trains_again"),
    [
        ("activations", ["relu", "tanh"], False),
        ("l2", [0, 0.1], False),
        ("bootstrap", 100, False),
        ("epochs", 3, True),
        ("variances", [0.1], True),
    ],
)
def test_networks_are_trained_again_only_for_what_they_read(repository, key, value, trains_again):
    values = yaml.safe_load((repository / BOTTLENECK).read_text(encoding="utf-8"))
    study = StudyConfig.from_dict(values)
    other = StudyConfig.from_dict(changed(values, f"bottleneck.{key}", value))
    before, now = (stage_slice(own, "bottleneck", setting="relu") for own in (study, other))
    assert (before != now) == trains_again
    assert read_stage(json.dumps(before), "bottleneck", setting="relu") == before
    with pytest.raises(ConfigError, match="for another job"):
        read_stage(json.dumps(before), "bottleneck", setting="tanh")
    with pytest.raises(ConfigError, match="'setting' of the study must be one of"):
        stage_slice(study, "bottleneck", setting="gelu")


def test_a_setting_is_named_by_its_activation_and_penalty():
    options = BottleneckOptions(activations=("tanh", "relu"), l2=(0, 0.015))
    assert options.settings == {
        "tanh": ("tanh", 0),
        "tanh_l2_0.015": ("tanh", 0.015),
        "relu": ("relu", 0),
        "relu_l2_0.015": ("relu", 0.015),
    }
    assert BottleneckOptions().settings == {}


def test_slice_of_another_job_is_refused(study):
    text = json.dumps(stage_slice(study, "validate", subject="localised"))
    with pytest.raises(ConfigError, match="for another job"):
        read_stage(text, "validate", subject="distributed")
    with pytest.raises(ConfigError, match="must be one of"):
        stage_slice(study, "validate", subject="nobody")
    with pytest.raises(ConfigError, match="not JSON"):
        read_stage("{", "validate", subject="localised")
