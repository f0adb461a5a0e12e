"""The page of examples: the planted trial and token are on top; nothing redacted is anywhere."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from example_files import write_examples
from report_files import Elements, assert_levels, assert_safe, visible, write

from lmri.config import ExampleOptions
from lmri.report.bundle.export import export_study
from lmri.report.bundle.reopen import reopen_bundle
from lmri.report.examples.shading import shade, shaded

PAGE = "pages/examples.html"
SECRETS = {"prompt": ("zyzzyva", " quokka"), "trial": "wombat", "answer": (" axolotl", " okapi")}


@pytest.fixture(scope="module")
def report(plain, config, tmp_path_factory) -> Path:
    return write(plain, tmp_path_factory.mktemp("examples") / "report", config).parent


@pytest.fixture(scope="module")
def html(report) -> str:
    return (report / PAGE).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def secret(plain, config, tmp_path_factory) -> Path:
    """A study with words in its examples that stand nowhere else."""
    study = shutil.copytree(plain, tmp_path_factory.mktemp("secret") / "fixture")
    own = {"words": SECRETS["prompt"], "trial": SECRETS["trial"], "answer": SECRETS["answer"]}
    write_examples(study, config, **own)
    return study


def test_the_page_is_safe_and_its_headings_skip_no_level(report):
    assert_safe(report / PAGE, report)
    assert_levels(report / PAGE)


def test_every_unit_is_there_once_with_its_strongest_example_first(html):
    units = re.findall(r'<details class="unit"(.*?)</details>', html, re.S)
    assert len(units) == 2 * 3  # subjects, units; two contrasts name each
    first = units[0]
    # The first of each subject is open.
    assert [own.startswith(" open") for own in units] == [True, False, False] * 2
    text = visible(first)
    assert "Expert 2:16" in text
    assert "finding of expert.resonance" in text
    assert "strongest of the map expert.resonance" in text
    assert text.index("0.90") < text.index("0.80")
    peaks = re.findall(r"<mark class=\"token (\w+)\"[^>]*><bdi>(.*?)</bdi><small>(.*?)<", first)
    assert peaks == [("up6", "&lt;assistant&gt;", "0.90"), ("up5", "I", "0.80")]


def test_below_zero_has_a_shade_and_a_facet_of_its_own(html):
    neuron = re.findall(r'<details class="unit"(.*?)</details>', html, re.S)[2]
    assert "Neuron 2:16:3" in visible(neuron)
    assert re.search(r"Facet 2 of 2, below zero: 1 example of events", visible(neuron))
    assert 'class="token down6"' in neuron


def test_strong_shades_are_told_to_those_who_do_not_see_them(html):
    aloud = re.findall(r'<span class="unseen"> \((.*?)\)</span>', html)
    assert aloud
    shades = re.findall(r'class="token (up|down)(\d)"', html)
    assert {int(step) for _, step in shades} <= set(range(1, 7))
    assert len(aloud) == sum(
        int(step) >= 4
        for tag, step in re.findall(r'<(span|mark) class="token (?:up|down)(\d)"', html)
        if tag == "span"
    )


def test_traces_run_from_the_prompt_to_the_end_of_the_response(html):
    tables = re.findall(r'<table class="trace">(.*?)</table>', html, re.S)
    assert len(tables) == 2 * 2  # subjects, conditions
    rows = re.findall(r"<tr>\n<th scope=\"row\".*?</tr>", tables[0], re.S)
    assert len(rows) == 8
    assert "response begins" in visible(rows[5])
    assert "0.90" in visible(rows[4])
    assert visible(rows[4]).count("0.90") == 3  # experts and the neuron of the finding


def test_atlas_and_evidence_lead_to_it(report, html):
    atlas = (report / "pages/atlas.html").read_text(encoding="utf-8")
    found = re.search(r'id="atlas-data">(.*?)</script>', atlas, re.S).group(1)
    linked = {anchor for own in json.loads(found)["maps"] for anchor in own["examples"].values()}
    anchors = {attrs["id"] for _, attrs in Elements(html).tags if "id" in attrs}
    assert len(linked) == 6
    assert linked <= anchors
    for own in json.loads(found)["maps"]:
        for place, anchor in own["examples"].items():
            unit = "-".join(str(axis[int(place)]) for axis in own["units"])
            assert anchor.endswith(f"-{unit}")


def test_what_is_not_there_is_said(html):
    assert "head.norm: not recorded at every token." in visible(html)


def test_a_study_without_examples_has_no_page(plain, config, tmp_path):
    own = replace(config, examples=ExampleOptions())
    report = write(plain, tmp_path / "report", own).parent
    assert not (report / PAGE).exists()
    assert "examples.html" not in (report / "index.html").read_text(encoding="utf-8")


def test_missing_tables_are_listed_as_errors(plain, config, tmp_path):
    study = shutil.copytree(plain, tmp_path / "fixture")
    (study / "analyses/examples/localised/tokens.parquet").unlink()
    (study / "analyses/examples/distributed/about.json").write_text("{")
    index = write(study, tmp_path / "report", config).read_text(encoding="utf-8")
    errors = visible(index[index.index('<section id="errors"') :])
    assert "analyses/examples/localised/tokens.parquet no such table" in errors
    assert "analyses/examples/distributed/about.json not readable" in errors


@pytest.mark.parametrize("level", ["responses", "all"])
def test_no_redacted_token_is_in_any_byte(secret, config, tmp_path, level):
    out = tmp_path / "redacted.zip"
    export_study(study=secret, out=out, config=config, provenance={}, redact=level)
    report = reopen_bundle(out, tmp_path / "report").parent
    hidden = [word.strip() for word in SECRETS["answer"]]
    hidden += [w.strip() for w in SECRETS["prompt"]] + ["wombat"] if level == "all" else []
    shown = "" if level == "all" else "quokka"
    with zipfile.ZipFile(out) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(".parquet"):
                content = pd.read_parquet(io.BytesIO(content)).to_csv().encode()
            assert not [word for word in hidden if word.encode() in content], name
    for path in report.rglob("*"):
        if path.is_file():
            assert not [word for word in hidden if word.encode() in path.read_bytes()], path
    assert shown in (report / PAGE).read_text(encoding="utf-8")


def test_units_that_stay_at_home_leave_no_examples(secret, config, tmp_path):
    out = tmp_path / "withheld.zip"
    export_study(study=secret, out=out, config=config, provenance={}, withhold_units=True)
    with zipfile.ZipFile(out) as archive:
        assert not [name for name in archive.namelist() if "analyses/examples" in name]


@pytest.mark.parametrize(
    ("value", "largest", "name"),
    [
        (1.0, 1.0, "up6"),
        (-1.0, 1.0, "down6"),
        (0.5, 1.0, "up3"),
        (0.08, 1.0, ""),
        (0.0, 1.0, ""),
        (3.0, 1.0, "up6"),
        (float("nan"), 1.0, ""),
        (1.0, 0.0, ""),
    ],
)
def test_shades(value, largest, name):
    assert shade(value, largest) == name


def test_what_cannot_be_printed_is_written_out():
    token = shaded(" \u202ea\n\u200b", 1.0, 1.0)
    assert (token.gap, token.text) == (" ", "\\u202ea\\n\\u200b")
    assert shaded("  ", 1.0, 1.0).text == "  "
