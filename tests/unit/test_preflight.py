"""Checks before a run: mistakes are told before any job, and a good study passes."""

import copy
import csv

import pytest
import yaml

from lmri.config import StudyConfig
from lmri.errors import LmriError
from lmri.preflight import check_inputs


@pytest.fixture
def small(repository) -> dict:
    return yaml.safe_load((repository / "config/studies/small.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def table(tmp_path):
    """Write a table of stimuli: per condition a number of words, two trials each."""

    def write(drop=(), **words: int) -> str:
        rows = [
            {
                "trial": f"{condition}{word}{i}",
                "condition": condition,
                "prompt": f"say {condition}{word} {i}",
                "reference": f"{condition}{word}",
                "word": f"{condition}{word}",
            }
            for condition, count in words.items()
            for word in range(count)
            for i in range(2)
        ]
        path = tmp_path / "words.csv"
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(
                stream, [name for name in rows[0] if name not in drop], extrasaction="ignore"
            )
            writer.writeheader()
            writer.writerows(rows)
        return str(path)

    return write


def study_of(path: str, **contrast) -> dict:
    return {
        "study": "mine",
        "subjects": {"localised": {"source": "embedded", "state": "localised"}},
        "tasks": {"words": {"source": "table", "path": path, "carriers": ["word"]}},
        "contrasts": {
            "animals": {
                "role": "exploratory",
                "task": "words",
                "target": ["animal"],
                "controls": ["plant"],
                **contrast,
            }
        },
    }


def check(study: dict) -> None:
    check_inputs(StudyConfig.from_dict(study, "mine.yaml"), "mine.yaml")


def refused(study: dict, message: str) -> None:
    with pytest.raises(LmriError, match=message) as info:
        check(study)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("name", ["config.yaml", "studies/small.yaml", "studies/subjects.yaml"])
def test_the_studies_of_the_repository_pass(repository, name):
    check(yaml.safe_load((repository / "config" / name).read_text(encoding="utf-8")))


def test_a_good_table_passes(table):
    check(study_of(table(animal=30, plant=30)))


def test_a_table_without_a_needed_column(table):
    refused(study_of(table(drop=("reference",), animal=30, plant=30)), r"words\.csv.*'reference'")


@pytest.mark.parametrize("place", ["target", "controls"])
def test_an_unknown_condition_of_a_table(table, place):
    study = study_of(table(animal=30, plant=30), **{place: ["stone"]})
    refused(study, r"mine\.yaml: .*condition.*'animal'.*'plant'.*'stone'")


def test_too_few_carriers_for_the_level_of_the_test(table):
    study = study_of(table(animal=6, plant=6))
    study["splits"] = {"selection": 0.34, "calibration": 0.33, "evaluation": 0.33}
    refused(study, r"mine\.yaml: 'contrasts\.animals'.*allow 4 relabellings.*at least 20")


def test_a_condition_with_too_few_carriers_for_the_splits(table):
    refused(study_of(table(animal=1, plant=30)), "condition 'animal'.*too few carriers")


def test_a_hypothesis_with_too_few_evaluation_trials(small):
    study = copy.deepcopy(small)
    study["evidence"]["minimum_trials"] = 5000
    refused(
        study,
        r"mine\.yaml: 'contrasts\.refusal' cannot be tested: too few evaluation trials of events, "
        r"near_miss_place: \d+, needed are 5000",
    )


def test_a_subject_with_pickled_weights(small, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    study = copy.deepcopy(small)
    study["subjects"] = {"mine": {"source": "directory", "path": str(tmp_path)}}
    refused(study, r"weights must be in safetensors\. Got pickled weights \(pytorch_model\.bin\)")


@pytest.fixture
def own(table, tiny_model_folder) -> dict:
    """A study of a model in a folder, which knows the words of the small world."""
    study = study_of(table(animal=60, plant=60))
    study["subjects"] = {"mine": {"source": "directory", "path": str(tiny_model_folder)}}
    return study


def test_a_trial_that_a_subject_cannot_read(own):
    refused(own, r"^subject 'mine', task 'words': trial 'animal\S+': .* cannot read 'say animal")


def test_a_chat_without_a_chat_template(own):
    own["tasks"]["words"]["template"] = {"kind": "chat"}
    refused(own, r"^subject 'mine', task 'words': .*tokenizer with a chat template")
