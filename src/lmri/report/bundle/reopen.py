"""Reading a bundle that somebody sent: checked before anything of it is used."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from lmri.config import StudyConfig
from lmri.errors import AlteredError, LmriError, StoreError
from lmri.report.bundle.export import FORMAT, SETTINGS, STUDY, SUMS
from lmri.report.write import write_report

MOST_BYTES = 4 << 30
"""A bundle holds no activations: what unpacks to more than this is none."""


def reopen_bundle(bundle: Path, out: Path) -> Path:
    """Write the report of a bundle.

    Parameters
    ----------
    bundle : Path
        The file that :func:`lmri.report.bundle.export.export_study` wrote.
    out : Path
        Folder of the report.

    Returns
    -------
    Path
        ``out/index.html``.

    Raises
    ------
    StoreError
        If it is no bundle, or of another version.
    AlteredError
        If a file of it is not as it was written.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _unpack(bundle, place)
        head = json.loads((place / SETTINGS).read_text(encoding="utf-8"))
        if head.get("schema") != FORMAT:
            raise StoreError(
                f"{bundle}: the 'schema' of a bundle must be '{FORMAT}'. Got "
                f"'{head.get('schema')}': open it with the version of lmri that wrote it."
            )
        config = StudyConfig.from_dict(head["study"], f"{SETTINGS} of {bundle}")
        return write_report(
            study=place / STUDY, out=out, config=config, provenance=head["provenance"]
        )


def _unpack(bundle: Path, folder: Path) -> None:
    try:
        archive = zipfile.ZipFile(bundle)
    except (OSError, zipfile.BadZipFile) as error:
        raise StoreError(f"{bundle}: not a bundle of a study ({error}).") from None
    with archive:
        names = [entry.filename for entry in archive.infolist()]
        if SUMS not in names or SETTINGS not in names:
            raise StoreError(f"{bundle}: not a bundle of a study (no '{SETTINGS}' in it).")
        if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
            raise StoreError(f"{bundle}: unpacks to more than {MOST_BYTES >> 30} GiB: no bundle.")
        sums = _sums(bundle, archive.read(SUMS).decode())
        if set(names) != {*sums, SUMS} or len(names) != len(set(names)):
            raise AlteredError(f"{bundle}: files were added or taken away since it was written.")
        for name, expected in sums.items():
            content = archive.read(name)
            if hashlib.sha256(content).hexdigest() != expected:
                raise AlteredError(f"{bundle}: '{name}' was changed since it was written.")
            path = folder / _inside(bundle, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _sums(bundle: Path, text: str) -> dict[str, str]:
    try:
        lines = [line.split("  ", 1) for line in text.splitlines()]
        return {name: digest for digest, name in lines}
    except ValueError:
        raise StoreError(f"{bundle}: '{SUMS}' cannot be read.") from None


def _inside(bundle: Path, name: str) -> PurePosixPath:
    """A name that stays in the folder it is unpacked to."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise LmriError(f"{bundle}: the name of a file leads out of the bundle: {name!r}.")
    return path
