"""A study whose primary map is a causal one: its verdict is shown like any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from causal_files import CLAIM
from report_files import assert_levels, assert_safe, visible, write

from lmri.report import explain_verdict
from lmri.report.reading import read_study

PAGE = "contrasts/refusal.html"


@pytest.fixture(scope="module")
def report(claim_study, claim_config, tmp_path_factory) -> Path:
    return write(claim_study, tmp_path_factory.mktemp("out") / "report", claim_config).parent


@pytest.fixture(scope="module")
def index(report) -> str:
    return visible((report / "index.html").read_text()).replace("\xa0", " ")


@pytest.fixture(scope="module")
def page(report) -> str:
    return visible((report / PAGE).read_text()).replace("\xa0", " ")


def errors_of(inputs) -> list[str]:
    """Files that should be there; the fixtures have no sparse runs."""
    paths = [problem.path for problem in inputs.problems if problem.level == "error"]
    return [path for path in paths if not path.startswith("sparse/")]


@pytest.mark.parametrize("name", ["index.html", PAGE])
def test_pages_are_safe(report, name):
    assert_safe(report / name, report)


def test_the_page_has_its_headings_in_order(report):
    assert_levels(report / PAGE)


def test_the_scans_of_the_study_begin_with_the_causal_map(claim_study, claim_config):
    inputs = read_study(claim_study, claim_config)
    for subject in inputs.subjects:
        first, *others = subject.scans["refusal"]
        assert (first.phase, first.name.name) == ("attribution", CLAIM)
        assert [scan.phase for scan in others] == list(claim_config.localise.phases)
        assert not subject.arms_of(first, first.name).empty
        assert subject.scans["null_places"][0].phase == claim_config.localise.phases[0]
    assert errors_of(inputs) == []


def test_the_section_of_a_subject_has_its_verdict_and_all_of_its_evidence(index):
    section = index[index.rindex("Which features of a dictionary move the answer") :]
    assert "Switching off 8 of 400 features (layer:feature 2:1, " in section
    first = index[index.index("Which features of a dictionary move the answer") :]
    assert "Yes. Switching off 2 of 400 features (layer:feature 2:1, 2:4) lowered" in first
    for part in (
        "The causal map of features of a dictionary by relevance patching (RelP)",
        "Dose and response",
        "Features off",
        "Against the sham maps",
        "Other features used as often",
        "What had to hold",
        "In its own words",
        "and this map among all causal maps",
    ):
        assert part in first
    assert "There is no verdict" not in index


def test_what_responds_is_beside_it_as_exploratory(index):
    others = index[index.index("In other units") :]
    assert "Experts share of tokens routed there rate difference" in others
    assert "experts, masked; 99 shams" in others[: others.index("What happens without them")]


def test_directions_that_nothing_reads_are_told_and_warned_of(index):
    assert "Directions of the features: of 2.00 logits on the first token, 1.80" in index
    assert "To be read with care, directions that nothing reads: of 2.00 logits" in index
    errors = index.partition("Errors and missing inputs")[2]
    assert errors.count("may be an illusion") == 1


def test_the_page_of_the_contrast_has_the_verdicts_and_the_place_of_the_map(page):
    assert "The primary map is the causal one of features of a dictionary" in page
    assert "Subjects and the primary map: units selected of all" in page
    assert "The causal maps of refusal, side by side" in page
    section = page[page.index("Causal maps The maps above") :]
    assert "One of them is primary; the others are exploratory" in section
    assert "The primary map: features of a dictionary by relevance patching (RelP)." in section
    assert "localised confirmed and distributed refuted" in section
    assert "localised: RelP confirmed" in section
    assert "localised: patching confirmed" not in section
    assert "There is no second-level map" in section


def test_the_chain_of_evidence_is_told(claim_study):
    lines = explain_verdict(claim_study, "distributed/refusal")
    text = "\n".join(lines)
    place = "distributed/refusal.attribution/feature.relp"
    for path in (f"findings/localise/{place}.json", f"maps/{place}.zarr", "verdicts.parquet"):
        assert path in text
    assert "causal map of features of a dictionary by relevance patching (RelP); 12 pairs" in text
    assert "correlation with patching 0.87 (0.61 to 0.95)" in text
    assert "To be read with care, directions that nothing reads:" in text
    assert "-> features.safetensors" in text
    assert "NOT TO BE TRUSTED" not in text and "ANOTHER VERSION" not in text


def test_a_lost_causal_map_is_one_error_and_the_evidence_stays(claim_study, claim_config, tmp_path):
    folder = tmp_path / "fixture"
    shutil.copytree(claim_study, folder)
    shutil.rmtree(folder / f"maps/localised/refusal.attribution/{CLAIM}.zarr")
    inputs = read_study(folder, claim_config)
    assert errors_of(inputs) == [f"maps/localised/refusal.attribution/{CLAIM}.zarr"]
    scan = inputs.subjects[0].scans["refusal"][0]
    assert scan.statistics is None and scan.finding is not None


def test_a_missing_verdict_on_a_causal_map_is_an_error(claim_study, claim_config, tmp_path):
    folder = tmp_path / "fixture"
    shutil.copytree(claim_study, folder)
    path = folder / "validation/localised/verdicts.parquet"
    table = pd.read_parquet(path)
    table[table["contrast"] != "refusal"].to_parquet(path)
    problems = read_study(folder, claim_config).problems
    assert any("no verdict on 'refusal' in the phase 'attribution'" in p.message for p in problems)
