"""The doctor, with stand-ins for the programs of a cluster on the path."""

import builtins
import json
import sys
import types

import pytest

from lmri import cli
from lmri.preflight import doctor
from lmri.preflight.doctor import diagnose, file_system

SINFO = "echo 'main* up 4 (null)'; echo 'gpu up 2 gpu:a100:4'"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Make a path with nothing on it but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)

    def put(**bodies: str) -> None:
        for name, body in bodies.items():
            (folder / name.replace("_", "+")).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name.replace("_", "+")).chmod(0o755)

    return put


def by_name(diagnosis) -> dict:
    return {check.name: check for check in diagnosis.checks}


def test_a_laptop_runs_the_default_profile(programs, tmp_path):
    programs(g__="exit 0")
    found = diagnose(tmp_path)
    assert (found.profile, found.healthy) == ("default", True)
    checks = by_name(found)
    assert checks["Python"].status == checks["Snakemake"].status == "ok"
    assert checks["compiler"].found.endswith("/bin/g++")
    assert checks["Slurm"].status == "note"
    assert found.lines()[-1] == "profile: default (no sbatch: jobs run on this machine): snakemake"


def test_slurm_with_accounting(programs, tmp_path):
    programs(sbatch="exit 0", sinfo=SINFO, sacct="exit 0")
    found = diagnose(tmp_path)
    assert (found.profile, found.healthy) == ("slurm", True)
    assert by_name(found)["Slurm"].found == "partitions main, gpu"
    assert by_name(found)["Slurm, GPU"].found == "in partitions gpu"
    assert found.lines()[-1].endswith("snakemake --workflow-profile profiles/slurm")


@pytest.mark.parametrize("sacct", ["echo 'accounting storage is disabled' >&2; exit 1", None])
def test_slurm_without_accounting(programs, tmp_path, sacct):
    programs(
        sbatch="exit 0", sinfo="echo 'main up 4 (null)'", **({"sacct": sacct} if sacct else {})
    )
    found = diagnose(tmp_path)
    assert (found.profile, found.healthy) == ("slurm-no-accounting", True)
    checks = by_name(found)
    assert checks["Slurm, GPU"].status == "note"
    words = "storage is disabled" if sacct else "not there"
    assert words in checks["Slurm, accounting"].found


@pytest.mark.parametrize("sinfo", ["echo 'Unable to contact' >&2; exit 1", "exit 0"])
def test_a_controller_that_is_down_has_to_be_mended(programs, tmp_path, sinfo, capsys):
    programs(sbatch="exit 0", sinfo=sinfo)
    assert cli.main(["doctor", "--folder", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is False
    assert told["profile"] == "default"
    assert {c["name"] for c in told["checks"] if c["status"] == "fail"} == {"Slurm"}


def test_a_scheduler_that_hangs_is_not_waited_for(programs, tmp_path, monkeypatch):
    programs(sbatch="exit 0", sinfo="exec /bin/sleep 60")
    monkeypatch.setattr(doctor, "SECONDS", 0.1)
    assert "TimeoutExpired" in by_name(diagnose(tmp_path))["Slurm"].found


def test_no_compiler_is_said_with_what_to_do(programs, tmp_path, monkeypatch):
    check = by_name(diagnose(tmp_path))["compiler"]
    assert (check.status, "backend reference" in check.advice) == ("note", True)
    programs(mine="exit 0")
    monkeypatch.setenv("CXX", "mine -O2")
    assert by_name(diagnose(tmp_path))["compiler"].status == "ok"


def test_a_gpu_that_torch_cannot_use(programs, tmp_path):
    programs(nvidia_smi="exit 0")
    (tmp_path / "bin/nvidia+smi").rename(tmp_path / "bin/nvidia-smi")
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch finds a GPU")
    assert "with CUDA" in by_name(diagnose(tmp_path))["torch, GPU"].advice


def test_a_torch_that_cannot_be_imported(programs, tmp_path, monkeypatch, capsys):
    imported = builtins.__import__

    def broken(name, *rest, **named):
        if name == "torch":
            raise OSError("libcudart.so.12: cannot open shared object file")
        return imported(name, *rest, **named)

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(builtins, "__import__", broken)
    assert cli.main(["doctor", "--folder", str(tmp_path)]) == 1
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("fail"))
    assert "libcudart.so.12" in line


def test_a_folder_that_cannot_be_written(programs, tmp_path):
    found = by_name(diagnose(tmp_path / "not there"))
    assert found["results"].status == "fail"
    assert not [path for path in tmp_path.iterdir() if path.name != "bin"]


def test_a_full_disk_and_a_slow_one(programs, tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=1e9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr(doctor, "_latency", lambda folder: 0.4)
    found = by_name(diagnose(tmp_path))
    assert found["free space"].status == "fail"
    assert "latency-wait" in found["file system"].advice


def test_the_file_system_of_a_folder_is_that_of_its_last_mount(tmp_path):
    (tmp_path / "shared disk/lab").mkdir(parents=True)
    table = tmp_path / "mounts"
    here = str(tmp_path).replace(" ", r"\040")
    table.write_text(
        f"/dev/a / ext4 rw 0 0\nserver:/x {here}/shared\\040disk nfs4 rw 0 0\n"
        f"meta {here}/shared\\040disk/lab fuse.glusterfs rw 0 0\nb {here}/sha tmpfs rw 0 0\n"
    )
    assert file_system(tmp_path, table) == "ext4"
    assert file_system(tmp_path / "shared disk", table) == "nfs4"
    assert file_system(tmp_path / "shared disk/lab", table) == "glusterfs"
    assert file_system(tmp_path, tmp_path / "none") == "unknown"


def test_a_shared_folder_is_looked_at_for_its_nodes(programs, tmp_path, monkeypatch):
    programs(sbatch="exit 0", sinfo=SINFO, sacct="exit 0")
    monkeypatch.setattr(doctor, "file_system", lambda folder: "lustre")
    found = by_name(diagnose(tmp_path))
    assert found["file system"].found.startswith("lustre, shared")
    assert "shared by nodes" not in found
