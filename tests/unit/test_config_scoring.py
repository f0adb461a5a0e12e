"""The section `scorers` of a study."""

import copy

import pytest
import yaml

from lmri.config import ScorersOptions, StudyConfig, stage_slice
from lmri.errors import ConfigError, ScoreError
from lmri.score import study_scorers


@pytest.fixture
def study(repository):
    return yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))


def test_a_study_without_further_scores_has_an_empty_section(study):
    own = copy.deepcopy(study)
    own.pop("scorers")
    assert StudyConfig.from_dict(own).scorers == StudyConfig.from_dict(study).scorers
    assert study_scorers(ScorersOptions()) == {}


def test_the_slice_of_the_stage_is_the_section(study):
    study["scorers"] = {"names": ["match_f1"], "functions": [{"name": "a", "function": "b:c"}]}
    found = stage_slice(StudyConfig.from_dict(study), "score")
    assert found["scorers"]["names"] == ["match_f1"]
    options = ScorersOptions.from_dict(found["scorers"])
    assert options.functions[0].function == "b:c" and options.functions[0].folder is None
    assert ScorersOptions.from_dict(options.to_dict()) == options
    assert list(study_scorers(ScorersOptions(names=("match_f1",)))) == ["match_f1"]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"names": ["Match F1"]}, "scorers.names"),
        ({"functions": [{"name": "a"}]}, "function"),
        ({"limits": {"repeats": 3}}, "log_probability"),
        ({"scores": []}, "scores"),
    ],
)
def test_what_fits_no_section_is_refused(study, section, words):
    study["scorers"] = section
    with pytest.raises(ConfigError, match=words):
        StudyConfig.from_dict(study)


def test_lists_of_one_name_are_refused(tmp_path):
    path = tmp_path / "lab.json"
    path.write_text('{"name": "lab", "version": 1, "within": 0, "phrases": ["no"]}')
    found = study_scorers(ScorersOptions(names=("refusal_phrases_lab",), phrases=(str(path),)))
    assert list(found) == ["refusal_phrases_lab"]
    with pytest.raises(ScoreError, match="'lab', which is there twice"):
        study_scorers(ScorersOptions(phrases=(str(path), str(path))))


def test_only_what_decides_is_in_the_slices_of_tested_stages(study):
    plain = StudyConfig.from_dict(copy.deepcopy(study))
    study["scorers"] = {"names": ["match_f1"]}
    named = StudyConfig.from_dict(copy.deepcopy(study))
    stages = ("localise", "validate", "draws")
    for stage in stages:
        own = [stage_slice(made, stage, subject="localised") for made in (plain, named)]
        assert own[0] == own[1]  # a score that decides nothing runs nothing again
    study["evidence"]["score"] = "match_exact"
    study["validate"]["claims"] = [
        {"kind": "transfer", "score": "match_numeric"},
        {"kind": "interference", "task": "copying", "score": "exact"},
    ]
    deciding = StudyConfig.from_dict(study)
    for stage in stages:
        found = stage_slice(deciding, stage, subject="localised")["scorers"]
        assert ScorersOptions.from_dict(found).names == ("match_exact", "match_numeric")


def test_a_verdict_rests_on_no_logit(study):
    study["evidence"]["score"] = "onset_margin"
    with pytest.raises(ConfigError, match=r"'evidence.score' must be a score in \[0, 1\]"):
        StudyConfig.from_dict(study)
