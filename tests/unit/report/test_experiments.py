"""The page of experiments shows every claim of every subject, draws what is declared, escapes."""

from dataclasses import replace

import pandas as pd
import pytest
import yaml
from analysis_files import ESCAPED, write_experiment

from lmri.config import StudyConfig
from lmri.report.bundle.export import KEPT, UNITS
from lmri.report.experiments.page import experiments_leaf
from lmri.report.experiments.tables import read_experiments
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs, SubjectInputs
from lmri.report.leaves import leaf_links
from lmri.report.methods import describe_methods
from lmri.report.page import render_leaf
from lmri.report.reader import Reader
from lmri.report.references import references_of
from lmri.report.view import Figure, Fold, Table

SUBJECTS = ("localised", "distributed")


@pytest.fixture
def config(repository):
    values = yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))
    values["experiments"] = {"void_layers": {"tasks": ["events"]}}
    return StudyConfig.from_dict(values)


def inputs_of(study, config):
    reader = Reader(study)
    subjects = [
        SubjectInputs(name, *[pd.DataFrame()] * 3, card={}, manifest={}, scans={})
        for name in SUBJECTS
    ]
    found = read_experiments(reader, config)
    inputs = StudyInputs(config, subjects, pd.DataFrame(), experiments=found)
    return inputs, reader.problems


def test_every_claim_of_every_subject_is_shown(tmp_path, config):
    for subject in SUBJECTS:
        write_experiment(tmp_path, subject)
    inputs, problems = inputs_of(tmp_path, config)
    assert problems == []
    files = Files()
    leaf = experiments_leaf(inputs, "pages/experiments.html", files)
    (table,) = [block for block in leaf.blocks if isinstance(block, Table)]
    told = [(row[0].text, row[1].text, row[2].text) for row in table.rows]
    assert told == [
        ("It is", "localised", "holds"),
        ("It is", "distributed", "holds"),
        ("It may", "localised", "not testable"),
        ("It may", "distributed", "not testable"),
    ]
    assert table.rows[2][2].note == "nothing to try"
    assert leaf.answer == ("Of 4 claims about 2 subjects, 2 hold and 2 could not be tested.")
    figures = [block for block in leaf.blocks if isinstance(block, Figure)]
    assert [len(figure.panels) for figure in figures] == [2, 2, 2, 2]
    folds = [block for block in leaf.blocks if isinstance(block, Fold)]
    assert [fold.title for fold in folds] == ["Runs"]  # no caption, not shown
    assert len(folds[0].table.rows) == 8
    assert "pages/experiments.html" in [link.path for link in leaf_links(inputs)]


def test_nothing_is_taken_for_markup(tmp_path, config):
    for subject in SUBJECTS:
        write_experiment(tmp_path, subject)
    inputs, _ = inputs_of(tmp_path, config)
    html = render_leaf(experiments_leaf(inputs, "pages/experiments.html", Files()), [])
    assert ESCAPED not in html
    assert "&lt;script&gt;alert(1)" in html


def test_what_is_missing_or_damaged_becomes_a_problem(tmp_path, config):
    write_experiment(tmp_path, "localised", tables={"../../etc": "no"})
    inputs, problems = inputs_of(tmp_path, config)
    assert not inputs.experiments
    assert [(own.subject, own.path.rpartition("/")[2]) for own in problems] == [
        ("localised", "outcome.json"),
        ("distributed", "outcome.json"),
    ]
    assert "no table can be named" in problems[0].message
    write_experiment(tmp_path, "distributed")
    (tmp_path / "experiments/distributed/void_layers/runs.parquet").unlink()
    inputs, problems = inputs_of(tmp_path, config)
    leaf = experiments_leaf(inputs, "pages/experiments.html", Files())
    assert not [block for block in leaf.blocks if isinstance(block, Figure)]
    assert [own.path for own in problems if own.subject == "distributed"] == [
        "experiments/distributed/void_layers/runs.parquet"
    ]


def test_methods_and_references_are_of_the_experiments(tmp_path, config):
    write_experiment(tmp_path, "localised")
    inputs, _ = inputs_of(tmp_path, config)
    contrasts = {"x": replace(config.contrasts["refusal"], name="x", role="exploratory")}
    own = replace(inputs, config=replace(config, contrasts=contrasts), subjects=[])
    told = describe_methods(own)[-1]
    assert told.startswith("Experiments were run on every subject")
    assert "(a test)" in told
    assert "shemirani2025" in references_of(config)


def test_a_bundle_has_what_the_page_reads(tmp_path):
    write_experiment(tmp_path, "localised")
    kept = {path for pattern in KEPT for path in tmp_path.glob(pattern)}
    assert kept == {path for path in tmp_path.rglob("*") if path.is_file()}
    assert "experiments/" in UNITS


def test_a_study_without_experiments_has_no_page(repository, tmp_path):
    values = yaml.safe_load((repository / "config/config.yaml").read_text(encoding="utf-8"))
    inputs, problems = inputs_of(tmp_path, StudyConfig.from_dict(values))
    assert problems == []
    assert "pages/experiments.html" not in [link.path for link in leaf_links(inputs)]
