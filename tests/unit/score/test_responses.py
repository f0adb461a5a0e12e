"""Saved responses: what is written is read, and scored as it was."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmri.errors import LmriError, ScoreError
from lmri.score import (
    SAVED,
    SCORES,
    read_responses,
    rescored,
    scorers,
    write_responses,
    write_scores,
)
from lmri.score import responses as module


def test_a_file_has_every_arm_and_survives(saved_responses, tmp_path):
    path = tmp_path / "responses.parquet"
    assert write_responses(path, iter(saved_responses)) == 18
    (found,) = read_responses(path)
    assert set(SAVED) <= set(found)
    assert found.index.tolist() == list(range(18))
    assert found["arm"].tolist() == ["intact"] * 6 + ["finding"] * 6 + ["sham"] * 6
    whole = pd.concat(saved_responses, ignore_index=True)
    for name in set(whole) - {"tokens", "prompt_tokens"}:
        assert found[name].tolist() == whole[name].tolist(), name
    assert [list(row) for row in found["tokens"]] == whole["tokens"].tolist()
    assert [list(row) for row in found["prompt_tokens"]] == whole["prompt_tokens"].tolist()


def test_rows_are_numbered_through_the_blocks(saved_responses, tmp_path, monkeypatch):
    path = tmp_path / "responses.parquet"
    write_responses(path, saved_responses)
    monkeypatch.setattr(module, "ROWS", 4)
    blocks = list(read_responses(path))
    assert [len(block) for block in blocks] == [4, 4, 4, 4, 2]
    assert [row for block in blocks for row in block.index] == list(range(18))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_saved_responses_score_as_they_did(saved_responses, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(module, "ROWS", 4)
    path, out = tmp_path / "responses.parquet", tmp_path / f"scores{suffix}"
    write_responses(path, saved_responses)
    asked = scorers([*SCORES, "match_f1", "refusal_phrases_embedded"])
    assert write_scores(out, rescored(path, asked), asked) == 18
    found = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert "answer" not in found and "carrier_place" in found
    assert found.groupby("arm")["refusal_exact"].mean().to_dict() == {
        "finding": 0.5,
        "intact": 1.0,
        "sham": 0.0,
    }
    assert (found["refusal_phrases_embedded"] == found["refusal_exact"]).all()
    assert found["onset_margin"].tolist() == [0, 1, 2, 3, 4, 5] * 3
    wanted = (found["condition"] == "sensitive") == (found["refusal_exact"] == 1)
    assert (found["exact"] == wanted).all()
    if suffix == ".parquet":
        notes = pq.read_schema(out).metadata[b"lmri_scorers"]
        assert b"embedded v1" in notes


def test_a_column_that_is_empty_at_first_may_fill_later(saved_responses, tmp_path):
    first, second = (table.assign(entity=None) for table in saved_responses[:2])
    second["entity"] = "vorlund"
    path = tmp_path / "responses.parquet"
    write_responses(path, [first, second])
    (found,) = read_responses(path)
    assert found["entity"].isna().tolist() == [True] * 6 + [False] * 6
    assert set(found["entity"][6:]) == {"vorlund"}


def test_what_is_no_set_of_responses_is_refused(saved_responses, tmp_path):
    path = tmp_path / "responses.parquet"
    with pytest.raises(ScoreError, match=r"at least one arm\. Got none"):
        write_responses(path, [])
    with pytest.raises(ScoreError, match=r"same columns\. Arm 'finding' has others"):
        write_responses(path, [saved_responses[0], saved_responses[1].drop(columns="fact")])
    with pytest.raises(ScoreError, match=r"lacks the column\(s\) 'tokens'"):
        write_responses(path, [saved_responses[0].drop(columns="tokens")])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ScoreError, match="no such file of responses"):
        next(read_responses(path))
    path.write_text("no table")
    with pytest.raises(ScoreError, match="not a readable table of responses"):
        next(read_responses(path))
    pd.DataFrame({"trial": ["t"]}).to_parquet(path)
    with pytest.raises(ScoreError, match=r"lacks the column\(s\) 'answer', 'arm'"):
        next(read_responses(path))
    write_responses(path, saved_responses)
    with pytest.raises(LmriError, match=r"lacks the column\(s\) 'mood'"):
        next(read_responses(path, ["mood"]))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"lmri_responses": b"2"}), path)
    with pytest.raises(ScoreError, match=r"must be version 1\. Got b'2'"):
        next(read_responses(path))
    with pytest.raises(ScoreError, match=r"'suffix' of the scores .* must be one of '.csv'"):
        write_scores(tmp_path / "scores.txt", iter([]), {})
    with pytest.raises(ScoreError, match="must be responses to score"):
        write_scores(tmp_path / "scores.csv", iter([]), {})
    assert pa.string() == SAVED["plan"]
