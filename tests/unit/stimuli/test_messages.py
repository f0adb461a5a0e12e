"""Conversations: the same from every format, and each defect is one line with row and field."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmri.config import TaskOptions, TemplateOptions
from lmri.errors import StimuliError
from lmri.stimuli.tables import table_trials

TURNS = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "how is é ?"},
    {"role": "assistant", "content": "well"},
]
TEXT = json.dumps(TURNS)
EITHER = "row 2 must have either 'prompt' or 'messages'. It has "


def row(**columns):
    return {"condition": "a", "reference": "r", "entity": "e", **columns}


def read(path, kind="chat"):
    template = TemplateOptions(kind=kind)
    options = TaskOptions("mine", "table", path=str(path), carriers=("entity",), template=template)
    return table_trials("mine", options)


def lines(tmp_path, *rows):
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(json.dumps(values) for values in rows), encoding="utf-8")
    return path


def write_csv(path, rows):
    pd.DataFrame(rows).to_csv(path, index=False)


def write_tsv(path, rows):
    pd.DataFrame(rows).to_csv(path, index=False, sep="\t")


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    ("name", "write", "messages"),
    [
        ("t.csv", write_csv, TEXT),
        ("t.tsv", write_tsv, TEXT),
        ("t.parquet", write_parquet, TURNS),
        ("t.parquet", write_parquet, TEXT),
        ("t.jsonl", lambda path, rows: lines(path.parent, *rows), TURNS),
        ("t.jsonl", lambda path, rows: lines(path.parent, *rows), TEXT),
    ],
)
def test_every_format_gives_the_same_conversation(tmp_path, name, write, messages):
    rows = [row(messages=messages, prompt=None), row(messages=None, prompt="alone")]
    write(tmp_path / name, rows)
    table = read(tmp_path / name)
    assert json.loads(table["messages"][0]) == TURNS
    assert "é" in table["messages"][0]
    assert table["prompt"].tolist() == ["how is é ?", "alone"]
    assert table["content"].tolist() == ["how is é ?", "alone"]
    assert table["messages"][1] == ""


def test_the_content_is_a_part_of_the_last_user_message(tmp_path):
    path = lines(tmp_path, row(messages=TURNS, content="is é"))
    assert read(path)["content"].tolist() == ["is é"]
    path = lines(tmp_path, row(messages=TURNS, content="be kind"))
    with pytest.raises(StimuliError, match=r"must be a part of its last user message\. Got 'be k"):
        read(path)


def turns(*roles):
    return [{"role": role, "content": "said"} for role in roles]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "p", "messages": TURNS}, EITHER + "both."),
        ({"prompt": " ", "messages": ""}, EITHER + "neither."),
        ({"prompt": None, "messages": []}, EITHER + "neither."),
        (
            {"messages": turns("user", "tool")},
            "row 2: 'messages.1.role' must be one of 'assistant', 'system', 'user'. Got 'tool'.",
        ),
        (
            {"messages": [{"role": "user", "content": " "}]},
            "row 2: 'messages.0.content' must not be empty. Got ' '.",
        ),
        (
            {"messages": [{"role": "user", "content": 5}]},
            "row 2: 'messages.0.content' must be text. Got 5.",
        ),
        (
            {"messages": [{"role": "user"}]},
            "row 2: 'messages.0' must have 'role' and 'content' and nothing else. "
            "Got {'role': 'user'}.",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "name": "y"}]},
            "row 2: 'messages.0' must have 'role' and 'content' and nothing else. "
            "Got {'role': 'user', 'content': 'x', 'name': 'y'}.",
        ),
        (
            {"messages": ["x"]},
            "row 2: 'messages.0' must be a mapping with 'role' and 'content'. Got 'x'.",
        ),
        (
            {"messages": {"role": ["user"]}},
            "row 2: 'messages' must be a list of messages. Got {'role': ['user']}.",
        ),
        (
            {"messages": "user: x"},
            "row 2: 'messages' must be JSON, a list of messages with 'role' and 'content'. "
            "Got 'user: x'.",
        ),
        (
            {"messages": turns("user", "system", "user")},
            "row 2: 'messages.1.role' must not be 'system': only the first message may be.",
        ),
        (
            {"messages": turns("system", "assistant")},
            "row 2: 'messages' must have a message of the 'user'. Got 'assistant', 'system'.",
        ),
    ],
)
def test_a_conversation_that_cannot_be_used(tmp_path, columns, message):
    path = lines(tmp_path, row(messages=TURNS), row(**columns))
    with pytest.raises(StimuliError) as info:
        read(path)
    assert str(info.value) == f"{path}: {message}"


def test_a_conversation_needs_a_chat_template(tmp_path):
    path = lines(tmp_path, row(messages=TURNS))
    with pytest.raises(StimuliError) as info:
        read(path, kind="none")
    assert str(info.value) == (
        f"{path}: row 1: 'messages' need the chat template of the subject: set "
        "'tasks.mine.template.kind' to 'chat'."
    )


def test_a_missing_cell_of_a_prompt_is_named_where_there_are_no_messages(tmp_path):
    path = lines(tmp_path, row(prompt="x"), row())
    with pytest.raises(StimuliError, match=r"the column 'prompt' must not be empty\. Row 2 is\.$"):
        read(path)


def test_the_examples_hold_the_same_trials(repository):
    plain = read(repository / "config/stimuli/countries.csv", kind="none")
    chat = read(repository / "config/stimuli/countries_chat.jsonl")
    assert len(plain) == 24 and plain["trial"].is_unique
    same = plain.columns.drop("messages")
    pd.testing.assert_frame_equal(plain[same], chat[same])
    for row in chat.itertuples():
        said = json.loads(row.messages)
        assert [turn["role"] for turn in said] == ["system", "user"]
        assert said[1]["content"] == row.prompt and row.license == "CC0-1.0"
