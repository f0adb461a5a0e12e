"""The page of encoding: layers summed up by variance, use, reasons, and what is not there."""

import json

import numpy as np
import pandas as pd
import pytest
from analysis_files import encoded

from lmri.config import StudyConfig
from lmri.report.encoding.page import encoding_leaf
from lmri.report.encoding.tables import Encoding, layer_frame, read_encoding
from lmri.report.files import Files
from lmri.report.inputs import StudyInputs
from lmri.report.reader import Reader
from lmri.report.view import Fold, Table
from lmri.store import write_map, write_table, write_text_atomic

STUDY = {
    "study": "s",
    "subjects": {"one": {"source": "embedded", "state": "localised"}},
    "tasks": {"events": {"source": "world"}},
    "contrasts": {"c": {"task": "events", "target": ["sensitive"], "controls": ["benign"]}},
    "encode": {"tasks": ["events"], "kinds": ["head", "neuron"]},
}


@pytest.fixture
def config():
    return StudyConfig.from_dict(STUDY)


@pytest.fixture
def dataset():
    return encoded()


@pytest.fixture
def study(tmp_path, dataset):
    folder = tmp_path / "analyses/encode/one"
    folder.mkdir(parents=True)
    write_map(folder / "events.head.trials.zarr", dataset)
    reasons = {
        "events.neuron.trials.prompt_last": "'pooled/neuron/activation' was not recorded.",
        "events.trials.prompt_last.length": "no variance: 10 in all 80 rows",
    }
    write_text_atomic(folder / "left_out.json", json.dumps(reasons))
    row = {
        "subject": "one",
        "phase": "prompt_last",
        "layer": 2,
        "band": "condition",
        "role": "interest",
        "rank": 1,
        "explained": 0.9,
        "share": 0.93,
        "divergence": 0.03,
        "changed": 0.1,
        "random_mean": 0.06,
        "random_most": 0.13,
        "random_share": 0.93,
        "overlap": 0.97,
        "p": 0.65,
        "draws": 19,
        "n": 45,
    }
    write_table(folder / "events.use.parquet", pd.DataFrame([row]))
    return tmp_path


def test_layers_are_summed_up_by_variance(dataset):
    rows = layer_frame(Encoding({("events", "head", "trials"): {"one": dataset}}))
    first = rows[(rows["layer"] == 0) & (rows["band"] == "condition")].iloc[0]
    assert first["unique"] == pytest.approx((3 * 0.5 + 0.1) / 4)
    assert (first["units"], first["significant"], first["n"]) == (2, 1, 80)
    assert first["best"] == 0.5
    assert np.isnan(first["ceiling"])
    everything = rows[(rows["layer"] == 2) & (rows["band"] == "all")].iloc[0]
    assert everything["r2"] == pytest.approx(0.2)
    nuisance = rows[(rows["layer"] == 2) & (rows["band"] == "nuisance")].iloc[0]
    assert everything["alone"] == pytest.approx(0.2 - nuisance["r2"])
    assert np.isnan([everything["unique"], nuisance["unique"], nuisance["alone"]]).all()
    assert np.isnan(rows[rows["band"] == "embedding"]["significant"]).all()


def test_the_page_shows_bands_use_and_reasons(study, config):
    reader = Reader(study)
    encoding = read_encoding(reader, config)
    assert reader.problems == []  # what has a reason is no problem
    inputs = StudyInputs(config, [], pd.DataFrame(), encoding=encoding)
    files = Files()
    leaf = encoding_leaf(inputs, "pages/encoding.html", files)
    kinds = [block.kind for block in leaf.blocks]
    assert kinds == ["heading", "figure", "fold", "heading", "table", "heading", "table"]
    assert "condition (0.40 of the variance of layer 0" in leaf.answer
    use, left_out = (block for block in leaf.blocks if isinstance(block, Table))
    assert [cell.text for cell in use.rows[0]][-2:] == ["0.97", "0.10"]
    assert left_out.rows[1][0].text == "no variance: 10 in all 80 rows"
    fold = next(block for block in leaf.blocks if isinstance(block, Fold))
    assert len(fold.table.rows) == 2 * 4
    assert {row[10].text for row in fold.table.rows} == {"none"}


def test_what_is_missing_without_a_reason_is_a_problem(study, config):
    (study / "analyses/encode/one/left_out.json").write_text("{}")
    reader = Reader(study)
    read_encoding(reader, config)
    assert [own.path for own in reader.problems] == [
        "analyses/encode/one/events.neuron.trials.zarr"
    ]


def test_a_study_without_encoding_has_no_page(study):
    config = StudyConfig.from_dict({**STUDY, "encode": {}})
    assert not read_encoding(Reader(study), config)


def test_nothing_that_could_be_encoded_is_said(config):
    inputs = StudyInputs(
        config, [], pd.DataFrame(), encoding=Encoding(left_out={"one": {"a": "b"}})
    )
    leaf = encoding_leaf(inputs, "pages/encoding.html", Files())
    assert leaf.answer == "Nothing could be encoded."
    assert [block.kind for block in leaf.blocks] == ["heading", "table"]
