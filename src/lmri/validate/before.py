"""What is refused before any trial is run: rules that cannot be followed on what there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lmri.anatomy import Anatomy
from lmri.errors import EvidenceError, LmriError, StoreError
from lmri.intervene import Plan, check_plan
from lmri.score import carrier_columns
from lmri.store import read_table
from lmri.store.claims import Claim, Dose, Where
from lmri.store.stated import read_claims


def check_finding(finding: dict, path: Path, anatomy: Anatomy, stimuli: Path) -> list[Claim]:
    """Check that the rule of a finding can be followed, and read its claims.

    Parameters
    ----------
    finding : dict
        A finding with a primary endpoint.
    path : Path
        Where it is from; begins every message.
    anatomy : Anatomy
        Of its subject.
    stimuli : Path
        Folder with ``<task>.parquet``.

    Returns
    -------
    list of Claim
        Its claims; none of a finding that was written without.

    Raises
    ------
    StoreError
        If a unit does not exist, or a claim is malformed or of another subject.
    EvidenceError
        If there is no bystander, too few control draws for any p to be small enough, or carriers
        that are selected on and evaluated.
    """
    endpoint, claims = finding["primary_endpoint"], read_claims(finding, str(path))
    units = tuple(tuple(unit) for unit in endpoint["units"])
    _check_units(path, finding["kind"], units, anatomy)
    for claim in claims:
        _check_claim(path, claim, finding, anatomy)
    if not endpoint["bystanders"]:
        raise EvidenceError(
            f"{path}: the 'bystanders' of a primary endpoint must name at least one behaviour that "
            "is to stay. Got none: name some in the contrast, and localise again."
        )
    smallest = endpoint["claims"] / (1 + endpoint["shams"])
    if smallest > endpoint["alpha"] + 1e-12:
        needed = round(endpoint["claims"] / endpoint["alpha"]) - 1
        raise EvidenceError(
            f"{path}: the 'shams' of a primary endpoint must be at least {needed}, or no p over "
            f"{endpoint['claims']} claims reaches {endpoint['alpha']:g}. Got {endpoint['shams']}: "
            "raise 'evidence.shams', and localise again."
        )
    places = [Where(finding["task"], tuple(finding["secondary"]["target"]))]
    places += [claim.trials for claim in claims]
    for place in dict.fromkeys(replace(place, conditions=()) for place in places):
        _check_separate(path, place.task, stimuli)
    return claims


def _check_units(path: Path, kind: str, units: tuple, anatomy: Anatomy) -> None:
    # Whether they exist does not depend on what is done to them.
    for unit in units:
        try:
            check_plan(Plan("mask" if kind == "expert" else "flip", (unit,), kind), anatomy)
        except LmriError as error:
            raise StoreError(f"{path}: {error}") from None


def _check_claim(path: Path, claim: Claim, finding: dict, anatomy: Anatomy) -> None:
    source = getattr(claim, "source", finding["subject"])
    if source != finding["subject"]:
        raise StoreError(
            f"{path}: the 'source' of the claim '{claim.name}' must be the finding's subject "
            f"'{finding['subject']}'. Got '{source}'."
        )
    if claim.split != "evaluation":
        raise EvidenceError(
            f"{path}: the 'split' of the claim '{claim.name}' must be 'evaluation': nothing is "
            f"tested on trials that it was chosen on. Got '{claim.split}'."
        )
    _check_units(path, claim.unit_kind, claim.units, anatomy)
    if isinstance(claim, Dose) and claim.doses and max(claim.doses) > len(claim.units):
        raise StoreError(
            f"{path}: the 'doses' of the claim '{claim.name}' must be at most its "
            f"{len(claim.units)} units. Got {max(claim.doses)}."
        )


def _check_separate(path: Path, task: str, stimuli: Path) -> None:
    table = read_table(stimuli / f"{task}.parquet", ("trial", "split"))
    by_split = {name: table[table["split"] == name] for name in ("selection", "evaluation")}
    for column in ["trial", *carrier_columns(table)]:
        both = set.intersection(*(set(own[column]) for own in by_split.values()))
        if both:
            raise EvidenceError(
                f"{path}: the trials of '{task}' that are evaluated must share no "
                f"{column.removeprefix('carrier_')} with those it was selected on. Got "
                f"{min(both)!r} in both: make the stimuli again with separate splits."
            )
