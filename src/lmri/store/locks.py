"""One writer at a time for each store, also on a shared file system.

The lock is a hidden file beside the store that names its holder. It is made by linking a complete
file to the name, which fails when the name exists: that is atomic on NFS and Lustre too, where
``flock`` is not to be relied on, and a lock is never seen without its content.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lmri.errors import StoreError
from lmri.store.atomic import partial_name, remove_stale
from lmri.store.owners import Owner
from lmri.store.slurm_jobs import job_is_over, own_job

ATTEMPTS = 5
"""Takeovers tried before giving up: each means that another process came first."""

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def writing_lock(path: Path) -> Iterator[None]:
    """Hold the right to write a store, and clear away what killed writers of it left behind.

    A lock whose holder was a process of this host and has ended is taken over. Whether a process
    of another host still runs is known only of jobs of Slurm: the lock of one that is over is taken
    over too, so that a job killed on one node can be run again on another. Any other lock of
    another host is respected, and the message says how to remove it.

    Parameters
    ----------
    path : Path
        The store; it need not exist.

    Raises
    ------
    StoreError
        If another process is writing the store.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    content = _acquire(path, lock)
    try:
        remove_stale(path)
        remove_stale(lock)
        yield
    finally:
        if _read(lock) == content:
            lock.unlink(missing_ok=True)


def _acquire(path: Path, lock: Path) -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"owner": Owner.this().label(), "since": since, "slurm_job": own_job()}
    content = json.dumps(entry) + "\n"
    for _ in range(ATTEMPTS):
        if _create(lock, content):
            return content
        held = _read(lock)
        if held is not None:
            _refuse_live(path, lock, held)
            _set_aside(lock, held)
    raise StoreError(f"{path}: other processes keep taking its lock '{lock}'. Start one only.")


def _create(lock: Path, content: str) -> bool:
    """Make the lock with its content in one step; False if there is one already."""
    complete = lock.with_name(partial_name(lock))
    try:
        complete.write_text(content, encoding="utf-8")
        os.link(complete, lock)
    except FileExistsError:
        # A server that answers twice says so also of the link it has just made.
        return complete.stat().st_nlink > 1
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _create_without_links(lock, content)
    finally:
        complete.unlink(missing_ok=True)
    return True


def _create_without_links(lock: Path, content: str) -> bool:
    try:
        with lock.open("x", encoding="utf-8") as stream:
            stream.write(content)
    except FileExistsError:
        return False
    return True


def _read(lock: Path) -> str | None:
    try:
        return lock.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _refuse_live(path: Path, lock: Path, held: str) -> None:
    try:
        entry = json.loads(held)
        owner, since = Owner.parse(entry["owner"]), entry["since"]
    except (ValueError, KeyError, TypeError):
        owner, since = None, None
        entry = {}
    if owner is None:
        raise StoreError(
            f"{path}: its lock '{lock}' is not readable. If no process writes the store, "
            "remove that file."
        )
    if owner.is_gone():
        return
    holder = f"process {owner.pid} on host '{owner.host}' since {since}"
    if owner.is_here():
        raise StoreError(f"{path}: is being written by {holder}. Wait for it, or stop it.")
    if job_is_over(entry.get("slurm_job")):
        for partial in path.parent.glob(f".{glob.escape(path.name)}.{owner.label()}.*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
        return
    raise StoreError(
        f"{path}: is being written by {holder}. Wait for it. If that process is gone, remove "
        f"'{lock}' and any '.{path.name}.*.partial' beside it."
    )


def _set_aside(lock: Path, held: str) -> None:
    """Remove the lock of a process that is gone, but not the one of a process that was quicker."""
    aside = lock.with_name(partial_name(lock))
    try:
        os.rename(lock, aside)
    except FileNotFoundError:
        return
    if _read(aside) != held:
        _create(lock, _read(aside) or "")
    aside.unlink()
