"""Texts of a calibration come from the calibration split, of one subject."""

import numpy as np
import pandas as pd
import pytest

from lmri.errors import SparseError
from lmri.sparse.calibration import calibration_texts
from lmri.sparse.policies import head_scores
from lmri.store import Recording, RecordingWriter

SPANS = ["system", "content", "response"]
SPLITS = ["selection", "calibration", "evaluation", "calibration"]


@pytest.fixture
def record(tmp_path):
    """Write trials of given lengths; token ids count on."""

    def write(lengths=(5, 6, 7, 8), splits=SPLITS, subject="ab", name="0.zarr", scores=None):
        path = tmp_path / name
        path.mkdir()
        trial = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
        attributes = {
            "phases": [*SPANS, "prompt_last"],
            "spans": SPANS,
            "task": "events",
            "provenance": {"subject": subject},
        }
        with RecordingWriter(path, attributes) as writer:
            ids = np.arange(len(trial), dtype=np.int32)
            writer.append("tokens/index", "trial", trial, ("token",))
            writer.append("tokens/index", "token_id", ids, ("token",))
            if scores is not None:
                labels = {
                    "phase": attributes["phases"],
                    "statistic": ["mean", "sum", "count"],
                    "layer": [0, 1],
                }
                dims = ("trial", "phase", "statistic", "layer", "head")
                writer.append("pooled/attention", "induction", scores, dims, labels)
            table = {
                "trial": [f"t{i}" for i in range(len(lengths))],
                "n_prompt": [n - 2 for n in lengths],
                "n_response": 2,
            }
            if splits is not None:
                table["split"] = splits[: len(lengths)]
            writer.append_trials(pd.DataFrame(table))
        return Recording(path)

    return write


def test_prompts_and_responses_of_the_calibration_split_are_read(record):
    texts = calibration_texts([record()])
    assert texts.trials == ("events/t1", "events/t3") and texts.subject == "ab"
    assert [own.tolist() for own in texts.tokens] == [list(range(5, 11)), list(range(18, 26))]


def test_shards_follow_each_other(record):
    texts = calibration_texts([record(), record(name="1.zarr", splits=["calibration"] * 4)])
    assert len(texts.trials) == 6


def test_trials_are_taken_at_even_steps_up_to_the_tokens_wanted(record):
    lengths, splits = [10] * 100, ["calibration"] * 100
    texts = calibration_texts([record(lengths, splits)], most_tokens=200)
    numbers = [int(name.removeprefix("events/t")) for name in texts.trials]
    assert len(numbers) == 20 and np.diff(numbers).tolist() == [5] * 19


def test_the_tokens_wanted_are_never_passed(record):
    lengths = np.random.default_rng(0).integers(3, 40, 100).tolist()
    recording = record(lengths, ["calibration"] * 100)
    for most in (50, 333, 1000):
        texts = calibration_texts([recording], most_tokens=most)
        assert 0 < sum(map(len, texts.tokens)) <= most


def test_evaluation_trials_are_refused(record):
    with pytest.raises(SparseError, match=r"split 'calibration'.*'t2'.*'evaluation'"):
        calibration_texts([record()], ["t1", "t2"])
    assert calibration_texts([record(name="1.zarr")], ["t3"]).trials == ("events/t3",)


def test_a_trial_that_is_not_there_is_refused(record):
    with pytest.raises(SparseError, match=r"'trials'.*'t9'"):
        calibration_texts([record()], ["t1", "t9"])


def test_recordings_of_several_subjects_are_refused(record):
    with pytest.raises(SparseError, match="of one subject"):
        calibration_texts([record(), record(subject="cd", name="1.zarr")])


def test_recordings_of_another_subject_are_refused(record):
    recording = record()
    assert calibration_texts([recording], subject_hash="ab").subject == "ab"
    with pytest.raises(SparseError, match=r"the one that is calibrated \(cd\). Got those of ab"):
        calibration_texts([recording], subject_hash="cd")


def test_a_recording_without_a_calibration_split_is_refused(record):
    with pytest.raises(SparseError, match="trials of the split 'calibration'"):
        calibration_texts([record(splits=["evaluation"] * 4)])
    with pytest.raises(SparseError, match="must say the 'split'"):
        calibration_texts([record(splits=None, name="1.zarr")])


def test_scores_of_heads_are_means_over_the_tokens_of_the_calibration(record):
    rng = np.random.default_rng(0)
    values = rng.random((4, 4, 3, 2, 3)).astype(np.float32)
    values[:, :, 2] = rng.integers(1, 5, (4, 4))[:, :, None, None]  # counts
    scores = head_scores([record(scores=values)], "induction")
    own = values[[1, 3], :3].astype(np.float64)  # calibration; spans only
    expected = own[:, :, 1].sum((0, 1)) / own[:, :, 2].sum((0, 1))
    np.testing.assert_allclose(scores, expected)


def test_scores_of_heads_without_calibration_trials_are_refused(record):
    values = np.ones((4, 4, 3, 2, 3), dtype=np.float32)
    with pytest.raises(SparseError, match="'induction' of heads"):
        head_scores([record(scores=values, splits=["selection"] * 4)], "induction")
