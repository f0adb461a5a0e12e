"""What `make demo` says when a study stops, with a stand-in for Snakemake."""

import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

PLAN = "study      mine\nreport     results/mine/report/index.html\n"


@pytest.fixture
def demo(repository, tmp_path):
    """Run the script of `make demo` in an empty folder; `run` stands for Snakemake."""

    def call(run: str) -> subprocess.CompletedProcess:
        tools = tmp_path / "bin"
        tools.mkdir()
        for name, body in {"lmri": f"printf '%s' '{PLAN}'", "snakemake": run}.items():
            (tools / name).write_text(f"#!/bin/sh\nsleep 0.05\n{body}\n")
            (tools / name).chmod(0o755)
        return subprocess.run(
            ["sh", repository / ".ci/study", "mine.yaml", "2"],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def old_log(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    os.utime(path, (time.time() - 60,) * 2)


def test_a_finished_study_says_where_its_report_is(demo, tmp_path):
    done = demo("exit 0")
    assert done.returncode == 0
    assert done.stdout.endswith(f"The report: {tmp_path}/results/mine/report/index.html\n")


def test_only_the_errors_of_this_study_and_this_run_are_told(demo, tmp_path):
    old_log(tmp_path / "results/mine/logs/validate/a.log", "lmri: error: mended\n")
    old_log(tmp_path / "results/other/logs/record.log", "lmri: error: of another study\n")
    done = demo(
        "mkdir -p results/mine/logs/record\n"
        "printf 'noise\\nlmri: error: the real one\\n' > results/mine/logs/record/b.log\n"
        "touch results/other/logs/record.log\n"
        "exit 1"
    )
    assert done.returncode == 1
    told = done.stdout.split(PLAN)[1]
    assert told == (
        "lmri: error: the real one\n\nThe study stopped. The logs of its jobs: results/mine/logs\n"
    )


def test_a_lock_is_explained(demo, tmp_path):
    done = demo(
        "mkdir -p .snakemake/log\n"
        "printf 'Building\\nLockException:\\n' > .snakemake/log/now.snakemake.log\n"
        "exit 1"
    )
    assert done.returncode == 1
    assert "make unlock" in done.stdout
    assert "logs of its jobs" not in done.stdout


def test_an_old_lock_is_not_told_again(demo, tmp_path):
    old_log(tmp_path / ".snakemake/log/old.snakemake.log", "LockException:\n")
    assert "make unlock" not in demo("exit 1").stdout


@pytest.mark.slow
def test_a_killed_job_is_explained(workflow, tmp_path):
    """The shell of a job reports 137 when the kernel kills it for its memory."""
    copy = replace(workflow, root=shutil.copytree(workflow.root, tmp_path / "copy"))
    (tmp_path / "lmri").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "lmri").chmod(0o755)
    helpers = copy.root / "workflow/rules/common.smk"
    source = helpers.read_text(encoding="utf-8")
    assert "str(Path(sys.executable).parent)" in source
    helpers.write_text(source.replace("str(Path(sys.executable).parent)", repr(str(tmp_path))))
    done = copy.run("--configfile", "config/studies/small.yaml", "--until", "subject")
    assert done.returncode == 1
    assert "lmri: error: a job was killed: out of memory?" in done.stderr
