"""A study that is exported: whole, redacted, reopened, tampered with."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from lmri.errors import AlteredError, StoreError
from lmri.report import write_report
from lmri.report.bundle.export import export_study
from lmri.report.bundle.reopen import reopen_bundle
from lmri.report.figures.memory import forget_drawings


@pytest.fixture(scope="module")
def bundle(plain, config, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "study.zip"
    return export_study(study=plain, out=out, config=config, provenance={"lmri": "0.1.0"})


def contents(bundle: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(bundle: Path, out: Path, **changes: bytes | None) -> Path:
    files = contents(bundle) | changes
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            if content is not None:
                archive.writestr(name, content)
    return out


def test_a_bundle_has_what_was_found_and_how(bundle):
    names = set(contents(bundle))
    assert {"README.md", "methods.md", "references.bib", "environment.txt", "SHA256SUMS"} <= names
    assert "study/validation/localised/verdicts.parquet" in names
    assert any(name.startswith("study/maps/") for name in names)
    assert not any("recordings/" in name or name.endswith(".safetensors") for name in names)
    crate = json.loads(contents(bundle)["ro-crate-metadata.json"])
    parts = {part["@id"] for node in crate["@graph"] for part in node.get("hasPart", [])}
    assert parts == names - {"SHA256SUMS", "ro-crate-metadata.json"}


def test_the_same_study_is_the_same_bytes(plain, config, bundle, tmp_path):
    again = export_study(
        study=plain, out=tmp_path / "again.zip", config=config, provenance={"lmri": "0.1.0"}
    )
    assert again.read_bytes() == bundle.read_bytes()


def test_a_bundle_reopens_to_the_same_report(plain, config, bundle, tmp_path):
    here = write_report(
        study=plain, out=tmp_path / "here", config=config, provenance={"lmri": "0.1.0"}
    )
    forget_drawings()
    there = reopen_bundle(bundle, tmp_path / "there")
    files = sorted(p.relative_to(here.parent) for p in here.parent.rglob("*") if p.is_file())
    assert files == sorted(
        p.relative_to(there.parent) for p in there.parent.rglob("*") if p.is_file()
    )
    for file in files:
        assert (here.parent / file).read_bytes() == (there.parent / file).read_bytes(), file


@pytest.mark.parametrize("level", ["responses", "all"])
def test_no_redacted_text_is_in_any_byte(plain, config, tmp_path, level):
    out = tmp_path / "redacted.zip"
    export_study(study=plain, out=out, config=config, provenance={}, redact=level)
    reopen_bundle(out, tmp_path / "report")
    secret = set()
    columns = ["intact", "finding", "sham", "fact", "reference"]
    columns += ["prompt", "trial"] if level == "all" else []
    for path in plain.glob("validation/*/transcripts.parquet"):
        table = pd.read_parquet(path)
        secret |= {text for name in columns for text in table[name] if isinstance(text, str)}
    secret = {text.encode() for text in secret if len(text) > 3}
    assert len(secret) >= 2
    kept = set()
    for name, content in contents(out).items():
        if name.endswith(".parquet"):
            content = pd.read_parquet(io.BytesIO(content)).to_csv().encode()
        assert not [text for text in secret if text in content], name
        kept.add(name)
    for path in (tmp_path / "report").rglob("*"):
        if path.is_file():
            assert not [text for text in secret if text in path.read_bytes()], path
    assert kept == set(contents(out))


def test_a_study_that_redacts_writes_no_text_into_its_report(plain, config, tmp_path):
    own = replace(config, report=replace(config.report, redact="all"))
    page = write_report(study=plain, out=tmp_path / "report", config=own, provenance={})
    table = pd.read_parquet(plain / "validation/localised/transcripts.parquet")
    for path in page.parent.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not [p for p in table["prompt"] if p in text], path


def test_units_may_stay_at_home(plain, config, tmp_path):
    out = tmp_path / "withheld.zip"
    export_study(study=plain, out=out, config=config, provenance={}, withhold_units=True)
    names = contents(out)
    assert not any(name.startswith(("study/maps/", "study/findings/")) for name in names)
    table = pd.read_parquet(io.BytesIO(names["study/validation/localised/verdicts.parquet"]))
    own = pd.read_parquet(plain / "validation/localised/verdicts.parquet")
    for withheld, units in zip(table["units"], own["units"], strict=True):
        assert json.loads(withheld) == ["withheld"] * len(json.loads(units))


def test_less_redaction_than_the_study_asks_for_is_refused(plain, config, tmp_path):
    own = replace(config, report=replace(config.report, redact="all"))
    with pytest.raises(StoreError, match="at least 'all'"):
        export_study(
            study=plain, out=tmp_path / "x.zip", config=own, provenance={}, redact="responses"
        )
    assert not list(tmp_path.iterdir())


def test_a_study_without_verdicts_is_refused(config, tmp_path):
    with pytest.raises(StoreError, match="no verdict to export"):
        export_study(study=tmp_path, out=tmp_path / "x.zip", config=config, provenance={})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods.md": b"other"}, "'methods.md' was changed"),
        ({"study/extra.json": b"{}"}, "added or taken away"),
        ({"methods.md": None}, "added or taken away"),
        ({"study.json": None}, "no 'study.json'"),
    ],
)
def test_a_bundle_that_was_changed_is_refused(bundle, tmp_path, changes, message):
    path = rewritten(bundle, tmp_path / "x.zip", **changes)
    with pytest.raises((AlteredError, StoreError), match=message):
        reopen_bundle(path, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("name", ["../evil.json", "/evil.json", "study/../../evil.json"])
def test_no_file_leaves_the_folder(bundle, tmp_path, name):
    import hashlib

    sums = contents(bundle)["SHA256SUMS"].decode() + f"{hashlib.sha256(b'x').hexdigest()}  {name}\n"
    path = rewritten(bundle, tmp_path / "x.zip", **{name: b"x", "SHA256SUMS": sums.encode()})
    with pytest.raises(Exception, match="leads out of the bundle"):
        reopen_bundle(path, tmp_path / "report")
    assert not list(tmp_path.rglob("evil.json"))


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_what_is_no_bundle_is_refused(tmp_path, content):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not a bundle"):
        reopen_bundle(path, tmp_path / "report")
