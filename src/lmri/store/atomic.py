"""Writing so that a killed job leaves nothing that looks finished.

Everything is written to a temporary name beside its destination and renamed when complete. A
rename within one directory is atomic on POSIX file systems. The temporary name tells the
destination and the process that writes, so that the next writer of the same destination removes
what a killed one left behind, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmri.store.owners import Owner


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` when the block ends without an error.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made when missing.

    Yields
    ------
    Path
        Where to write; has the same suffix as ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path)
    partial = path.with_name(f"{partial_name(path)}{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends without an error.

    An existing ``path`` is replaced; it is removed only after the new one is complete.

    Parameters
    ----------
    path : Path
        The folder to write; its parent is made when missing.

    Yields
    ------
    Path
        An empty folder beside ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path)
    partial = path.with_name(partial_name(path))
    partial.mkdir()
    try:
        yield partial
        _replace_directory(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically.

    Parameters
    ----------
    path : Path
        The file to write.
    text : str
        Its content.
    """
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def partial_name(path: Path) -> str:
    """Return a temporary name for a path that tells who uses it.

    Parameters
    ----------
    path : Path
        The destination.

    Returns
    -------
    str
        Name of a hidden sibling, different at each call.
    """
    return f".{path.name}.{Owner.this().label()}.{uuid.uuid4().hex[:8]}.partial"


def remove_stale(path: Path) -> None:
    """Remove what killed processes of this host left of earlier attempts to write a path.

    What a live process writes stays, and so does all of another host: nobody here can tell whether
    that process still runs.

    Parameters
    ----------
    path : Path
        The destination.
    """
    start = f".{path.name}."
    for sibling in path.parent.iterdir():
        if not sibling.name.startswith(start):
            continue
        label = sibling.name.removeprefix(start).partition(".partial")[0].rpartition(".")[0]
        owner = Owner.parse(label)
        if owner is not None and owner.is_gone():
            if sibling.is_dir():
                shutil.rmtree(sibling, ignore_errors=True)
            else:
                sibling.unlink(missing_ok=True)


def _replace_directory(partial: Path, path: Path) -> None:
    # A non-empty directory cannot be the target of a rename: the old one steps aside first.
    if not path.exists():
        os.replace(partial, path)
        return
    aside = path.with_name(partial_name(path))
    os.replace(path, aside)
    os.replace(partial, path)
    shutil.rmtree(aside, ignore_errors=True)
