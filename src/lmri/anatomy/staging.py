"""Weights copied once to a disk of the node that reads them, where a shared file system is slow.

The environment variable ``LMRI_SCRATCH`` names a folder of the node; without it nothing is copied.
Every job that loads a subject reads its weights twice, once to compare them with their hashes: on
the disk of the node the second reading, and those of later jobs there, cost the network nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from lmri.errors import SubjectError
from lmri.store.atomic import partial_name, remove_stale

VARIABLE = "LMRI_SCRATCH"
"""Names the folder; variables in its value are those of the job, such as ``$TMPDIR``."""


def stage_weights(folder: Path, files: Mapping[str, str]) -> Path:
    """Copy the files of a subject to the disk of this node, unless they are there.

    Parameters
    ----------
    folder : Path
        Where they are.
    files : mapping of str to str
        Their names and SHA-256, as the pointer of the subject has them. What is copied is not
        compared here: whoever loads it does so.

    Returns
    -------
    Path
        Where to read them: ``folder`` itself when no scratch is named, it is full, or the files are
        not those expected.

    Raises
    ------
    SubjectError
        If the folder of copies belongs to somebody else, who could change them.
    """
    scratch = os.path.expandvars(os.environ.get(VARIABLE, ""))
    if not scratch or not all((folder / name).is_file() for name in files):
        return folder
    digest = hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()
    place = _private(Path(scratch) / f"lmri-{os.getuid()}") / digest[:16]
    if place.is_dir():
        return place
    remove_stale(place)
    partial = place.with_name(partial_name(place))
    try:
        partial.mkdir()
        for name in files:
            shutil.copyfile(folder / name, partial / name)
        os.rename(partial, place)
    except OSError:
        # The disk is full, or another job was first: its copy is as good.
        return place if place.is_dir() else folder
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def _private(own: Path) -> Path:
    try:
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = own.lstat()
    except OSError as error:
        raise SubjectError(
            f"{VARIABLE} must name a folder of the node that can be written to. Got "
            f"'{own.parent}' ({error.strerror})."
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise SubjectError(
            f"{own}: copies of weights must be in a folder that only you can write to. Remove it, "
            f"or name another place in {VARIABLE}."
        )
    return own
