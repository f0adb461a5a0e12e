"""Sections of networks and alignments."""

import copy
import re

import pytest
import yaml

from lmri.config import StudyConfig, stage_slice
from lmri.errors import ConfigError


@pytest.fixture(scope="module")
def default(repository):
    return yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))


def study(default, **sections):
    return StudyConfig.from_dict({**copy.deepcopy(default), **sections})


def test_nothing_is_asked_by_default(default):
    own = study(default)
    assert (own.connected_tasks, own.aligned_tasks) == ([], [])
    assert (own.jobs["connect"], own.jobs["align"]) == (0, 0)


def test_tasks_of_contrasts_are_asked_about_unless_named(default):
    own = study(default, connect={"kinds": ["head"]}, align={"quantities": ["router"]})
    assert own.connected_tasks == own.aligned_tasks == ["events"]
    named = study(default, align={"quantities": ["router"], "tasks": ["relations", "events"]})
    assert named.aligned_tasks == ["events", "relations"]  # in the order of the study


def test_a_job_knows_the_sides_that_it_compares(default):
    own = study(default, connect={"kinds": ["head"]})
    values = stage_slice(own, "connect", subject="localised")
    assert [entry["name"] for entry in values["contrasts"]] == ["refusal", "refusal_simple"]
    assert values["connect"]["phases"] == ["prompt_last", "content", "response"]
    assert values["tasks"] == {"events": []}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"connect": {"kinds": ["neuron"]}}, "'connect.kinds.0' must be one of"),
        ({"connect": {"density": 0}}, "'connect.density' must be above 0"),
        ({"connect": {"nodes": 2}}, "'connect.nodes' must be at least 3"),
        ({"connect": {"draws": 5}}, "'connect.draws' must be at least 19"),
        ({"connect": {"tasks": ["poems"]}}, "'connect.tasks' must be of"),
        ({"align": {"tasks": ["poems"]}}, "Got 'poems'"),
        ({"align": {"score": "selection"}}, "'align.score' must be another split"),
        ({"align": {"quantities": ["residual"], "score": "evaluation"}}, "'record.splits'"),
        ({"align": {"counts": []}}, "'align.counts' must have at least 1 entry"),
        ({"align": {"dimension": 3}}, "did you mean 'dimensions'?"),
    ],
)
def test_bad_sections_are_refused(default, sections, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        study(default, **sections)


def test_one_subject_is_not_aligned(default):
    alone = {"localised": default["subjects"]["localised"]}
    with pytest.raises(ConfigError, match=r"'subjects' must be 2 or more.*Got 1"):
        study(default, subjects=alone, align={"quantities": ["residual"]})
