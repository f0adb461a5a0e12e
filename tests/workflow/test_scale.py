"""A study of 200 subjects, and what its jobs ask a cluster for."""

import json
import re
from functools import cache

import pytest
import yaml

from benchmarks.planning import large_study
from lmri.config import StudyConfig

PROFILES = ("default", "slurm", "slurm-no-accounting")


@pytest.fixture(scope="module")
def asked(workflow):
    """Resources of the jobs of a rule, as a dry run prints them."""

    @cache
    def planned(configfile: str, *options: str) -> str:
        done = workflow.run("--dry-run", "--configfile", configfile, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def resources(configfile: str, rule: str, *options: str) -> list[dict[str, str]]:
        found = re.findall(
            rf"^(?:local)?rule {rule}:\n(?: +.*\n)*? +resources: (.*)$",
            planned(configfile, *options),
            re.M,
        )
        return [dict(part.split("=", 1) for part in line.split(", ")) for line in found]

    return resources


def profile(repository, name: str) -> dict:
    text = (repository / f"profiles/{name}/profile.v9+.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def test_two_hundred_subjects_with_ten_contrasts_are_under_two_thousand_jobs(workflow):
    values = large_study(200, 10)
    plan = workflow.plan("--configfile", workflow.write("large.yaml", values))
    assert sum(plan.values()) < 2000
    assert plan["fetch"] == plan["localise"] == plan["validate"] == 200
    assert "subject" not in plan
    study = StudyConfig.from_dict(values)
    assert {rule: count for rule, count in study.jobs.items() if count} == plan
    assert len(study.contrasts) == 10


def test_contrasts_do_not_multiply_jobs():
    few, many = (StudyConfig.from_dict(large_study(20, count)).jobs for count in (2, 10))
    assert few == many


def test_only_subjects_on_a_gpu_ask_for_one(workflow, asked, small):
    place = {"localised": {"source": "embedded", "state": "localised", "device": "cuda"}}
    other = {"distributed": {"source": "embedded", "state": "distributed"}}
    mixed = workflow.write("mixed.yaml", {**small, "subjects": {**place, **other}})
    for rule in ("record", "localise", "calibrate", "sparse_run", "record_sparse", "validate"):
        assert {job["gpu"] for job in asked(mixed, rule)} == {"0", "1"}
    for rule in ("subject", "stimuli", "group", "report"):
        assert all("gpu" not in job for job in asked(mixed, rule))


def test_memory_is_asked_for_by_the_weights(copied, asked, small, tmp_path):
    own = copied(tmp_path / "copy")
    study = own.write("small.yaml", small)
    prepared = own.root / "results/small/subjects/localised"
    prepared.mkdir(parents=True)
    (prepared / "pointer.json").write_text(json.dumps({"path": str(tmp_path / "model")}))
    (tmp_path / "model").mkdir()
    with (tmp_path / "model/model.safetensors").open("wb") as weights:
        weights.truncate(14_000_000_000)  # a hole: it takes no place
    done = own.run("--dry-run", "--configfile", study, "--forcerun", "record")
    found = re.search(r"^rule record:\n(?: +.*\n)*? +resources: .*?mem_mb=(\d+)", done.stdout, re.M)
    assert int(found[1]) == 4000 + 3.5 * 14_000


@pytest.mark.parametrize("name", PROFILES)
def test_every_key_of_a_profile_is_commented(repository, name):
    text = (repository / f"profiles/{name}/profile.v9+.yaml").read_text(encoding="utf-8")
    keys = [line for line in text.splitlines() if re.match(r" *(# )?[\w-]+:", line)]
    assert len(keys) > 8
    assert [line for line in keys if " # " not in line.lstrip(" #")] == []


def test_the_two_slurm_profiles_differ_in_accounting_only(repository):
    slurm, without = (profile(repository, name) for name in PROFILES[1:])
    assert slurm["default-resources"].pop("slurm_account")
    assert without.pop("slurm-status-command") == "squeue"
    assert without.pop("slurm-no-account") is True
    assert slurm == without


def test_slurm_profiles_group_rules_that_exist_and_take_jobs_up_again(repository, workflow):
    rules = set(
        re.findall(
            r"^rule (\w+):",
            "".join(
                path.read_text(encoding="utf-8")
                for path in (workflow.root / "workflow/rules").glob("*.smk")
            ),
            re.M,
        )
    )
    found = profile(repository, "slurm")
    assert set(found["groups"]) | set(found["set-resources"]) | set(found["set-threads"]) <= rules
    assert set(found["group-components"]) <= set(found["groups"].values())
    assert found["retries"] >= 1
    assert found["slurm-requeue"] is found["rerun-incomplete"] is True


@pytest.mark.parametrize("name", PROFILES[1:])
def test_slurm_profiles_load_by_their_names(workflow, asked, name):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    options = ("--workflow-profile", f"profiles/{name}")
    jobs = asked("config/studies/small.yaml", "record", *options)
    assert len(jobs) == 3
    assert {job["runtime"] for job in jobs} == {"240"}
    assert {"slurm_account" in job for job in jobs} == {name == "slurm"}
