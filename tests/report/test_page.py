"""The page of synthetic studies, read as text."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from report_files import Elements, visible, write

from lmri import cli
from lmri.errors import LmriError
from lmri.report.figures.memory import forget_drawings
from lmri.store import write_finding

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def page(plain, config, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "report"
    return write(plain, out, config)


def test_headline_comes_first_and_says_whether_it_held(page):
    text = visible(page.read_text())
    asked = text.index("Is refusal carried by a few experts?")
    found = text.index("Refusal: of 2 subjects, confirmed in 1 (localised)")
    rate = text.index("Over all 6 bases trained")
    table = text.index("Every subject of the study and every claim")
    detail = text.index("Where in the model")
    assert asked < found < rate < table < detail
    assert "nothing was found, as it should be, in 2 of 2 subjects" in text


def test_every_subject_and_contrast_has_a_section(page, config):
    identifiers = [attrs.get("id") for _, attrs in Elements(page.read_text()).tags]
    for subject in config.subjects:
        for contrast in config.contrasts:
            assert f"{subject}-{contrast.replace('_', '-')}" in identifiers
    assert {"verdicts", "methods", "provenance", "errors"} <= set(identifiers)


def test_identifiers_are_unique_and_links_lead_somewhere(page):
    tags = Elements(page.read_text()).tags
    identifiers = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    targets = [attrs["href"] for tag, attrs in tags if tag in {"a", "use"}]
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in identifiers
        else:
            assert (page.parent / target).is_file()
    html = page.read_text()
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(identifiers)


def test_nothing_is_fetched_and_no_script_is_there(page):
    html = page.read_text()
    assert not re.search(r"""(?:href|src)=["'](?:https?:)?//""", html)
    assert "<script" not in html
    assert "default-src 'none'" in html.replace("&#39;", "'")
    assert len(html.encode()) < 5 * MEGABYTE


def test_tables_and_figures_are_accessible(page):
    tags = Elements(page.read_text()).tags
    tables = [attrs for tag, attrs in tags if tag == "table"]
    assert len(tables) == sum(tag == "caption" for tag, _ in tags)
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    images = [attrs for _, attrs in tags if attrs.get("role") == "img"]
    assert images
    assert all(len(attrs["aria-label"]) > 20 for attrs in images)
    assert sum(tag == "h1" for tag, _ in tags) == 1


def test_headline_cells_are_those_of_the_file(page, plain):
    html = page.read_text()
    first = html.index('<table class="headline">')
    rows = re.findall(r"<tr>(.*?)</tr>", html[first : html.index("</table>", first)], re.S)[1:]
    verdicts = pd.read_parquet(plain / "verdicts.parquet")
    claims = verdicts[verdicts["role"] == "hypothesis"]
    assert len(rows) == len(verdicts)
    for row, verdict in zip(rows, claims.to_dict("records"), strict=False):
        text = visible(row)
        for expected in (
            verdict["subject"],
            verdict["verdict"],
            verdict["reason"],
            f"{verdict['effect']:.2f}",
            f"{verdict['p_corrected']:.3f}",
            f"{verdict['bystanders_held']:.0f} of {verdict['bystanders']:.0f}",
            f"{verdict['n']:.0f}",
        ):
            assert expected in text
    for row in rows[len(claims) :]:
        assert "empty, as expected" in visible(row)
        assert "not testable" not in visible(row)


def test_cells_of_the_headline_name_their_column_where_it_has_none(page):
    """On a phone the rows are cards, without the heads of the columns."""
    html = page.read_text()
    first = html.index('<table class="headline">')
    table = Elements(html[first : html.index("</table>", first)]).tags
    labels = [attrs["data-label"] for tag, attrs in table if tag == "td"]
    assert labels[:3] == ["Verdict", "Why", "Switched off"]
    assert len(labels) == 8 * sum(tag == "th" and attrs["scope"] == "row" for tag, attrs in table)


def test_data_files_repeat_the_artefacts(page, plain):
    files = page.parent / "files"
    arms = pd.read_parquet(plain / "validation/localised/arms.parquet")
    copy = pd.read_csv(files / "arms.localised-refusal.csv")
    own = arms[arms["kind"] == "expert"].reset_index(drop=True)
    pd.testing.assert_frame_equal(copy, own, check_dtype=False)
    maps = pd.read_csv(files / "map.localised-refusal.csv")
    assert len(maps) == 3 * 3 * 32
    assert set(maps["phase"]) == {"prompt_last", "content", "response"}


def test_all_verdicts_are_collected(page, plain, config):
    verdicts = pd.read_parquet(plain / "verdicts.parquet")
    parts = [
        pd.read_parquet(plain / f"validation/{subject}/verdicts.parquet")
        for subject in config.subjects
    ]
    everything = pd.concat(parts, ignore_index=True)
    claimed = everything["role"] != "negative_control"
    in_order = pd.concat([everything[claimed], everything[~claimed]], ignore_index=True)
    pd.testing.assert_frame_equal(verdicts, in_order)


def test_the_answer_begins_with_what_was_claimed(page):
    text = page.read_text(encoding="utf-8")
    answer = re.search(r'<p class="answer">(.*?)</p>', text, re.S).group(1)
    assert answer.index("Refusal: of 2 subjects") < answer.index("Negative control")


def test_same_inputs_give_the_same_bytes(page, plain, config, tmp_path):
    forget_drawings()
    again = write(plain, tmp_path / "report", config)
    assert again.read_bytes() == page.read_bytes()


def test_report_is_replaced_whole(plain, exploring, tmp_path):
    out = tmp_path / "report"
    write(plain, out, exploring)
    (out / "stale.txt").write_text("from an earlier run")
    write(plain, out, exploring)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report"]
    assert sorted(path.name for path in out.iterdir()) == [
        "contrasts",
        "files",
        "index.html",
        "pages",
    ]


def test_what_is_missing_is_listed(plain, config, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    shutil.rmtree(study / "maps/localised/refusal.content")
    (study / "findings/localise/localised/refusal.response/expert.resonance.json").write_text("{")
    (study / "validation/localised/transcripts.parquet").unlink()
    (study / "validation/distributed/arms.parquet").write_bytes(b"PAR1 cut short")
    html = write(study, tmp_path / "report", config).read_text()
    errors = visible(html[html.index('<section id="errors"') :])
    assert "maps/localised/refusal.content/expert.resonance.zarr" in errors
    assert "findings/localise/localised/refusal.response/expert.resonance.json" in errors
    assert "validation/localised/transcripts.parquet" in errors
    assert "validation/distributed/arms.parquet" in errors
    assert str(tmp_path) not in html
    assert "confirmed" in visible(html)


def test_a_subject_without_a_verdict_is_an_error_of_the_page(plain, config, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    (study / "validation/distributed/verdicts.parquet").unlink()
    text = visible(write(study, tmp_path / "report", config).read_text())
    assert "validation/distributed/verdicts.parquet no such table" in text
    assert "There is no verdict; see the errors" in text


def test_a_subject_without_experts_has_no_maps_and_no_errors(plain, config, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    shutil.rmtree(study / "maps/distributed")
    for path in (study / "findings/localise/distributed").glob("*/*.json"):
        finding = json.loads(path.read_text())
        kept = {key: finding[key] for key in finding if key not in {"written", "hash", "schema"}}
        changed = {"status": "not_testable", "reason": "the subject has no experts", "units": []}
        write_finding(path, {**kept, **changed})
    folder = study / "validation/distributed"
    verdicts = pd.read_parquet(folder / "verdicts.parquet")
    verdicts["finding_hash"] = [
        json.loads(
            (
                study / f"findings/localise/distributed/{c}.prompt_last/expert.resonance.json"
            ).read_text()
        )["hash"]
        for c in verdicts["contrast"]
    ]
    verdicts = verdicts.assign(status="not_testable", verdict="not testable", units="[]")
    verdicts.to_parquet(folder / "verdicts.parquet")
    for table in ("arms", "transcripts"):
        pd.read_parquet(folder / f"{table}.parquet")[:0].to_parquet(folder / f"{table}.parquet")
    html = write(study, tmp_path / "report", config).read_text()
    text = visible(html)
    assert text.count("This could not be asked: the subject has no experts.") == 3
    assert "nothing was found, as it should be, in 1 of 1 subject." in text
    assert "None. Every expected artefact" in visible(html[html.index('<section id="errors"') :])


def test_a_study_that_claims_nothing_is_reported(plain, config, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    for path in (study / "validation").glob("*/verdicts.parquet"):
        pd.read_parquet(path)[:0].to_parquet(path)
    kept = {n: c for n, c in config.contrasts.items() if c.role == "exploratory"}
    html = write(study, tmp_path / "report", replace(config, contrasts=kept)).read_text()
    assert "Nothing was claimed, so nothing was put to the test." in html
    assert "Confirmed: the score changes" not in html
    assert "The map at the last token of the prompt" in html


def test_a_finding_changed_after_the_verdict_is_a_warning(plain, config, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    path = study / "validation/localised/verdicts.parquet"
    table = pd.read_parquet(path).assign(finding_hash="0" * 64)
    table.to_parquet(path)
    text = visible(write(study, tmp_path / "report", config).read_text())
    assert "reached on another version of this finding" in text


def test_an_edited_finding_is_listed_and_told_by_the_command(
    plain, values, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    study = Path(shutil.copytree(plain, "fixture"))
    path = study / "findings/localise/localised/refusal.prompt_last/expert.resonance.json"
    path.write_text(path.read_text().replace('"role": "hypothesis"', '"role": "exploratory"'))
    Path("study.yaml").write_text(yaml.safe_dump(values))
    flags = {"--config": "study.yaml", "--study": "fixture", "--out": "report"}
    assert cli.main(["report", *(part for flag in flags.items() for part in flag)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"lmri: error: {path}: the finding was changed after it was written")
    assert told.endswith("\n")
    assert told.count("\n") == 1
    html = Path("report/index.html").read_text()
    errors = visible(html[html.index('<section id="errors"') :])
    assert "the finding was changed after it was written" in errors
    assert "delete findings/localise/localised and run again" in errors


def test_no_verdict_at_all_is_refused(plain, config, tmp_path):
    study = tmp_path / "fixture"
    shutil.copytree(plain, study)
    shutil.rmtree(study / "validation")
    with pytest.raises(LmriError, match="no verdict of any subject"):
        write(study, tmp_path / "report", config)
    assert not (tmp_path / "report").exists()


def test_hostile_text_stays_text(hostile, config, tmp_path):
    html = write(hostile, tmp_path / "report", config).read_text()
    tags = Elements(html).tags
    assert not any(tag in {"script", "img", "b"} and attrs for tag, attrs in tags)
    assert not any(name.startswith("on") for _, attrs in tags for name in attrs)
    assert "&lt;script&gt;document.title" in html
    # Neither the template engine nor the drawings take it for theirs.
    assert "{{ 7 * 7 }}" in html
    assert "$x^2$ and $\\frac{1}{0}$" in html
    assert len(html.encode()) < 5 * MEGABYTE
