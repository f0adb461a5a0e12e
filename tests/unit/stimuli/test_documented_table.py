"""The table that the documentation shows can be read, and has the defaults it names."""

import re

import pytest

from lmri.config import TaskOptions
from lmri.stimuli.tables import NEEDED, table_trials


@pytest.fixture
def section(repository) -> str:
    page = (repository / "docs/artefacts.md").read_text(encoding="utf-8")
    return re.split(r"^##+ ", page.split("### Your own table")[1], maxsplit=1, flags=re.M)[0]


def test_the_example_is_a_table(section, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(re.search(r"```csv\n(.*?)```", section, re.S).group(1), encoding="utf-8")
    options = TaskOptions(name="mine", source="table", path=str(path), carriers=("place",))
    trials = table_trials("mine", options)
    assert trials["carrier_place"].tolist() == ["vorlund", "aldmoor", "kessin"]
    assert (trials["content"] == trials["prompt"]).all()
    assert (trials["fact"] == trials["reference"]).all()
    assert set(trials["family"]) == {"mine"}
    assert set(trials["class_place"]) == {"null"}
    assert set(trials["refusal"]) == {""}
    assert not trials["held_out"].any()


def test_every_column_that_is_read_is_described(section):
    rows = [row.split("|") for row in section.splitlines() if row.startswith("| ")]
    described = {row[1].strip(" `"): row[2].strip() for row in rows}
    assert all(described[name] == "yes" for name in NEEDED)
    optional = {"trial", "family", "content", "fact", "refusal", "held_out", "class_<carrier>"}
    assert all(described[name] != "yes" for name in optional)
