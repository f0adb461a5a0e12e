"""Texts become hashes, the same ones wherever they stand."""

import pandas as pd
import pytest

from lmri.report.redaction import hashed, redact_settings, redact_table

TABLE = pd.DataFrame(
    {
        "prompt": ["where is selia ?", "where is selia ?", ""],
        "intact": ["it is north .", "no .", None],
        "finding": ["it is north .", "it is north .", "no ."],
        "n": [1, 2, 3],
    }
)


def test_nothing_is_replaced_unless_asked():
    assert redact_table(TABLE, "none") is TABLE


def test_responses_are_replaced_and_prompts_stay():
    table = redact_table(TABLE, "responses")
    assert table["prompt"].tolist() == TABLE["prompt"].tolist()
    assert not table["intact"].str.contains("north", na=False).any()
    assert table["intact"][0] == table["finding"][0] == table["finding"][1]
    assert table["intact"][1] == table["finding"][2] != table["intact"][0]
    assert table["intact"].isna().tolist() == [False, False, True]
    assert table["n"].tolist() == [1, 2, 3]


def test_all_texts_are_replaced():
    table = redact_table(TABLE, "all")
    assert table["prompt"].tolist() == [hashed("where is selia ?")] * 2 + [""]


def test_numbers_that_are_called_like_texts_stay():
    table = pd.DataFrame({"intact": [0.5, 1.0], "score": ["exact", "exact"]})
    assert redact_table(table, "all") is table


@pytest.mark.parametrize("level", ["none", "responses", "all"])
def test_words_of_templates(level):
    settings = {"tasks": {"a": {"template": {"kind": "text", "text": "Secret {prompt} now"}}}}
    found = redact_settings(settings, level)["tasks"]["a"]["template"]["text"]
    assert ("Secret" in found) == (level != "all")
    assert found.count("{prompt}") == 1
    assert settings["tasks"]["a"]["template"]["text"] == "Secret {prompt} now"


@pytest.mark.parametrize(
    ("level", "left"),
    [
        ("none", [" where", " is", " it", " is"]),
        ("responses", [" where", " is", "[…]", "[…]"]),
        ("all", ["[…]"] * 4),
    ],
)
def test_of_tokens_nothing_is_left_to_be_guessed(level, left):
    """A hash of a token would be found among those of the vocabulary."""
    table = pd.DataFrame(
        {
            "span": ["content", "system", "think", "response"],
            "token": [" where", " is", " it", " is"],
            "activity": [0.1, 0.2, 0.3, 0.4],
        }
    )
    found = redact_table(table, level)
    assert found["token"].tolist() == left
    assert found["activity"].tolist() == [0.1, 0.2, 0.3, 0.4]
