"""Writing so that a killed job leaves nothing that looks finished.

Everything is written to a temporary name beside its destination and renamed when complete. A
rename within one directory is atomic on POSIX file systems.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    partial = path.with_name(f".{uuid.uuid4().hex}.partial{path.suffix}")
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
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
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


def _replace_directory(partial: Path, path: Path) -> None:
    # A non-empty directory cannot be the target of a rename: the old one steps aside first.
    if not path.exists():
        os.replace(partial, path)
        return
    aside = path.with_name(f".{uuid.uuid4().hex}.partial")
    os.replace(path, aside)
    os.replace(partial, path)
    shutil.rmtree(aside, ignore_errors=True)
