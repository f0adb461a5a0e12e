"""Sheets for labels by hand: blind, safe to open, and put together again."""

import csv

import numpy as np
import pandas as pd
import pytest

from lmri.errors import ScoreError
from lmri.score import read_labels, write_sheet
from lmri.score.sheets import guarded


@pytest.fixture
def responses(saved_responses):
    """The responses of all arms, numbered through."""
    return pd.concat(saved_responses, ignore_index=True)


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "sheet.csv", tmp_path / "key.csv"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fill(path, labels):
    """Label rows of a sheet, by a function of a row."""
    found = rows(path)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(row | {"label": labels(row)} for row in found)


def test_a_sheet_tells_neither_condition_nor_arm(responses, paths):
    assert write_sheet(*paths, [responses[:9], responses[9:]], seed=1) == 18
    sheet, key = (rows(path) for path in paths)
    assert list(sheet[0]) == ["id", "answer", "label"]
    text = paths[0].read_text()
    for word in ("intact", "finding", "sham", "sensitive", "benign", "t0", "p0"):
        assert word not in text
    assert [row["row"] for row in key] == [str(n) for n in range(18)]
    order = {row["id"]: int(row["row"]) for row in key}
    shuffled = [order[row["id"]] for row in sheet]
    assert sorted(shuffled) == list(range(18)) and shuffled != sorted(shuffled)
    assert sorted(order) != [row["id"] for row in key], "names are not in the order of the rows"
    for row in sheet:
        assert row["answer"] == responses["answer"][order[row["id"]]]


def test_the_seed_decides_everything(responses, paths, tmp_path):
    write_sheet(*paths, [responses], seed=1)
    first = [path.read_bytes() for path in paths]
    write_sheet(*paths, [responses], seed=1)
    assert [path.read_bytes() for path in paths] == first
    write_sheet(*paths, [responses], seed=2)
    assert paths[0].read_bytes() != first[0]


def test_some_of_each_arm_and_condition_are_drawn(responses, paths):
    assert write_sheet(*paths, [responses], seed=1, per_arm=2) == 12
    key = pd.read_csv(paths[1])
    assert (key.groupby(["arm", "condition"]).size() == 2).all()
    own = key[key["arm"] == "sham"]["trial"].tolist()
    write_sheet(*paths, [responses[responses["arm"] == "sham"]], seed=1, per_arm=2)
    assert pd.read_csv(paths[1])["trial"].tolist() == own, "the same without the other arms"


def test_labels_come_back_whatever_the_order(responses, paths):
    write_sheet(*paths, [responses], seed=1)
    words = {True: "Yes", False: " 0 "}
    fill(paths[0], lambda row: words[row["answer"].startswith("I cannot")])
    lines = paths[0].read_text().splitlines()
    paths[0].write_text("\n".join([lines[0], *reversed(lines[1:])]))
    found = read_labels(*paths)
    assert found.groupby("arm")["label"].mean().to_dict() == {
        "finding": 0.5,
        "intact": 1,
        "sham": 0,
    }
    assert found.index.tolist() == list(range(18))
    fill(paths[0], lambda row: "1" if row["answer"].startswith("I") else "")
    assert len(read_labels(*paths)) == 9


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula(responses, paths, start):
    text = f'{start}HYPERLINK("http://x","y")'
    assert guarded(text) == f"'{text}"
    responses.loc[3, "answer"] = text
    responses.loc[3, "trial"] = "=1+1"
    write_sheet(*paths, [responses.assign(prompt="@SUM(A1)")], seed=1, with_prompts=True)
    cells = [cell for path in paths for row in rows(path) for cell in row.values()]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in cells)
    assert any(cell == f"'{text}" for cell in cells) or start in "\r\n"
    fill(paths[0], lambda row: "1")
    assert len(read_labels(*paths)) == 18
    assert guarded(3) == "3" and guarded("a=b") == "a=b" and guarded(np.int64(-3)) == "'-3"


def test_what_is_no_sheet_is_refused(responses, paths, tmp_path):
    sheet, key = paths
    with pytest.raises(ScoreError, match="must be two files"):
        write_sheet(sheet, sheet, [responses], seed=1)
    with pytest.raises(ScoreError, match="at least one response"):
        write_sheet(sheet, key, [responses[:0]], seed=1)
    write_sheet(sheet, key, [responses], seed=1)
    with pytest.raises(ScoreError, match=r"at least one label\. Got none"):
        read_labels(sheet, key)
    fill(sheet, lambda row: "maybe")
    with pytest.raises(
        ScoreError, match=r"line 2: 'label' must be 1 or 0, yes or no, or empty\. Got"
    ):
        read_labels(sheet, key)
    fill(sheet, lambda row: "1")
    text = sheet.read_text()
    sheet.write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(ScoreError, match=r"line 20: the row 'r.*' is there twice"):
        read_labels(sheet, key)
    sheet.write_text(text.replace(rows(sheet)[0]["id"], "r00"))
    with pytest.raises(ScoreError, match=r"line 2: the row 'r00' is not in .*key\.csv"):
        read_labels(sheet, key)
    key.write_text("id,arm\n")
    with pytest.raises(ScoreError, match=r"key\.csv lacks the column"):
        read_labels(sheet, key)
    with pytest.raises(ScoreError, match=r"no readable CSV file \(FileNotFoundError\)"):
        read_labels(tmp_path / "none.csv", key)
    key.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScoreError, match="no readable CSV file"):
        read_labels(sheet, key)
