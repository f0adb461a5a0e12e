"""The workflow as a module of somebody else's: their study, their rules, in their folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SNAKEFILE = """
configfile: "my_study.yaml"


module lmri:
    snakefile:
        "{snakefile}"
    config:
        config


use rule * from lmri as lmri_*


rule summary:
    default_target: True
    input:
        rules.lmri_report.output.verdicts,
    output:
        "summary.csv",
    shell:
        "python -m my_lab.summary {{input}} > {{output}}"
"""
STUDY = {
    "study": "mine",
    "subjects": {"localised": {"source": "embedded", "state": "localised"}},
    "tasks": {"events": {"source": "world"}},
    "contrasts": {"first": {"task": "events", "target": ["sensitive"], "controls": ["benign"]}},
    "examples": {"units": 2},
}


@pytest.fixture
def plan(repository, tmp_path):
    """Run a workflow that uses this one in a folder of its own; dry, unless told otherwise."""

    def planned(study: dict, *arguments: str, dry: bool = True) -> subprocess.CompletedProcess:
        snakefile = SNAKEFILE.format(snakefile=repository / "Snakefile")
        (tmp_path / "Snakefile").write_text(snakefile, encoding="utf-8")
        (tmp_path / "my_study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(Path(repository) / "src")}
        command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
        command += ["--dry-run"] if dry else []
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    return planned


def jobs(output: str) -> dict[str, int]:
    table = output.split("Job stats:", 1)[1].split("\n\n", 1)[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


def test_rules_of_both_are_planned_with_the_study_of_the_user(plan, tmp_path):
    done = plan(STUDY)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    stages = ("stimuli", "subject", "record", "localise", "group", "examples", "validate", "report")
    expected = {f"lmri_{stage}": 1 for stage in stages} | {"summary": 1, "total": 9}
    assert jobs(output) == expected
    written = re.findall(r"^    output: (.*)$", output, re.M)
    assert all(path.startswith(("results/mine/", "summary.csv")) for path in written)
    there = {path.name for path in tmp_path.iterdir()}
    assert there - {".snakemake"} == {"Snakefile", "my_study.yaml"}


def test_the_whole_study_is_the_target_of_its_rule_all(plan):
    done = plan(STUDY, "lmri_all")
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "summary" not in jobs(output)
    assert jobs(output)["lmri_report"] == 1


@pytest.mark.slow
def test_a_job_of_the_module_runs_in_the_users_folder(plan, tmp_path):
    table = "results/mine/stimuli/events.parquet"
    done = plan(STUDY, table, dry=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / table).is_file()


def test_a_wrong_study_is_told_with_the_users_file(plan):
    done = plan({**STUDY, "seed": "three"})
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "my_study.yaml: 'seed' must be a whole number. Got 'three'" in output
    assert "Traceback" not in output
