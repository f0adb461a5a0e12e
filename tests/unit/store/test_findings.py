"""A finding is fixed by its hash."""

import json

import pytest

from lmri.errors import AlteredError, StoreError
from lmri.store import finding_hash, read_finding, write_finding
from lmri.store.findings import FIELDS

FINDING = {
    "stage": "localise",
    "subject": "localised",
    "contrast": "refusal",
    "phase": "prompt_last",
    "kind": "expert",
    "method": "resonance",
    "role": "hypothesis",
    "status": "testable",
    "units": [{"layer": 2, "expert": 16, "score": 0.1 + 0.2}],
    "primary_endpoint": {"units": [[2, 16]], "margin": 0.1, "shams": 99},
}


@pytest.fixture
def path(tmp_path):
    """A finding on disk."""
    path = tmp_path / "deep" / "expert.resonance.json"
    write_finding(path, FINDING)
    return path


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_finding_reads_back_as_it_was_written(path):
    read = read_finding(path)
    assert {key: read[key] for key in FINDING} == FINDING
    assert read["schema"] == "lmri.finding/1"
    assert read["hash"] == finding_hash(read)


def test_a_null_finding_is_a_finding(tmp_path):
    written = write_finding(tmp_path / "null.json", {**FINDING, "status": "null", "units": []})
    assert read_finding(tmp_path / "null.json") == written


def test_the_hash_does_not_depend_on_the_order_of_keys(path):
    content = json.loads(path.read_text())
    content["primary_endpoint"] = dict(reversed(content["primary_endpoint"].items()))
    path.write_text(json.dumps(dict(reversed(content.items())), indent=4))
    assert read_finding(path)["hash"] == content["hash"]


def test_the_hash_does_not_depend_on_the_time(path):
    edit(path, lambda content: content.update(written="1999-01-01T00:00:00+00:00"))
    assert read_finding(path)["written"].startswith("1999")


def test_tuples_and_lists_hash_the_same(tmp_path):
    endpoint = {"units": ((2, 16),), "margin": 0.1, "shams": 99}
    first = write_finding(tmp_path / "a.json", {**FINDING, "primary_endpoint": endpoint})
    assert first["hash"] == write_finding(tmp_path / "b.json", FINDING)["hash"]
    assert read_finding(tmp_path / "a.json") == first


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(subject="distributed"),
        lambda content: content["primary_endpoint"].update(margin=0.2),
        lambda content: content["primary_endpoint"]["units"].append([2, 17]),
        lambda content: content["units"][0].update(score=0.3),
        lambda content: content.update(note="one more field"),
        lambda content: content.pop("primary_endpoint"),
        lambda content: content.pop("hash"),
        lambda content: content.update(hash="0" * 64),
    ],
)
def test_a_changed_finding_is_refused(path, change):
    edit(path, change)
    with pytest.raises(AlteredError, match="changed after it was written") as info:
        read_finding(path)
    assert f"delete {path.parent.parent} and run again" in str(info.value)


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named_when_read_and_when_written(path, field):
    lacking = {key: value for key, value in FINDING.items() if key != field}
    with pytest.raises(StoreError, match=rf"lacks the field\(s\) {field}\."):
        write_finding(path.with_name("lacking.json"), lacking)
    assert not path.with_name("lacking.json").exists()
    edit(path, lambda content: content.pop(field))
    with pytest.raises(StoreError, match=rf"lacks the field\(s\) {field}\."):
        read_finding(path)


def test_an_unknown_status_is_named_with_those_allowed(path):
    with pytest.raises(StoreError, match=r"testable, null, not_testable\. Got 'sure'"):
        write_finding(path.with_name("other.json"), {**FINDING, "status": "sure"})
    edit(path, lambda content: content.update(status="sure"))
    with pytest.raises(StoreError, match="Got 'sure'"):
        read_finding(path)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not a readable finding"), ("[]", "'schema' of a finding")]
)
def test_what_is_no_finding_is_refused(path, text, message):
    path.write_text(text)
    with pytest.raises(StoreError, match=message):
        read_finding(path)


def test_a_missing_finding_asks_for_the_job(tmp_path):
    with pytest.raises(StoreError, match=r"no such finding\. Was the job"):
        read_finding(tmp_path / "none.json")


def test_a_number_that_json_cannot_hold_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_finding(tmp_path / "a.json", {**FINDING, "units": [{"score": float("nan")}]})
    assert list(tmp_path.iterdir()) == []
