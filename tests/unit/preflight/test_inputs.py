"""Checks before a run: mistakes are told before any job, and a good study passes."""

import copy
import csv
import json
import shutil

import pandas as pd
import pytest
import yaml
from transformers import AutoTokenizer

from lmri.anatomy import check_prompts
from lmri.config import StudyConfig
from lmri.errors import LmriError
from lmri.preflight.inputs import check_inputs


@pytest.fixture
def small(repository) -> dict:
    return yaml.safe_load((repository / "config/studies/small.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def table(tmp_path):
    """Write a table of stimuli: per condition a number of words, two trials each."""

    def write(drop=(), name="words", **words: int) -> str:
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
        path = tmp_path / f"{name}.csv"
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


def hypothesis_of(path: str, **contrast) -> dict:
    study = study_of(path, **contrast)
    study["contrasts"]["animals"] |= {
        "role": "hypothesis",
        "bystanders": [{"task": "words", "condition": "plant"}],
        **contrast,
    }
    study["evidence"] = {"minimum_trials": 1, "minimum_target_trials": 1}
    return study


def check(study: dict) -> None:
    check_inputs(StudyConfig.from_dict(study, "mine.yaml"), "mine.yaml")


def refused(study: dict, message: str) -> None:
    with pytest.raises(LmriError, match=message) as info:
        check(study)
    assert "\n" not in str(info.value)


TEMPLATES = {"dense-decoder", "encoder", "olmoe-1b-7b", "qwen3-30b-a3b"}
"""Studies of models that are not here."""


def test_the_studies_of_the_repository_pass(repository):
    studies = {path.stem: path for path in (repository / "config").glob("**/*.yaml")}
    assert set(studies) > TEMPLATES
    for name in sorted(set(studies) - TEMPLATES):
        check(yaml.safe_load(studies[name].read_text(encoding="utf-8")))


@pytest.mark.parametrize("score", ["joy", "refusal_log_odds"])
def test_a_score_that_cannot_decide(small, score):
    refused({**small, "evidence": {"score": score}}, f"'{score}'")
    claims = [{"kind": "transfer", "score": score}]
    refused({**small, "validate": {"claims": claims}}, f"'{score}'")


def test_a_step_that_a_base_does_not_keep(small):
    base = {"source": "base", "base_seed": 3, "steps": [0, 40, 600]}
    small["subjects"] = {"growth": base}
    refused(small, r"'subjects.growth_step40' must be of a step .* one of 0, 50, .*600. Got 40")
    small["training"] = {"base_checkpoints": [0, 40]}
    check(small)


def test_a_good_table_passes(table):
    check(study_of(table(animal=30, plant=30)))


def test_a_table_without_a_needed_column(table):
    refused(study_of(table(drop=("reference",), animal=30, plant=30)), r"words\.csv.*'reference'")


@pytest.mark.parametrize("place", ["target", "controls"])
def test_an_unknown_condition_of_a_table(table, place):
    study = study_of(table(animal=30, plant=30), **{place: ["stone"]})
    refused(study, r"mine\.yaml: .*condition.*'animal'.*'plant'.*'stone'")


def test_a_good_hypothesis_passes(table):
    check(hypothesis_of(table(animal=60, plant=60)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"null_condition": "stone"},
        {"bystanders": [{"task": "words", "condition": "stone"}]},
        {"transfer": {"task": "words", "condition": "stone"}},
    ],
)
def test_an_unknown_condition_beside_target_and_controls(table, wrong):
    study = hypothesis_of(table(animal=60, plant=60), **wrong)
    refused(study, rf"'contrasts\.animals\.{next(iter(wrong))}.*'animal', 'plant'. Got 'stone'")


def test_too_few_null_carriers_for_the_sham_maps(table):
    # 18 plants leave 6 for selection: 20 ways to halve them.
    refused(
        hypothesis_of(table(animal=60, plant=18)),
        r"null condition 'plant' allow only 20 different sham maps\. 99 are needed",
    )


def test_the_sham_maps_of_exploratory_phases_count_too(table):
    study = hypothesis_of(table(animal=60, plant=18))
    study["evidence"] |= {"shams": 19, "exploratory_shams": 21}
    study["localise"] = {"phases": ["prompt_last"]}
    check(study)
    study["localise"] = {"phases": ["prompt_last", "content"]}
    refused(study, r"only 20 different sham maps\. 21 are needed")


def two_tables(study: dict, path: str, **options) -> dict:
    study["tasks"]["more"] = {"source": "table", "path": path, "carriers": ["word"], **options}
    study["contrasts"]["animals"]["transfer"] = {"task": "more", "condition": "animal"}
    return study


def test_the_same_entities_in_two_tasks_have_the_same_splits(table):
    path = table(animal=60, plant=60)
    check(two_tables(hypothesis_of(path), path))


def test_an_entity_evaluated_in_one_task_and_selected_in_another(table):
    fewer = table(animal=60, plant=54, name="fewer")
    refused(
        two_tables(hypothesis_of(table(animal=60, plant=60)), fewer),
        r"'contrasts\.animals' would leak: '\w+' of the carrier 'word' is selected or calibrated "
        r"on in the task '(words|more)' and evaluated in the task '(words|more)'",
    )


OTHER_SHARES = {"selection": 0.1, "calibration": 0.2, "evaluation": 0.7}


def test_other_shares_in_one_task_leak_too(small):
    study = copy.deepcopy(small)
    study["tasks"]["relations"]["splits"] = OTHER_SHARES
    refused(study, r"would leak: .*carrier 'place'.*task 'events' .*task 'relations'")


def test_a_task_that_the_contrast_does_not_use_may_differ(small):
    study = copy.deepcopy(small)
    study["tasks"]["relations"]["splits"] = OTHER_SHARES
    study["contrasts"]["refusal"]["bystanders"].remove({"task": "relations"})
    check(study)


def test_too_few_carriers_for_the_level_of_the_test(table):
    study = study_of(table(animal=6, plant=6))
    study["splits"] = {"selection": 0.34, "calibration": 0.33, "evaluation": 0.33}
    refused(study, r"mine\.yaml: 'contrasts\.animals'.*allow 4 relabellings.*at least 20")


@pytest.mark.parametrize(
    ("maps", "passes"),
    [
        (["expert.resonance"], True),
        (["expert.resonance", "expert.risk_difference"], False),
        (["head.welch_t"], False),
    ],
)
def test_two_sided_maps_need_twice_the_relabellings(table, maps, passes):
    # 3 of 9 words each are left for selection: 20 labellings, of which half mirror the others.
    study = study_of(table(animal=9, plant=9))
    study["localise"] = {"maps": maps}
    if passes:
        check(study)
    else:
        refused(
            study,
            rf"mine\.yaml: 'contrasts\.animals' \(map '{maps[-1]}'\).*allow 20 relabellings; a "
            r"two-sided test at 0\.05 needs at least 40",
        )


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


def test_more_shards_than_trials(table):
    study = study_of(table(animal=30, plant=30))
    study["record"] = {"shards": 99}
    refused(study, r"^mine\.yaml: 'record\.shards' must be at most .* Got 99 for the \d+ of task")


def test_an_architecture_that_cannot_be_recorded(own, tmp_path):
    folder = shutil.copytree(own["subjects"]["mine"]["path"], tmp_path / "opt")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "opt", "architectures": ["OPTForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    own["subjects"]["mine"]["path"] = str(folder)
    refused(
        own, r"opt: The architecture of a subject must be one of .* Got 'opt' \(OPTForCausalLM\)"
    )


def test_experts_that_a_subject_does_not_have(own):
    own["record"] = {"without": {"mode": "mask", "units": [[1, 99]]}}
    refused(own, r"^mine\.yaml: 'record\.without', subject 'mine': .*99")


def test_attention_that_cannot_be_observed(table):
    study = study_of(table(animal=30, plant=30))
    study["subjects"]["localised"]["attention"] = "flex_attention"
    refused(study, r"^The 'attention' of subject 'localised' must be one of .*'flex_attention'\.$")


def test_a_thought_needs_its_room_in_the_context(own, tmp_path):
    """Positions of the tiny model: 128."""
    folder = shutil.copytree(own["subjects"]["mine"]["path"], tmp_path / "thinks")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    prompts = {"words": pd.DataFrame({"trial": ["t"], "prompt": ["<user>"], "template": [""]})}
    check_prompts(folder, "mine", prompts, 100)
    check_prompts(folder, "mine", prompts, 100, 20)
    with pytest.raises(LmriError, match=r"leave no room for a prompt .* by at least 1"):
        check_prompts(folder, "mine", prompts, 100, 24)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"maps": ["head.welch"]}, r"statistic.*'localise.maps' \('head.welch'\)"),
        ({"maps": ["layer.welch_t", "layer.after.welch_t"]}, "one map twice: 'layer.welch_t'"),
        ({"maps": ["neuron.preactivation.welch_t"]}, "needs 'preactivation' in 'record.quant"),
        (
            {"causal": {"contrasts": ["refusal"], "correct": "refusl", "wrong": "fact"}},
            "'localise.causal'.*'refusl'",
        ),
        (
            {"causal": {"contrasts": ["refusal"], "shams": True}},
            "'localise.causal.metric' must be 'logit_difference'",
        ),
        (
            {"causal": {"contrasts": ["refusl"]}},
            "'localise.causal.contrasts' must be one of.*'refusal'",
        ),
        ({"causal": {"contrasts": ["null_places"]}}, "null_places', a random split"),
        ({"probes": {"needle": "needl"}}, "'localise.probes.needle' must be one of"),
    ],
)
def test_mistakes_in_maps_are_told_before_anything_is_recorded(small, section, told):
    small["localise"] |= section
    with pytest.raises(LmriError, match=told):
        check_inputs(StudyConfig.from_dict(small), "small.yaml")


def test_a_claim_of_a_condition_that_is_not_there(table):
    study = hypothesis_of(table(animal=20, plant=20))
    study["validate"] = {"claims": [{"kind": "interference", "task": "words", "condition": "rock"}]}
    refused(study, r"The 'condition' of 'validate.claims.0' \(task 'words'\) .* Got 'rock'")


def test_a_question_about_a_column_that_is_not_there(table):
    study = study_of(table(animal=20, plant=20))
    study["information"] = {"questions": [{"task": "words", "target": "clas", "scheme": "trials"}]}
    refused(study, r"^mine\.yaml: 'information\.questions\.0\.target' must be .* Got 'clas'")
