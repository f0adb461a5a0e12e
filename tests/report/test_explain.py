"""``lmri explain``: the chain behind a verdict, and what it says when a link is broken."""

import shutil
from pathlib import Path

import pytest

from lmri.errors import LmriError
from lmri.report import explain_verdict


@pytest.fixture
def study(plain: Path, tmp_path: Path) -> Path:
    return shutil.copytree(plain, tmp_path / "study")


def finding_of(study: Path, subject: str) -> Path:
    folder = study / "findings" / "localise" / subject / "refusal.prompt_last"
    return folder / "expert.resonance.json"


def test_a_verdict_is_told_with_its_rule_and_its_files(study):
    lines = explain_verdict(study, "localised/refusal")
    text = "\n".join(lines)
    assert lines[0].startswith("verdict     confirmed: ")
    assert "would change it: any of these not holding" in text
    for name in (
        "validation/localised/verdicts.parquet",
        "findings/localise/localised/refusal.prompt_last/expert.resonance.json",
        "maps/localised/refusal.prompt_last/expert.resonance.zarr",
        "subjects/localised.manifest.json",
    ):
        assert f"-> {study / name}" in text
    assert "NOT TO BE TRUSTED" not in text


def test_what_would_have_changed_a_verdict_depends_on_the_verdict(study):
    text = "\n".join(explain_verdict(study, "distributed/refusal"))
    assert "would change it: an effect whose interval reaches beyond the margin" in text


def test_the_full_name_picks_one_map(study):
    full = "localised/refusal.prompt_last/expert.resonance"
    assert explain_verdict(study, full) == explain_verdict(study, "localised/refusal")


def test_a_finding_changed_after_the_verdict_is_shouted(study):
    path = finding_of(study, "localised")
    path.write_text(path.read_text().replace('"margin": 0.1', '"margin": 0.9'))
    text = "\n".join(explain_verdict(study, "localised/refusal"))
    assert "NOT TO BE TRUSTED" in text
    assert "changed after it was written" in text


def test_another_finding_than_the_verdicts_is_shouted(study):
    shutil.copy(finding_of(study, "distributed"), finding_of(study, "localised"))
    text = "\n".join(explain_verdict(study, "localised/refusal"))
    assert "THE VERDICT WAS REACHED ON ANOTHER VERSION" in text


def test_what_is_missing_is_told_where_it_belongs(study):
    shutil.rmtree(study / "maps" / "localised")
    lines = explain_verdict(study, "localised/refusal")
    assert any(line.startswith("map ") and "no such map" in line for line in lines)


def test_an_unknown_verdict_lists_those_there_are(study):
    with pytest.raises(LmriError, match=r"no verdict 'nobody/refusal'.*localised/refusal"):
        explain_verdict(study, "nobody/refusal")


def test_a_folder_without_verdicts_is_refused(tmp_path):
    with pytest.raises(LmriError, match="no verdict; looked for"):
        explain_verdict(tmp_path, "a/b")
