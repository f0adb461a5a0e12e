"""One writer at a time; what a killed one left is cleared away, and nothing else."""

import dataclasses
import errno
import json
import multiprocessing
import os
import subprocess
import sys

import pytest

from lmri.errors import StoreError
from lmri.store import atomic_directory, locks, writing_lock
from lmri.store.atomic import partial_name
from lmri.store.owners import Owner

ENDED = (
    "import sys, pathlib\n"
    "from lmri.store import atomic_directory, locks\n"
    "store = pathlib.Path(sys.argv[1])\n"
    "with locks.writing_lock(store), atomic_directory(store) as partial:\n"
    "    (partial / 'chunk').write_text('half')\n"
    "    import os; os.kill(os.getpid(), 9)\n"
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def left_by(folder, owner, name="0.zarr"):
    """Make the lock and the half-written store of an owner."""
    content = json.dumps({"owner": owner.label(), "since": "2026-11-21T10:00:00+00:00"})
    (folder / f".{name}.lock").write_text(content)
    partial = folder / f".{name}.{owner.label()}.01234567.partial"
    partial.mkdir()
    (partial / "chunk").write_text("half")
    return partial


@pytest.fixture
def gone():
    """An owner of this host that is gone."""
    return dataclasses.replace(Owner.this(), start="1")


def test_a_lock_is_held_inside_and_leaves_nothing(tmp_path):
    with writing_lock(tmp_path / "deep" / "0.zarr"):
        assert names(tmp_path / "deep") == [".0.zarr.lock"]
    assert names(tmp_path / "deep") == []


def test_a_second_writer_is_refused_with_host_process_and_time(tmp_path):
    own = Owner.this()
    message = rf"0\.zarr: is being written by process {own.pid} on host '{own.host}' since 20"
    with (
        writing_lock(tmp_path / "0.zarr"),
        pytest.raises(StoreError, match=message + ".*Wait for it, or stop it"),
        writing_lock(tmp_path / "0.zarr"),
    ):
        pytest.fail("entered")
    with writing_lock(tmp_path / "0.zarr"), writing_lock(tmp_path / "10.zarr"):
        assert names(tmp_path) == [".0.zarr.lock", ".10.zarr.lock"]


def test_an_exception_releases_the_lock(tmp_path):
    def fail():
        with writing_lock(tmp_path / "0.zarr"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == []


def test_what_a_killed_writer_left_is_taken_over_and_cleared_away(tmp_path):
    store = tmp_path / "0.zarr"
    done = subprocess.run([sys.executable, "-c", ENDED, str(store)], check=False)
    assert done.returncode == -9
    assert len(names(tmp_path)) == 2  # the lock and the half-written store
    with writing_lock(store):
        assert names(tmp_path) == [".0.zarr.lock"]
        assert Owner.this().label() in (tmp_path / ".0.zarr.lock").read_text()
    assert names(tmp_path) == []


def test_what_another_host_left_is_respected_and_the_message_says_what_to_remove(tmp_path):
    other = dataclasses.replace(Owner.this(), host="node7", pid=12)
    partial = left_by(tmp_path, other)
    message = (
        r"process 12 on host 'node7' since 2026-11-21T10:00:00\+00:00.*"
        r"remove '.*/\.0\.zarr\.lock' and any '\.0\.zarr\.\*\.partial'"
    )
    with pytest.raises(StoreError, match=message), writing_lock(tmp_path / "0.zarr"):
        pytest.fail("entered")
    (tmp_path / ".0.zarr.lock").unlink()
    with writing_lock(tmp_path / "0.zarr"):
        assert partial.exists()  # it may still be written to


def test_only_what_belongs_to_the_store_and_to_dead_processes_is_removed(tmp_path, gone):
    kept = [
        tmp_path / f".10.zarr.{gone.label()}.01234567.partial",
        tmp_path / partial_name(tmp_path / "0.zarr"),
        tmp_path / ".0.zarr.notes.partial",
        tmp_path / "0.zarr.txt",
    ]
    for path in kept:
        path.write_text("")
    stale = tmp_path / f".0.zarr.{gone.label()}.01234567.partial"
    stale.write_text("")
    with writing_lock(tmp_path / "0.zarr"):
        assert not stale.exists()
    assert names(tmp_path) == sorted(path.name for path in kept)


def test_a_new_attempt_without_a_lock_clears_away_too(tmp_path, gone):
    stale = tmp_path / f".map.zarr.{gone.label()}.01234567.partial"
    stale.mkdir()
    (stale / "chunk").write_text("half")
    with atomic_directory(tmp_path / "map.zarr"):
        assert not stale.exists()
    assert names(tmp_path) == ["map.zarr"]


def test_an_unreadable_lock_is_named(tmp_path):
    (tmp_path / ".0.zarr.lock").write_text("{")
    message = r"its lock '.*/\.0\.zarr\.lock' is not readable.*remove that file"
    with pytest.raises(StoreError, match=message), writing_lock(tmp_path / "0.zarr"):
        pytest.fail("entered")


def test_of_two_that_take_over_the_slower_leaves_the_lock_of_the_quicker(
    tmp_path, gone, monkeypatch
):
    left_by(tmp_path, gone)
    lock = tmp_path / ".0.zarr.lock"
    plain = locks._refuse_live

    def quicker_in_between(path, lock, held):
        plain(path, lock, held)
        other = dataclasses.replace(Owner.this(), host="node7")
        lock.write_text(json.dumps({"owner": other.label(), "since": "now"}))

    monkeypatch.setattr(locks, "_refuse_live", quicker_in_between)
    with pytest.raises(StoreError, match="on host 'node7'"), writing_lock(tmp_path / "0.zarr"):
        pytest.fail("entered")
    assert "node7" in lock.read_text()


@pytest.mark.parametrize("held", [False, True])
def test_a_file_system_without_links_still_excludes(tmp_path, monkeypatch, held):
    def no_links(*arguments):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with writing_lock(tmp_path / "0.zarr"):
        assert names(tmp_path) == [".0.zarr.lock"]
        if held:
            with pytest.raises(StoreError, match="is being written"):
                locks._acquire(tmp_path / "0.zarr", tmp_path / ".0.zarr.lock")
    assert names(tmp_path) == []


def test_other_errors_are_told(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space"), writing_lock(tmp_path / "0.zarr"):
        pytest.fail("entered")
    assert names(tmp_path) == []


def take(path, entered, overlaps):
    """Hold the lock a few times, and count how often another process was inside too."""
    for _ in range(20):
        try:
            with writing_lock(path):
                with entered.get_lock():
                    entered.value += 1
                    overlaps.value += entered.value > 1
                with entered.get_lock():
                    entered.value -= 1
        except StoreError:
            continue


def test_processes_exclude_each_other(tmp_path):
    context = multiprocessing.get_context("spawn")
    entered, overlaps = context.Value("i", 0), context.Value("i", 0)
    jobs = [
        context.Process(target=take, args=(tmp_path / "0.zarr", entered, overlaps))
        for _ in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert overlaps.value == 0
    assert names(tmp_path) == []
