"""Phases are checked before anything is recorded."""

import pandas as pd
import pytest

from lmri.config import StudyConfig
from lmri.errors import ConfigError
from lmri.preflight.phases import check_phases


def study_of(subject: dict, **sections) -> StudyConfig:
    contrast = {"role": "exploratory", "task": "words", "target": ["a"], "controls": ["b"]}
    values = {
        "study": "mine",
        "subjects": {"mine": subject},
        "tasks": {
            name: {"source": "table", "path": f"{name}.csv", "carriers": ["word"]}
            for name in ("words", "others")
        },
        "contrasts": {"animals": contrast},
    }
    return StudyConfig.from_dict(values | sections, "mine.yaml")


def tables(words: str, others: str = "") -> dict[str, pd.DataFrame]:
    return {
        name: pd.DataFrame({"prompt": ["one two"], "template": [template]})
        for name, template in (("words", words), ("others", others))
    }


@pytest.fixture
def chat(chat_tokenizer, tmp_path) -> dict:
    chat_tokenizer("chatml").save_pretrained(tmp_path)
    return {"source": "directory", "path": str(tmp_path)}


EMBEDDED = {"source": "embedded", "state": "localised"}
CHAT = '{"kind": "chat"}'


def test_plain_prompts_have_no_phases_of_a_template():
    check_phases(study_of(EMBEDDED), tables(""), "mine.yaml")
    study = study_of(EMBEDDED, localise={"phases": ["post_instruction_0"]})
    told = (
        r"^mine\.yaml: 'localise\.phases' must be phases that subject 'mine' on task 'words' has, "
        r"of .*'prompt_last'.* Got 'post_instruction_0'\.$"
    )
    with pytest.raises(ConfigError, match=told):
        check_phases(study, tables("", others=CHAT), "mine.yaml")


def test_a_chat_template_has_as_many_as_it_writes_tokens(chat):
    last = study_of(chat, localise={"phases": ["post_instruction_0"]})
    check_phases(last, tables(CHAT), "mine.yaml")
    beyond = study_of(chat, localise={"phases": ["post_instruction_7"]})
    with pytest.raises(ConfigError, match="Got 'post_instruction_7'"):
        check_phases(beyond, tables(CHAT), "mine.yaml")


def test_templates_that_are_not_at_hand_are_not_judged():
    hub = {"source": "hub", "id": "a/b", "revision": "0" * 40}
    study = study_of(hub, localise={"phases": ["post_instruction_7"]})
    check_phases(study, tables(CHAT), "mine.yaml")


def test_phases_of_other_analyses_are_there_on_some_task_of_theirs(chat):
    own = {"kinds": ["layer"], "phases": ["post_instruction_0"], "tasks": ["words", "others"]}
    check_phases(study_of(chat, connect=own), tables("", others=CHAT), "mine.yaml")
    typo = study_of(chat, connect={**own, "phases": ["zz"]})
    with pytest.raises(ConfigError, match=r"'connect\.phases' must be .*'zz'"):
        check_phases(typo, tables("", others=CHAT), "mine.yaml")


def test_phases_that_relations_are_ranked_by_are_there():
    record = {"quantities": ["router", "neuron"]}
    typo = {"relations": {"task": "words", "phases": ["content", "foo"]}}
    study = study_of(EMBEDDED, record=record, experiments=typo)
    told = r"'experiments\.relations\.phases' must be phases that subject 'mine' has, .*'foo'"
    with pytest.raises(ConfigError, match=told):
        check_phases(study, tables(""), "mine.yaml")
