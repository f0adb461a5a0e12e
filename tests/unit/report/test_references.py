"""References of the methods that a study asks for."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lmri.config import load_study
from lmri.report import references
from lmri.report.references import REFERENCES, bibliography, references_of

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def study():
    return load_study(ROOT / "config/config.yaml")


def test_the_inference_of_every_study_is_cited(study):
    assert {"westfall1993", "nichols2002", "benjamini1995"} <= set(references_of(study))


def test_policies_are_cited_only_where_they_are_run(study):
    none = replace(study, sparse=replace(study.sparse, policies=()))
    assert "teal2024" not in references_of(none)
    some = replace(study, sparse=replace(study.sparse, policies=("teal", "cats")))
    assert {"teal2024", "cats2024"} <= set(references_of(some))


def test_every_key_has_an_entry():
    groups = (references.INFERENCE, references.PROBES, references.POLICIES.values())
    named = {key for group in groups for key in group} | set(references.CAUSAL.values())
    named |= {key for keys in references.STATISTICS.values() for key in keys}
    assert named <= set(REFERENCES)


def test_entries_are_bibtex():
    text = bibliography(list(REFERENCES))
    entries = re.findall(r"^@(\w+)\{(\w+),$", text, re.M)
    assert [key for _, key in entries] == list(REFERENCES)
    assert text.count("{") == text.count("}")
    assert text.count("author = {") == text.count("title = {") == len(REFERENCES)
