"""What Snakemake would do, without doing it."""

import re

import pytest

STUDY = {
    "study": "mine",
    "subjects": {"only": {"source": "trained", "base_seed": 5, "state": "localised"}},
    "tasks": {"relations": {"source": "world"}, "copying": {"source": "world"}},
    "contrasts": {
        "first": {
            "role": "exploratory",
            "task": "relations",
            "target": ["capital"],
            "controls": ["river"],
        }
    },
}


@pytest.fixture(scope="module")
def bare(workflow) -> dict[str, int]:
    """Plan of the study that asks for nothing more."""
    return workflow.plan("--configfile", workflow.write("mine.yaml", STUDY))


def test_default_study(workflow):
    assert workflow.plan() == {
        "subject": 2,
        "stimuli": 5,
        "record": 10,
        "localise": 2,
        "group": 1,
        "calibrate": 2,
        "record_sparse": 2,
        "survive": 2,
        "sparse_run": 2,
        "examples": 2,
        "validate": 2,
        "compare": 1,
        "report": 1,
    }


def test_another_study_inherits_nothing_from_the_default_one(bare):
    assert bare == {
        "base": 1,
        "subject": 1,
        "stimuli": 2,
        "record": 2,
        "localise": 1,
        "group": 1,
        "validate": 1,
        "report": 1,
    }


def test_a_series_of_checkpoints_is_planned_as_its_subjects(workflow):
    series = {"grows": {"source": "base", "base_seed": 5, "steps": [0, 50, 600]}}
    study = {**STUDY, "subjects": {**STUDY["subjects"], **series}}
    plan = workflow.plan("--configfile", workflow.write("series.yaml", study))
    assert (plan["base"], plan["subject"], plan["record"], plan["report"]) == (1, 4, 8, 1)


def test_information_is_planned_for_subjects_and_series(workflow):
    series = {"grows": {"source": "base", "base_seed": 5, "steps": [0, 50, 600]}}
    study = {**STUDY, "subjects": {**STUDY["subjects"], **series}}
    study["information"] = {"measures": ["lens"]}
    plan = workflow.plan("--configfile", workflow.write("information.yaml", study))
    assert (plan["information"], plan["dynamics"], plan["report"]) == (4, 1, 1)
    # Without a series there is nothing to follow.
    study["subjects"] = STUDY["subjects"]
    plan = workflow.plan("--configfile", workflow.write("information.yaml", study))
    assert plan["information"] == 1
    assert "dynamics" not in plan


def test_networks_are_of_a_subject_and_alignments_of_all(workflow):
    two = {name: {**STUDY["subjects"]["only"], "base_seed": n} for n, name in enumerate("ab")}
    study = {**STUDY, "subjects": two, "connect": {"kinds": ["expert"]}}
    study["align"] = {"quantities": ["residual"], "tasks": ["copying"]}
    plan = workflow.plan("--configfile", workflow.write("networks.yaml", study))
    assert (plan["connect"], plan["align"], plan["report"]) == (2, 1, 1)


def test_decoding_is_planned_where_it_is_asked_for(workflow, bare):
    assert "decode" not in bare
    study = {**STUDY, "decode": {"analyses": ["profile"], "quantity": "layer"}}
    plan = workflow.plan("--configfile", workflow.write("decode.yaml", study))
    assert (plan["decode"], plan["report"]) == (1, 1)


def test_encoding_is_planned_where_it_is_asked_for(workflow, bare):
    assert "encode" not in bare
    study = {**STUDY, "encode": {"tasks": ["copying"]}}
    plan = workflow.plan("--configfile", workflow.write("encode.yaml", study))
    assert (plan["encode"], plan["report"]) == (1, 1)


def test_examples_are_planned_where_they_are_asked_for(workflow, bare):
    assert "examples" not in bare
    study = {**STUDY, "examples": {"units": 2}}
    plan = workflow.plan("--configfile", workflow.write("examples.yaml", study))
    assert (plan["examples"], plan["report"]) == (1, 1)


def test_experiments_are_planned_where_they_are_asked_for(workflow, bare):
    assert "experiment" not in bare
    study = {**STUDY, "experiments": {"void_layers": {"tasks": ["copying"]}}}
    plan = workflow.plan("--configfile", workflow.write("experiment.yaml", study))
    assert (plan["experiment"], plan["report"]) == (1, 1)


def test_shards_multiply_recordings_only(workflow):
    study = {**STUDY, "record": {"shards": 3}}
    plan = workflow.plan("--configfile", workflow.write("shards.yaml", study))
    assert (plan["record"], plan["localise"]) == (6, 1)


def test_control_draws_are_planned_where_several_jobs_are_asked_for(workflow):
    study = {**STUDY, "validate": {"shards": 3}}
    plan = workflow.plan("--configfile", workflow.write("draws.yaml", study))
    assert (plan["draws"], plan["validate"]) == (3, 1)
    study["validate"] = {"shards": 1}
    assert "draws" not in workflow.plan("--configfile", workflow.write("draws.yaml", study))


def test_value_from_the_command_line(workflow):
    assert workflow.plan("--config", "study=other", "seed=3")["record"] == 10
    done = workflow.run("--dry-run", "--config", "study=other", "seed=three")
    assert "'seed' must be a whole number. Got 'three'" in done.stdout + done.stderr


def test_a_key_that_stands_twice_is_refused_before_snakemake_keeps_the_last(workflow):
    name = workflow.write("twice.yaml", STUDY)
    with (workflow.root / name).open("a", encoding="utf-8") as stream:
        stream.write("\nseed: 3\nseed: 4\n")
    done = workflow.run("--dry-run", "--configfile", name)
    assert done.returncode != 0
    assert "the key 'seed' is there twice" in done.stdout + done.stderr


def test_a_dictionary_is_an_input_of_the_stages_that_read_it(workflow):
    causal = {"contrasts": ["first"], "kinds": ["feature"], "methods": ["relp"]}
    (workflow.root / "own.safetensors").write_bytes(b"")
    study = {**STUDY, "localise": {"causal": {**causal, "dictionary": "own.safetensors"}}}
    done = workflow.run("--dry-run", "--configfile", workflow.write("features.yaml", study))
    jobs = re.findall(r"^(?:local)?rule (\w+):\n +input: (.*)$", done.stdout + done.stderr, re.M)
    assert {rule for rule, inputs in jobs if "own.safetensors" in inputs} == {
        "localise",
        "validate",
    }


def test_slurm_profile_loads_by_its_name(workflow):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    assert workflow.plan("--workflow-profile", "profiles/slurm")["record"] == 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"evidence": {"shamz": 3}}, ["unknown key 'shamz' in 'evidence'", "mean 'shams'"]),
        ({"subjects": {"a": {"source": "directory", "path": "no/where"}}}, ["'no/where'"]),
        ({"contrasts": {"c": {"task": "poems"}}}, ["'contrasts.c.task'", "Got 'poems'"]),
        ({"study": "../../up"}, ["'study'", "lower case letters"]),
    ],
)
def test_bad_study_ends_with_one_line_and_no_work(workflow, change, words):
    done = workflow.run("--configfile", workflow.write("bad.yaml", {**STUDY, **change}))
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if "bad.yaml" in line]
    assert len(told) == 1, done.stderr
    assert all(word in told[0] for word in words)
    assert "Traceback" not in done.stdout + done.stderr
    assert not (workflow.root / "results").exists()
