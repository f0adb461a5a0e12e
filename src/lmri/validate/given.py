"""What a validation is given: findings, checked, and the subject as each of them needs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lmri.anatomy import Subject, read_dictionary, with_dictionary
from lmri.checks import check_choice, quoted
from lmri.errors import ScoreError, StoreError
from lmri.intervene import KINDS
from lmri.score import Scorer
from lmri.store import read_finding


def read_findings(folder: Path, subject: str) -> dict[Path, dict]:
    """Read all findings of a subject.

    Parameters
    ----------
    folder : Path
        With ``<contrast>.<phase>/<kind>.<method>.json``.
    subject : str
        Whose they must be.

    Returns
    -------
    dict of Path to dict
        The findings by their files, in order.

    Raises
    ------
    StoreError
        If there is none, or one was changed, belongs to another subject, or is to be tested and
        names units that cannot be intervened on.
    """
    found = {path: _read(path, subject) for path in sorted(folder.glob("*/*.json"))}
    if not found:
        raise StoreError(f"{folder}: no finding. Localise before validating.")
    return found


def _read(path: Path, subject: str) -> dict:
    finding = read_finding(path)
    if finding["subject"] != subject:
        raise StoreError(
            f"{path}: the 'subject' of the finding must be '{subject}'. Got '{finding['subject']}'."
        )
    kind = finding["kind"]
    if finding["status"] == "testable":
        check_choice(kind, KINDS, "kind", f"the finding {path}", StoreError)
    names = KINDS[kind].names if kind in KINDS else ()
    if any(name not in unit for unit in finding["units"] for name in names):
        raise StoreError(
            f"{path}: the 'units' of a finding of kind '{kind}' must name their "
            f"{', '.join(names)}. Localise again."
        )
    return finding


def check_scorers(findings: Mapping[Path, dict], scorers: Mapping[str, Scorer]) -> None:
    """Check that what decides is what the findings were made with.

    Parameters
    ----------
    findings : mapping of Path to dict
        The findings by their files.
    scorers : mapping of str to Scorer
        Scorers that decide beside the scores of every response.

    Raises
    ------
    ScoreError
        If a finding names other scorers, or other versions of what they go by.
    """
    now = {name: own.version for name, own in scorers.items()}
    for path, finding in findings.items():
        then = finding.get("scorers", {})
        if "primary_endpoint" in finding and then != now:
            raise ScoreError(
                f"{path}: the 'scorers' of a finding must be those of the study, {_listed(now)}. "
                f"Got {_listed(then)}: localise again."
            )


def _listed(versions: Mapping[str, str]) -> str:
    return quoted(f"{name} {version}".strip() for name, version in versions.items())


def fitted_subject(subject: Subject, finding: dict) -> Subject:
    """Give the subject the dictionary that a finding about features was made with.

    Parameters
    ----------
    subject : Subject
        The subject.
    finding : dict
        The finding.

    Returns
    -------
    Subject
        The same, or one with the dictionary.

    Raises
    ------
    StoreError
        If the file of the dictionary is another one than then.
    """
    named = finding.get("dictionary")
    if named is None or finding["status"] != "testable":
        return subject
    dictionary = read_dictionary(Path(named["path"]), subject)
    if dictionary.sha256 != named["sha256"]:
        raise StoreError(
            f"{named['path']}: the 'dictionary' of the finding on '{finding['contrast']}' must be "
            f"the file that it was made with (sha256 {named['sha256'][:12]}). Got "
            f"{dictionary.sha256[:12]}: bring the file back, or localise again."
        )
    return with_dictionary(subject, dictionary)
