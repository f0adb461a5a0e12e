"""The claims of a study: what may be asked for, and what is told where it may not."""

import copy

import pytest
import yaml

from lmri.config import ClaimOptions, StudyConfig, ValidateOptions
from lmri.errors import ConfigError


@pytest.fixture(scope="module")
def default(repository) -> dict:
    return yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))


def study(default: dict, claims: list, **evidence) -> StudyConfig:
    values = copy.deepcopy(default)
    values["validate"]["claims"] = claims
    values["evidence"] |= evidence
    return StudyConfig.from_dict(values, "s.yaml")


def test_the_default_file_says_the_defaults(default):
    named = study(default, default["validate"]["claims"])
    del default["validate"]["claims"]
    assert StudyConfig.from_dict(default).validate == named.validate == ValidateOptions()


def test_a_kind_alone_and_a_kind_with_its_place(default):
    repair = {"kind": "repair", "task": "events", "condition": "benign"}
    made = study(default, ["dose", repair, {"kind": "transfer", "subject": "distributed"}])
    assert made.validate.claims == (
        ClaimOptions("dose"),
        ClaimOptions("repair", "events", "benign"),
        ClaimOptions("transfer", subject="distributed"),
    )
    assert made.validate.others == ("distributed",)
    assert StudyConfig.from_dict(made.to_dict()) == made


def test_a_study_that_claims_nothing_more_is_read_back_as_one(default):
    made = study(default, [])
    assert made.validate.claims == ()
    assert StudyConfig.from_dict(made.to_dict()).validate.claims == ()
    assert "beside     no claim" in made.summary()


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("magic", r"'validate.claims.0' must be one of .*'dose'.* Got 'magic'"),
        ({"kind": "dose", "tsk": "x"}, r"unknown key 'tsk' in 'validate.claims.0'"),
        ({"task": "events"}, r"missing key 'kind' in 'validate.claims.0'"),
        ({"kind": "dose", "task": "events"}, r"must have 'task', .* Got them for 'dose'"),
        ({"kind": "interference"}, r"missing key 'task' .* which behaviour is to improve"),
        ({"kind": "repair"}, r"missing key 'task' .* where the behaviour is to be mended"),
        ({"kind": "transfer", "condition": "benign"}, r"needed beside 'condition'"),
        ({"kind": "transfer", "task": "no"}, r"'validate.claims.0.task' must be one of .*'no'"),
        ({"kind": "dose", "subject": "localised"}, r"must be given only for .* Got 'dose'"),
        ({"kind": "repair", "subject": "no"}, r"'validate.claims.0.subject' .* Got 'no'"),
        ({"kind": "transfer", "task": "events", "score": "Joy!"}, r"'validate.claims.0.score'"),
        (3, r"'validate.claims.0' must be text or a mapping"),
    ],
)
def test_bad_claims_are_told(default, claim, message):
    with pytest.raises(ConfigError, match=message):
        study(default, [claim])


def test_a_claim_is_made_once(default):
    with pytest.raises(ConfigError, match=r"must not make one claim twice. Got 'dose' again"):
        study(default, ["dose", {"kind": "dose"}])


def test_a_rule_that_stops_nothing(default):
    assert study(default, [], stop_after=10).evidence.stop_after == 10
    with pytest.raises(ConfigError, match=r"at most the 99 sham maps .* Got 100"):
        study(default, [], stop_after=100)


def test_secondary_claims_are_counted_where_most_are_made(default):
    across = [{"kind": "transfer", "subject": name} for name in ("localised", "distributed")]
    made = study(default, ["specificity", "sufficiency", "dose", *across]).validate
    assert made.secondary(["localised", "distributed"]) == 3
    assert made.shammed and not study(default, ["dose", "jointness"]).validate.shammed
    assert study(default, []).validate.secondary(["localised"]) == 0
