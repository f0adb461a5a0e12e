"""The stage writes what came of an experiment as a folder, or nothing."""

import json

import numpy as np
import pandas as pd
import pytest

from lmri.config import EXPERIMENTS as OPTIONS
from lmri.config import EvidenceOptions, ExperimentOptions
from lmri.errors import LmriError, StoreError
from lmri.experiment import EXPERIMENTS, Drawn, Experiment, Outcome, Statement, run_experiment
from lmri.store import read_table, write_table

FIGURE = Drawn("runs", "line", "x", "y", None, None, None, "Runs", "A line.")


def outcome(ground, options):
    claims = [
        Statement("it_is", "It is.", 0.5, 0.4, 0.6, 0.0, 0.01, 9, 3, "99 draws", "exact"),
        Statement.untested("it_may", "It may.", "nothing to try"),
    ]
    runs = pd.DataFrame({"x": [1.0, 2.0], "y": [len(ground.stimuli["events"]), np.nan]})
    return Outcome(claims, {"runs": runs}, {"runs": "All runs."}, [FIGURE], ["Read with care."])


@pytest.fixture
def run(tmp_path, tiny_model_folder, monkeypatch):
    """Run a made experiment."""
    write_table(tmp_path / "stimuli/events.parquet", pd.DataFrame({"trial": ["a", "b"]}))

    def start(how=outcome, name="made", **changes):
        monkeypatch.setitem(EXPERIMENTS, "made", Experiment("Made", "Is it?", "a test", how))
        values = {
            "subject": "tiny",
            "experiment": name,
            "model": tiny_model_folder,
            "stimuli": tmp_path / "stimuli",
            "recordings": tmp_path,
            "findings": tmp_path,
            "out": tmp_path / "out",
            "tasks": ["events"],
            "contrasts": [],
            "evidence": EvidenceOptions(),
            "options": ExperimentOptions(),
            "max_new_tokens": 3,
            "rows": 8,
            "bootstrap": 50,
            "seed": 0,
            "provenance": {"stage": "experiment"},
        }
        return run_experiment(**{**values, **changes})

    return start


def test_a_folder_has_all_that_came_of_it(run, tmp_path):
    found = run()
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        *("outcome.json", "runs.parquet", "statements.parquet"),
    ]
    statements = read_table(out / "statements.parquet")
    assert statements["outcome"].tolist() == found["outcome"].tolist() == ["holds", "not testable"]
    assert read_table(out / "runs.parquet")["y"].iloc[0] == 2
    assert json.loads(statements.attrs["provenance"]) == {"stage": "experiment"}
    about = json.loads((out / "outcome.json").read_text(encoding="utf-8"))
    assert (about["title"], about["tables"]) == ("Made", {"runs": "All runs."})
    assert about["figures"][0]["kind"] == "line"
    assert about["notes"] == ["Read with care."]


def test_an_experiment_that_ends_early_leaves_nothing(run, tmp_path):
    def fails(ground, options):
        raise LmriError("no.")

    with pytest.raises(LmriError, match=r"no\."):
        run(fails)
    assert [path.name for path in tmp_path.iterdir()] == ["stimuli"]


def test_what_is_not_there_is_named(run, tmp_path):
    with pytest.raises(LmriError, match="'experiment' of a job must be one of"):
        run(name="poems")
    with pytest.raises(StoreError, match=r"copying\.parquet: no such table"):
        run(tasks=["copying"])


def test_every_experiment_has_options_and_says_what_it_asks():
    assert list(EXPERIMENTS) == list(OPTIONS)
    for own in EXPERIMENTS.values():
        assert own.question.endswith("?")
        assert own.source
