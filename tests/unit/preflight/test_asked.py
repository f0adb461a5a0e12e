"""What experiments and questions name is checked before anything is recorded."""

import pandas as pd
import pytest

from lmri.config import StudyConfig
from lmri.errors import ConfigError
from lmri.preflight.asked import check_asked

TABLES = {
    "words": pd.DataFrame(
        {
            "condition": ["a", "b", "c"],
            "carrier_word": ["x", "y", "z"],
            "class_word": ["even", "odd", "even"],
        }
    )
}
WORDS = {"task": "words"}


def study_of(**sections) -> StudyConfig:
    contrast = {"role": "exploratory", **WORDS, "target": ["a"], "controls": ["b"]}
    values = {
        "study": "mine",
        "subjects": {"mine": {"source": "embedded", "state": "localised"}},
        "tasks": {"words": {"source": "table", "path": "words.csv", "carriers": ["word"]}},
        "contrasts": {"animals": contrast},
        "record": {
            "quantities": ["router", "neuron", "attention"],
            "full": ["router", "attention"],
        },
    }
    return StudyConfig.from_dict(values | sections, "mine.yaml")


def check(**sections) -> None:
    check_asked(study_of(**sections), TABLES, "mine.yaml")


def reuse(units: int) -> dict:
    return {"circuit_reuse": {"behaviours": [WORDS, {**WORDS, "condition": "a"}], "units": units}}


def heads(count: int) -> dict:
    return {"retrieval_heads": {"needle": "words", "copying": "words", "heads": count}}


def asked(**question) -> dict:
    return {"questions": [{**WORDS, "scheme": "trials", **question}]}


def test_what_is_there_passes():
    check()
    relations = {"relations": {**WORDS, "within": "word"}}
    skills = {"skills": {"forget": [{**WORDS, "condition": "a"}], "retain": [WORDS]}}
    check(encode={"tasks": ["words"], "bands": ["class_word", "embedding"]})
    check(decode={"labels": [{"task": "words", "column": "class_word"}]})
    check(experiments={**relations, **skills, **reuse(95), **heads(11)})
    for target in ("class_word", "exact"):
        check(information=asked(target=target, carriers=["word"]))


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        (
            "experiments",
            {"relations": {**WORDS, "within": "nowhere"}},
            r"'experiments\.relations\.within' must be of the carriers of 'words', 'word'\. Got",
        ),
        (
            "experiments",
            {"skills": {"forget": [{**WORDS, "condition": "d"}], "retain": [WORDS]}},
            r"'experiments\.skills\.forget\.0\.condition' must be .* 'a', 'b', 'c'\. Got 'd'",
        ),
        (
            "experiments",
            reuse(96),
            r"'experiments\.circuit_reuse\.units' must be below .* Got 96, and 'mine' has 96",
        ),
        (
            "experiments",
            heads(12),
            r"'experiments\.retrieval_heads\.heads' must be below .* Got 12, and 'mine' has 12",
        ),
        (
            "information",
            asked(target="class_nowhere"),
            r"'information\.questions\.0\.target' must be .* 'class_word', 'condition'\. Got",
        ),
        (
            "encode",
            {"tasks": ["words"], "bands": ["condition", "nope"]},
            r"'encode\.bands\.1' must be .*'numbers'.* of the trials of 'words'\. Got 'nope'",
        ),
        (
            "decode",
            {"labels": [{"task": "words", "column": "nope"}]},
            r"'decode\.labels\.0\.column' must be .* 'class_word', 'condition'\. Got 'nope'",
        ),
        (
            "information",
            asked(carriers=["nowhere"]),
            r"'information\.questions\.0\.carriers' must be .* 'word'\. Got 'nowhere'",
        ),
    ],
)
def test_what_is_not_there_is_named(section, values, told):
    with pytest.raises(ConfigError, match=rf"^mine\.yaml: {told}") as info:
        check(**{section: values})
    assert "\n" not in str(info.value)


def test_relations_are_three_conditions_or_more():
    two = {"words": TABLES["words"].head(2)}
    study = study_of(experiments={"relations": {**WORDS, "within": "word"}})
    with pytest.raises(ConfigError, match=r"relations\.task' must be .*'words' with 2"):
        check_asked(study, two, "mine.yaml")


def test_what_the_hub_holds_is_not_fetched():
    hub = {"source": "hub", "id": "a/b", "revision": "0" * 40}
    check(subjects={"mine": hub}, experiments={**reuse(96), **heads(12)})


def test_what_is_packaged_does_not_follow_the_recipe_of_a_study():
    check(training={"experts": 0}, experiments=reuse(95))
