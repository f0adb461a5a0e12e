"""Responses of a re-run are kept, and give the scores of the re-run again."""

import numpy as np
import pandas as pd
import pytest

from lmri.config import ValidateOptions
from lmri.score import read_responses
from lmri.store import write_table
from lmri.validate.rerun import Rerun
from lmri.validate.responses import SavedResponses

OPTIONS = ValidateOptions(bootstrap=50, rows=256, control_bystander_trials=8)


@pytest.fixture(scope="module")
def stimuli(planted_trials, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stimuli")
    write_table(folder / "events.parquet", planted_trials)
    return folder


def saved_run(subject, finding, stimuli, folder):
    with SavedResponses(folder, 3) as saved:
        again = Rerun(subject, finding, stimuli, OPTIONS, 3, saved=saved)
        arms, _, _ = again.confirm()
    return arms


def test_the_responses_have_the_scores_of_the_arms(
    planted_subject, make_finding, stimuli, tmp_path
):
    finding = make_finding("neuron", [[1, 7]], [[[1, 10 + draw]] for draw in range(5)])
    arms = saved_run(planted_subject, finding, stimuli, tmp_path / "responses")
    (path,) = (tmp_path / "responses").iterdir()
    assert path.name == f"{finding['contrast']}.events.parquet"
    table = pd.concat(read_responses(path), ignore_index=True)
    assert set(table["seed"]) == {3}
    target = table[table["trial_role"] == "target"]
    for name in ("intact", "finding"):
        own = target[target["arm"] == name]
        row = arms[(arms["arm"] == name) & (arms["trial_role"] == "target")]
        row = row[(row["score"] == "refusal_onset") & (row["held_out"] == "all")].iloc[0]
        assert len(own) == row["n"]
        assert np.mean(own["refusal_onset"]) == pytest.approx(row["value"])
    # What was run within another context has no plan that says so, and is not there.
    assert set(table["arm"]) <= {"intact", "finding"}


def test_nothing_is_left_of_a_run_that_fails(tmp_path):
    with pytest.raises(RuntimeError), SavedResponses(tmp_path / "responses", 0) as saved:
        saved._writer("refusal.events")
        raise RuntimeError
    assert list((tmp_path / "responses").iterdir()) == []


def test_a_run_without_responses_leaves_an_empty_folder(tmp_path):
    with SavedResponses(tmp_path / "responses", 0):
        pass
    assert list((tmp_path / "responses").iterdir()) == []
