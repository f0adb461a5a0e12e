"""Tables round trip and say what is missing."""

import pandas as pd
import pytest

from lmri.errors import StoreError
from lmri.store import read_table, write_table


@pytest.fixture
def path(tmp_path):
    """A table on disk."""
    path = tmp_path / "deep" / "events.parquet"
    write_table(path, pd.DataFrame({"trial": ["a", "é"], "n": [1, 2]}, index=[7, 9]))
    return path


def test_a_table_reads_back_without_its_index(path):
    table = read_table(path, ("trial",))
    assert table.to_dict("list") == {"trial": ["a", "é"], "n": [1, 2]}
    assert list(table.index) == [0, 1]


def test_missing_columns_are_named_with_those_present(path):
    with pytest.raises(StoreError, match=r"events\.parquet lacks .*'prompt', 'split'.* 'n', 'tri"):
        read_table(path, ("trial", "split", "prompt"))


@pytest.mark.parametrize("kept", [0, 3, -40])
def test_a_truncated_table_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match=r"events\.parquet: not a readable parquet table") as info:
        read_table(path)
    assert "\n" not in str(info.value)


def test_a_missing_table_asks_for_the_job(tmp_path):
    with pytest.raises(StoreError, match=r"no such table\. Was the job"):
        read_table(tmp_path / "none.parquet")
