"""The methods paragraphs say what was done, and nothing that was not."""

from dataclasses import replace

import pandas as pd
import pytest

from lmri.config import RecordOptions, load_study
from lmri.report.inputs import StudyInputs
from lmri.report.methods import describe_methods


@pytest.fixture(scope="module")
def config(repository):
    return load_study(repository / "config/config.yaml")


def described(config) -> str:
    return " ".join(describe_methods(StudyInputs(config, [], pd.DataFrame())))


def test_greedy_responses(config):
    assert "Responses are greedy, of at most 10 tokens; encoders give none." in described(config)


def test_sampled_responses(config):
    sampled = replace(config, record=RecordOptions(temperature=0.6, top_p=0.95, repeats=3))
    assert "Responses are sampled (temperature 0.6, top-p 0.95, 3 to each trial), of at most" in (
        described(sampled)
    )


def test_without_a_claim_no_rule_of_a_verdict_is_described(config):
    kept = {name: c for name, c in config.contrasts.items() if c.role == "exploratory"}
    text = described(replace(config, contrasts=kept))
    assert "The score of an expert is its routing rate" in text
    assert "Confirmed:" not in text and "sham maps" not in text
    assert "Confirmed:" in described(config)
