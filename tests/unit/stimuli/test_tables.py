"""A user's table: read from four formats, and every defect is one line with file and field."""

import json

import pandas as pd
import pyarrow as pa
import pytest

from lmri.config import SplitOptions, TaskOptions, TemplateOptions, WorldOptions
from lmri.errors import StimuliError
from lmri.stimuli import COLUMNS, write_stimuli

WRITERS = {
    "csv": lambda table, path: table.to_csv(path, index=False),
    "tsv": lambda table, path: table.to_csv(path, sep="\t", index=False),
    "jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
    "parquet": lambda table, path: table.to_parquet(path, index=False),
}

PLAIN = json.dumps(TemplateOptions().to_dict(), sort_keys=True)


def save_dataset(table, path, shards=2):
    """Write a folder as save_to_disk of the datasets library does."""
    path.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    size = -(-len(table) // shards) or 1
    for i, name in enumerate(names):
        part = pa.Table.from_pandas(table[i * size : (i + 1) * size], preserve_index=False)
        with pa.OSFile(str(path / name), "wb") as sink, pa.ipc.new_stream(sink, part.schema) as out:
            out.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (path / "state.json").write_text(json.dumps(state))
    (path / "dataset_info.json").write_text("{}")


WRITERS["dataset"] = save_dataset


def rows(entities=12):
    """Two conditions for each of some entities."""
    return pd.DataFrame(
        [
            {
                "condition": condition,
                "prompt": f"say , {condition} : {entity}",
                "reference": f"é {entity}",
                "entity": f"e{entity}",
                "note": "kept by nobody",
            }
            for entity in range(entities)
            for condition in ("a", "b")
        ]
    )


def run(path, out, kind="none"):
    return write_stimuli(
        out=out / "mine.parquet",
        task="mine",
        options=TaskOptions(
            name="mine",
            source="table",
            path=str(path),
            carriers=("entity",),
            template=TemplateOptions(kind=kind),
        ),
        splits=SplitOptions(),
        world=WorldOptions(),
        seed=0,
        provenance={},
    )


def refused(path, message, kind="none"):
    with pytest.raises(StimuliError, match=message) as info:
        run(path, path.parent, kind)
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)
    assert not (path.parent / "mine.parquet").exists()


def saved(tmp_path, table, suffix="csv"):
    path = tmp_path / f"table.{suffix}"
    WRITERS[suffix](table, path)
    return path


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_trials(tmp_path, suffix):
    table = run(saved(tmp_path, rows(), suffix), tmp_path)
    assert list(table) == [*COLUMNS, "carrier_entity", "class_entity"]
    assert len(table) == 24
    assert table["trial"].tolist() == [f"mine:{i}" for i in range(24)]
    first = table.iloc[0].to_dict()
    assert first.pop("split") in {"selection", "calibration", "evaluation"}
    assert first == {
        "trial": "mine:0",
        "task": "mine",
        "condition": "a",
        "family": "mine",
        "held_out": False,
        "prompt": "say , a : 0",
        "content": "say , a : 0",
        "messages": "",
        "template": PLAIN,
        "reference": "é 0",
        "fact": "é 0",
        "refusal": "",
        "entity": "e0",
        "pair": "",
        "license": "",
        "carrier_entity": "e0",
        "class_entity": "null",
    }


@pytest.mark.parametrize("suffix", WRITERS)
def test_optional_columns_are_kept(tmp_path, suffix):
    table = rows().assign(
        trial=[f"t{i}" for i in range(24)],
        family="asked",
        content=lambda table: table["condition"],
        fact="true",
        refusal="no",
        held_out=[True, False] * 12,
        pair=[f"p{i // 2}" for i in range(24)],
        license="CC0",
        class_entity=["sensitive"] * 12 + ["null"] * 12,
    )
    got = run(saved(tmp_path, table, suffix), tmp_path)
    for name in table.columns.difference(["note"]):
        assert got[name].tolist() == table[name].tolist(), name


def test_numbers_are_text(tmp_path):
    table = rows().assign(condition=[1, 2] * 12, entity=[i // 2 for i in range(24)])
    for suffix in WRITERS:
        got = run(saved(tmp_path, table, suffix), tmp_path)
        assert got["condition"].unique().tolist() == ["1", "2"]
        assert got["carrier_entity"][:3].tolist() == ["0", "0", "1"]


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("column", ["condition", "prompt", "reference", "entity"])
def test_a_missing_column_is_named(tmp_path, suffix, column):
    path = saved(tmp_path, rows().drop(columns=column), suffix)
    refused(path, rf"table\.{suffix} lacks the column\(s\) '{column}'\. It has ")


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("value", ["", "  ", None])
def test_an_empty_condition_is_named_with_its_row(tmp_path, suffix, value):
    table = rows()
    table.loc[4, "condition"] = value
    message = r"the column 'condition' must not be empty\. Row 5 is\."
    refused(saved(tmp_path, table, suffix), message)


@pytest.mark.parametrize("column", ["prompt", "reference", "entity"])
def test_other_needed_cells_may_not_be_empty_either(tmp_path, column):
    table = rows()
    table.loc[0, column] = ""
    refused(saved(tmp_path, table), rf"the column '{column}' must not be empty\. Row 1 is\.")


def test_a_row_without_a_key_is_an_empty_cell(tmp_path):
    lines = [json.dumps(row) for row in rows().to_dict("records")]
    lines[2] = json.dumps({"condition": "a", "prompt": "x", "entity": "e"})
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    refused(tmp_path / "table.jsonl", r"'reference' must not be empty\. Row 3 is")


def test_a_trial_named_twice_is_named(tmp_path):
    table = rows().assign(trial=[f"t{i % 20}" for i in range(24)])
    message = r"every 'trial' must be named once\. Got 't0' twice, in rows 1 and 21\.$"
    refused(saved(tmp_path, table), message)


@pytest.mark.parametrize("content", ["elsewhere", "", " ", "SAY"])
def test_content_must_be_a_part_of_its_prompt(tmp_path, content):
    table = rows().assign(content="say")
    table.loc[3, "content"] = content
    message = rf"the 'content' of trial 'mine:3' must be a part of its prompt\. Got '{content}'"
    refused(saved(tmp_path, table), message)


def test_held_out_is_true_or_false(tmp_path):
    table = rows().assign(held_out="maybe")
    refused(saved(tmp_path, table), r"row 1: 'held_out' must be true or false\. Got 'maybe'\.$")


def test_a_carrier_has_one_class(tmp_path):
    table = rows().assign(class_entity=["sensitive", "null"] * 12)
    refused(saved(tmp_path, table), r"'class_entity' of 'e0' must be the same in all its trials")


@pytest.mark.parametrize("name", ["table.xlsx", "table", "table.CSV"])
def test_an_unknown_suffix_is_named_with_those_known(tmp_path, name):
    path = tmp_path / name
    path.write_text("condition,prompt\n")
    refused(path, r"must end in '\.csv', '\.jsonl', '\.parquet', '\.tsv'")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_missing_file_is_named(tmp_path, suffix):
    refused(tmp_path / f"table.{suffix}", "no such stimuli table")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_file_of_another_format_is_named(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    path.write_text("condition,prompt,reference,entity\na,b,c,d\n")
    refused(path, rf"not readable as \.{suffix} \(")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x81"])
def test_a_csv_that_is_no_text_is_named(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    refused(path, r"not readable as \.csv \(")


def test_a_table_without_rows_is_named(tmp_path):
    refused(saved(tmp_path, rows(entities=1)[:0]), "must have at least one row")


def test_a_csv_with_more_fields_than_names_never_shifts_its_columns(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("condition,prompt,reference,entity\n" + "a,what, then,b,c,d\n" * 2)
    refused(path, "must not have more fields than the header")


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    lines = [["condition", "prompt", "reference", "entity", "entity"], ["a", "what", "x", "b", "c"]]
    separator = "\t" if suffix == "tsv" else ","
    path.write_text("".join(f"{separator.join(line)}\n" for line in lines))
    refused(path, "the column 'entity' must be there once")


def test_too_few_entities_for_the_splits_are_refused(tmp_path):
    path = saved(tmp_path, rows(entities=2))
    message = "'mine' has no trial of condition 'a' in the split 'calibration'"
    with pytest.raises(StimuliError, match=message):
        run(path, tmp_path)


def test_splits_keep_entities_together(tmp_path):
    table = run(saved(tmp_path, rows()), tmp_path)
    assert (table.groupby("carrier_entity")["split"].nunique() == 1).all()
    assert table["split"].value_counts().to_dict() == {
        "evaluation": 12,
        "selection": 8,
        "calibration": 4,
    }
