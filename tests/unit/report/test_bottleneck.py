"""The page of small networks, from tables as the stage writes them."""

import re
from dataclasses import replace

import pandas as pd
import pytest
from analysis_files import bottleneck_tables

from lmri.config import load_study
from lmri.report.bottleneck.page import answer, bottleneck_leaf, claims_table
from lmri.report.bottleneck.tables import COLUMNS, SOURCE, Bottleneck, read_bottleneck
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.page import render_leaf
from lmri.report.reader import Reader
from lmri.store import write_table


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    return bottleneck_tables()


@pytest.fixture
def config(repository):
    return load_study(repository / "config/studies/information-bottleneck.yaml")


def page(config, bottleneck) -> str:
    inputs = StudyInputs(config, [], pd.DataFrame(), bottleneck=bottleneck)
    return render_leaf(bottleneck_leaf(inputs, "bottleneck.html", Files()), [])


def test_page_has_claims_figures_and_networks(config, tables):
    html = page(config, Bottleneck(**tables))
    assert "Of 2 claims, 1 holds here, 0 do not and 1 is not decided." in html
    assert html.count("<svg") == 3 + 3 + 3  # channels without and with L2, a plane per setting
    assert "Claim &lt;first&gt;." in html and "Claim <first>." not in html
    assert "17 of 20" in html
    assert "with L2 0.015" in html
    assert not re.search(r"\bnan\b", html)


def test_the_answer_agrees_with_its_counts(tables):
    claims = tables["claims"]
    assert answer(claims[claims["claim"] == "first"]) == (
        "Of 1 claim, 1 holds here, 0 do not and 0 are not decided."
    )
    assert answer(pd.concat([claims, claims])) == (
        "Of 4 claims, 2 hold here, 0 do not and 2 are not decided."
    )


def test_claims_show_each_channel_and_the_verdict_over_all(tables):
    first, second = claims_table(tables["claims"], "").rows
    assert [cell.text for cell in first[1:]] == ["holds", "0.40", "0.40", "0.40"]
    assert second[1].text == "not decided"
    assert "does not hold" in second[2].note and "holds" in second[3].note
    assert "holds above 0.05" in first[0].note


def test_what_could_not_be_measured_is_left_out(config, tables):
    only = {"claims": tables["claims"], "networks": tables["networks"]}
    html = page(config, Bottleneck(**only))
    assert "<svg" not in html and "17 of 20" in html
    assert answer(Bottleneck().claims) == ""
    assert claims_table(Bottleneck().claims, "") is None


def test_tables_are_read_where_the_study_has_networks(config, tables, tmp_path):
    for name, table in tables.items():
        write_table(tmp_path / SOURCE.format(name), table)
    reader = Reader(tmp_path)
    found = read_bottleneck(reader, config)
    assert {name: len(getattr(found, name)) for name in COLUMNS} == {
        name: len(table) for name, table in tables.items()
    }
    none = replace(config, bottleneck=replace(config.bottleneck, activations=()))
    assert read_bottleneck(reader, none).claims.empty
    assert not reader.problems


def test_a_missing_or_foreign_table_is_a_problem_of_the_report(config, tables, tmp_path):
    write_table(tmp_path / SOURCE.format("claims"), tables["networks"])
    reader = Reader(tmp_path)
    assert read_bottleneck(reader, config).claims.empty
    assert len(reader.problems) == len(COLUMNS)
    assert any("'verdict'" in problem.message for problem in reader.problems)
