"""A job that fails or is killed leaves nothing that looks finished."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr

from lmri.store import atomic_directory, atomic_file, write_map, write_table, write_text_atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def half_written(data, target, **kwargs):
    """Stands for a library's writer that meets a full disk after its first bytes."""
    (target / "part" if target.is_dir() else target).write_text("half")
    no_space()


def write_and_fail(context, error):
    with context as partial:
        (partial / "chunk" if partial.is_dir() else partial).write_text("half")
        raise error


def test_a_file_appears_whole_and_leaves_no_temporary_name(tmp_path):
    path = tmp_path / "deep" / "er" / "a.json"
    with atomic_file(path) as partial:
        partial.write_text("new")
        assert partial.suffix == ".json" and partial.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error):
        write_and_fail(atomic_file(path), error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_exception_leaves_no_folder(tmp_path, error):
    with pytest.raises(error):
        write_and_fail(atomic_directory(tmp_path / "store"), error)
    assert names(tmp_path) == []


def test_an_exception_keeps_the_old_folder(tmp_path):
    store = tmp_path / "store"
    with atomic_directory(store) as partial:
        (partial / "old").write_text("old")
    with pytest.raises(ValueError, match="broken"):
        write_and_fail(atomic_directory(store), ValueError("broken"))
    assert names(tmp_path) == ["store"]
    assert names(store) == ["old"]


def test_a_folder_that_is_there_is_replaced_not_merged(tmp_path):
    store = tmp_path / "store"
    for name in ("old", "new"):
        with atomic_directory(store) as partial:
            (partial / name).write_text(name)
    assert names(store) == ["new"]
    assert names(tmp_path) == ["store"]


def test_the_old_folder_is_there_until_the_new_one_is_complete(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "old").write_text("old")
    with atomic_directory(store) as partial:
        (partial / "new").write_text("new")
        assert names(store) == ["old"]
    assert names(store) == ["new"]


def test_kill_leaves_no_target(tmp_path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from lmri.store.atomic import atomic_directory\n"
        "with atomic_directory(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'chunk').write_text('half')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    target = tmp_path / "store.zarr"
    command = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "writing\n"
        os.kill(job.pid, signal.SIGKILL)
    assert job.returncode == -signal.SIGKILL
    assert not target.exists()
    # What is left is hidden and not named like a store.
    assert all(name.startswith(".") and name.endswith(".partial") for name in names(tmp_path))


def test_a_full_disk_leaves_no_text(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_text", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_text_atomic(tmp_path / "a.json", "{}")
    assert names(tmp_path) == []


def test_a_full_disk_leaves_no_table(tmp_path, monkeypatch):
    monkeypatch.setattr(pd.DataFrame, "to_parquet", half_written)
    with pytest.raises(OSError, match="No space left"):
        write_table(tmp_path / "a.parquet", pd.DataFrame({"x": [1]}))
    assert names(tmp_path) == []


def test_a_full_disk_leaves_no_map(tmp_path, monkeypatch):
    monkeypatch.setattr(xr.Dataset, "to_zarr", half_written)
    with pytest.raises(OSError, match="No space left"):
        write_map(tmp_path / "a.zarr", xr.Dataset({"score": ("expert", [1.0])}))
    assert names(tmp_path) == []
