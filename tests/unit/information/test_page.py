"""The page about information: its code runs, its tables name what there is."""

import re

import pytest

from lmri.information.estimate import FLAGS


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs/information.md").read_text(encoding="utf-8")


def test_first_example(page):
    block = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)[0]
    names = {}
    exec(block, names)
    assert names["value"] == pytest.approx(0.451, abs=0.0005)
    assert names["estimate"].flags == ()
    assert names["estimate"].null.draws == 200


def test_flags_of_the_table(page):
    section = page.split("## Flags")[1].split("##")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.M)) == FLAGS


def test_estimators_of_the_table(page):
    section = page.split("## Which estimator")[1].split("```")[0]
    for row in re.findall(r"^\| (`.*)\|$", section, re.M):
        cells = row.split(" | ")
        found = {}
        for module in re.findall(r"`(\w+)`", cells[-1]):
            exec(f"from lmri.information.{module} import *", found)
        assert set(re.findall(r"`(\w+)`", cells[0])) <= set(found)
