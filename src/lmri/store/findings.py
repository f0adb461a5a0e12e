"""Findings: what a map predicts, fixed by a hash before anything is evaluated.

The schema of the file is in ``docs/artefacts.md``. A finding that was changed after it was written
is refused by :func:`read_finding`, so the primary endpoint, the control draws and the limits that
validation uses are those that were fixed beforehand.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from lmri.errors import AlteredError, StoreError
from lmri.store.atomic import write_text_atomic

SCHEMA = "lmri.finding/1"
STATUSES = ("testable", "null", "not_testable")
FIELDS = ("stage", "subject", "contrast", "phase", "kind", "method", "role", "status", "units")


def finding_hash(finding: dict) -> str:
    """Hash a finding: SHA-256 of its canonical JSON without the fields ``hash`` and ``written``.

    The time is left out so that the same study run again gives the same hash.

    Parameters
    ----------
    finding : dict
        The finding.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    content = {key: value for key, value in finding.items() if key not in {"hash", "written"}}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_finding(path: Path, finding: dict) -> dict:
    """Write a finding with the time and its hash.

    Parameters
    ----------
    path : Path
        The file to write.
    finding : dict
        The finding, without ``schema``, ``written`` and ``hash``.

    Returns
    -------
    dict
        The finding as written.

    Raises
    ------
    StoreError
        If a field is missing or the status is unknown.
    """
    finding = {
        "schema": SCHEMA,
        **finding,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _check_fields(path, finding)
    # Through JSON first, so that the hash is that of what a reader will see.
    finding = json.loads(json.dumps(finding, allow_nan=False))
    finding["hash"] = finding_hash(finding)
    write_text_atomic(path, json.dumps(finding, indent=1, allow_nan=False) + "\n")
    return finding


def read_finding(path: Path) -> dict:
    """Read a finding and refuse one that was changed since it was written.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        The finding.

    Raises
    ------
    StoreError
        If it is missing, unreadable or incomplete.
    AlteredError
        If its hash does not match its content.
    """
    try:
        finding = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path}: no such finding. Was the job that writes it finished?") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: not a readable finding ({error}). Localise again.") from None
    if not isinstance(finding, dict) or finding.get("schema") != SCHEMA:
        raise StoreError(f"{path}: the 'schema' of a finding must be '{SCHEMA}'.")
    _check_fields(path, finding)
    if finding.get("hash") != finding_hash(finding):
        raise AlteredError(
            f"{path}: the finding was changed after it was written (its hash does not match). "
            f"A finding is fixed before its evaluation: delete {path.parent.parent} and run again, "
            "so that the subject is localised anew."
        )
    return finding


def _check_fields(path: Path, finding: dict) -> None:
    missing = [field for field in FIELDS if field not in finding]
    if missing:
        raise StoreError(f"{path}: the finding lacks the field(s) {', '.join(missing)}.")
    if finding["status"] not in STATUSES:
        raise StoreError(
            f"{path}: the 'status' of a finding must be one of {', '.join(STATUSES)}. "
            f"Got {finding['status']!r}."
        )
