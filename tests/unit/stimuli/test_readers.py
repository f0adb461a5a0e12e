"""Readers: folders of a saved data set, and files that are not what they say."""

import json

import pyarrow as pa
import pytest

from lmri.errors import StimuliError
from lmri.stimuli.readers import read_rows


def write_arrow(path, values, writer=pa.ipc.new_stream):
    table = pa.table({"prompt": values})
    with pa.OSFile(str(path), "wb") as sink, writer(sink, table.schema) as out:
        out.write_table(table)


@pytest.fixture
def saved(tmp_path):
    """Write a folder like save_to_disk, with a state that may say anything."""

    def write(folder="data", **state):
        path = tmp_path / folder
        path.mkdir(parents=True)
        write_arrow(path / "0.arrow", ["a", "b"])
        write_arrow(path / "1.arrow", ["c"], pa.ipc.new_file)
        files = [{"filename": "0.arrow"}, {"filename": "1.arrow"}]
        (path / "state.json").write_text(json.dumps({"_data_files": files, **state}))
        return path

    return write


def refused(path, message):
    with pytest.raises(StimuliError, match=message) as info:
        read_rows(path)
    assert str(info.value).startswith(str(path)) and "\n" not in str(info.value)


def test_files_are_read_in_the_order_of_the_state(saved):
    assert [row["prompt"] for row in read_rows(saved())] == ["a", "b", "c"]
    turned = saved("turned", _data_files=[{"filename": "1.arrow"}, {"filename": "0.arrow"}])
    assert [row["prompt"] for row in read_rows(turned)] == ["c", "a", "b"]


def test_a_split_is_named_by_its_folder(saved, tmp_path):
    train = saved("all/train")
    (tmp_path / "all/dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    assert len(read_rows(train)) == 3
    refused(tmp_path / "all", r"named by one of them: add one of 'test', 'train' to the path")


def test_a_folder_that_is_no_data_set(tmp_path):
    refused(tmp_path, r"must be a data set written by save_to_disk\. It has no state\.json\.$")


def test_files_outside_the_folder_are_not_read(saved, tmp_path):
    write_arrow(tmp_path / "secret.arrow", ["s"])
    path = saved(_data_files=[{"filename": "../secret.arrow"}])
    refused(path, r"state\.json must list files of its folder\. Got '\.\./secret\.arrow'\.$")


def test_rows_behind_indices_are_refused(saved):
    refused(
        saved(_indices_data_files=[{"filename": "i.arrow"}]), r"Call flatten_indices\(\) before"
    )


@pytest.mark.parametrize("content", ["not json", "{}", "[]"])
def test_a_damaged_state(saved, content):
    path = saved()
    (path / "state.json").write_text(content)
    refused(path, r"not readable as a saved data set \(")


def test_a_truncated_or_missing_arrow_file(saved):
    path = saved()
    (path / "1.arrow").write_bytes((path / "1.arrow").read_bytes()[:40])
    refused(path, r"not readable as a saved data set \(")
    (path / "1.arrow").unlink()
    refused(path, r"not readable as a saved data set \(.*1\.arrow")


def test_an_empty_data_set(saved):
    refused(saved(_data_files=[]), "must have at least one row")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n[1]', "line 2: a row must be an object"),
        ('{"a": 1}\n\n{"a"', r"line 3: Expecting"),
    ],
)
def test_lines_that_are_no_rows_are_numbered(tmp_path, text, message):
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    refused(path, rf"not readable as \.jsonl \({message}")
