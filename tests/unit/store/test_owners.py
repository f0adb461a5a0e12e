"""A process is gone only when that is certain."""

import dataclasses
import os
import subprocess
import sys

import pytest

from lmri.store import owners
from lmri.store.owners import Owner


@pytest.fixture
def ended():
    """The owner that a process was, which has ended and whose exit code was read."""
    code = "from lmri.store.owners import Owner; print(Owner.this().label())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Owner.parse(done.stdout.strip())


def test_labels_are_read_back_and_fit_a_file_name():
    own = Owner.this()
    assert own.pid == os.getpid()
    assert Owner.parse(own.label()) == own
    assert "/" not in own.label() and len(own.label()) < 120


@pytest.mark.parametrize("label", ["", "1", "x-1-2-3@host", "1-2-3@host", "1-2-3-4@", "0123456789"])
def test_other_names_are_no_labels(label):
    assert Owner.parse(label) is None


def test_a_running_process_is_not_gone_and_an_ended_one_is(ended):
    assert not Owner.this().is_gone()
    assert ended.is_gone()


def test_a_killed_process_is_gone_before_its_parent_asks():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as job:
        own = Owner.this()
        other = dataclasses.replace(own, pid=job.pid, start=owners._start(job.pid))
        assert not other.is_gone()
        job.kill()
        os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
        assert other.is_gone()


def test_an_id_that_is_used_again_is_another_process():
    assert dataclasses.replace(Owner.this(), start="1").is_gone()


def test_before_a_restart_of_the_host_is_gone(ended):
    assert dataclasses.replace(Owner.this(), boot="00000000").is_gone()


def test_of_other_hosts_and_containers_nothing_is_certain(ended):
    assert not dataclasses.replace(ended, host="elsewhere").is_gone()
    assert not dataclasses.replace(ended, namespace="0").is_gone()
    assert not dataclasses.replace(ended, host="elsewhere").is_here()


def test_without_a_proc_file_system_the_id_alone_decides(ended, monkeypatch, tmp_path):
    monkeypatch.setattr(owners, "PROC", tmp_path / "none")
    owners._machine.cache_clear()
    try:
        own = Owner.this()
        assert (own.start, own.namespace, own.boot) == ("", "", "")
        assert Owner.parse(own.label()) == own
        assert not own.is_gone()
        assert dataclasses.replace(own, pid=ended.pid).is_gone()
    finally:
        owners._machine.cache_clear()
