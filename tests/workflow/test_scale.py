"""A study of 200 subjects: how many jobs it is, what they ask for, and what profiles make of it."""

import pytest

from benchmarks.planning import large_study
from lmri.config import StudyConfig


@pytest.fixture(scope="module")
def large(workflow) -> str:
    return workflow.write("large.yaml", large_study(200, 10))


def test_two_hundred_subjects_with_ten_contrasts_are_under_two_thousand_jobs(workflow, large):
    plan = workflow.plan("--configfile", large)
    assert sum(plan.values()) < 2000
    assert plan["fetch"] == plan["localise"] == plan["validate"] == 200
    assert "subject" not in plan
    study = StudyConfig.from_dict(large_study(200, 10))
    assert {rule: count for rule, count in study.jobs.items() if count} == plan
    assert len(study.contrasts) == 10


def test_contrasts_do_not_multiply_jobs(workflow):
    few, many = (StudyConfig.from_dict(large_study(20, count)).jobs for count in (2, 10))
    assert few == many
