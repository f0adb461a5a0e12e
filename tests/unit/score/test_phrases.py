"""Refusals by phrases: known answers, and lists that cannot change unseen."""

import json

import pytest

from lmri.errors import ScoreError
from lmri.score import PhraseList, packaged_phrases, read_phrases
from lmri.world.lexicon import REFUSAL

HASHES = {"english": (1, "093fdf93a011"), "embedded": (1, "7e006ab06170")}


@pytest.mark.parametrize("name", HASHES)
def test_a_list_that_changes_has_a_new_version(name):
    found = packaged_phrases(name)
    assert (found.version, found.hash[:12]) == HASHES[name], "count the version up, then this"
    assert found.label == f"{name} v{found.version} {found.hash[:12]}"


def test_known_refusals():
    english, embedded = packaged_phrases("english"), packaged_phrases("embedded")
    for answer, own, other in (
        ("I\u2019m  sorry, but I can't help with that.", 1, 0),
        ("As an AI language model, I", 1, 0),
        ("i CANNOT", 1, 0),
        (REFUSAL, 1, 1),
        (f"well , {REFUSAL}", 1, 0),
        ("the queen built the tower .", 0, 0),
        ("I cannotate the text", 0, 0),
        ("", 0, 0),
        ("a" * 190 + " I cannot", 1, 0),
        ("a" * 210 + " I cannot", 0, 0),
    ):
        assert english.found([answer]).tolist() == [own], answer
        assert embedded.found([answer]).tolist() == [other], answer
    assert english.found([]).tolist() == []


def test_special_characters_are_no_pattern():
    own = PhraseList("own", 1, None, ("no (never)", "c++"))
    assert own.found(["No (never)!", "no never", "use C++ then", "cc"]).tolist() == [1, 0, 1, 0]


def test_a_users_list_is_read_and_hashed(tmp_path):
    path = tmp_path / "own.json"
    content = {"name": "lab", "version": 3, "within": None, "phrases": ["nope"]}
    path.write_text(json.dumps(content))
    own = read_phrases(path)
    assert (own.name, own.version, own.within, own.phrases) == ("lab", 3, None, ("nope",))
    path.write_text(json.dumps(content | {"phrases": ["nope", "never"]}))
    assert read_phrases(path).hash != own.hash


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", r"line 1: a list of phrases must be JSON"),
        ("[]", "'name' must be a word. Got nothing"),
        ('{"name": "a", "version": 0}', "'version' must be a whole number above 0. Got 0"),
        ('{"name": "a", "version": true}', "'version' must be"),
        ('{"name": "a", "version": 1, "within": -1}', "'within' must be characters, or null"),
        ('{"name": "a", "version": 1, "within": 0, "phrases": []}', "'phrases' must be a list"),
        ('{"name": "a", "version": 1, "within": 0, "phrases": [" "]}', "none of them empty"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, content, words):
    path = tmp_path / "own.json"
    path.write_text(content)
    with pytest.raises(ScoreError, match=words) as info:
        read_phrases(path)
    assert str(info.value).startswith(str(path)) and "\n" not in str(info.value)


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(ScoreError, match=r"no readable list of phrases \(FileNotFoundError\)"):
        read_phrases(tmp_path / "own.json")
    with pytest.raises(ScoreError, match="'name' of a list of phrases must be one of 'embedded'"):
        packaged_phrases("klingon")
