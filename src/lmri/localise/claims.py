"""The claims of a finding, stated before anything is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmri.config import ClaimOptions, ConditionOptions, ContrastOptions, EvidenceOptions
from lmri.intervene import Unit
from lmri.store.claims import (
    Claim,
    Cumulativity,
    Dose,
    Interference,
    Jointness,
    Necessity,
    Repair,
    Specificity,
    Sufficiency,
    Transfer,
    Where,
)

MOST_PARTS = 8
"""Units up to which each is switched off alone; of more, both halves are."""


@dataclass(frozen=True)
class Stated:
    """What the claims of one finding are about.

    Attributes
    ----------
    subject, kind, mode : str
        Subject, kind of the units, and what is done to them.
    ranked : sequence of tuple of int
        Units of the largest dose, from the best.
    doses : sequence of int
        Numbers of them.
    dose : int
        That of the primary endpoint.
    contrast : ContrastOptions
        The contrast.
    evidence : EvidenceOptions
        The rule of the verdict.
    needed : tuple of int
        Trials that each bystander needs.
    """

    subject: str
    kind: str
    mode: str
    ranked: Sequence[Unit]
    doses: Sequence[int]
    dose: int
    contrast: ContrastOptions
    evidence: EvidenceOptions
    needed: tuple[int, ...] = ()

    @property
    def target(self) -> Where:
        """Trials of the behaviour."""
        return Where(self.contrast.task, tuple(self.contrast.target))


def state_claims(stated: Stated, asked: Sequence[ClaimOptions]) -> list[dict]:
    """Write the claims of a finding: necessity first, then those that the study asks for.

    Parameters
    ----------
    stated : Stated
        What they are about.
    asked : sequence of ClaimOptions
        Of the study. A transfer without a place is left out where the contrast has none, and a
        claim of another subject in the findings of that subject itself.

    Returns
    -------
    list of dict
        As a finding holds them, see :mod:`lmri.store.claims`.
    """
    claims: list[Claim] = [Necessity(**_shared(stated))]
    for own in asked:
        if own.subject == stated.subject:
            continue
        claim = _STATED[own.kind](stated, own)
        if claim is not None:
            claims.append(claim)
    return [claim.to_dict() for claim in claims]


def _shared(stated: Stated, **changes: Any) -> dict[str, Any]:
    evidence = stated.evidence
    shared = {
        "unit_kind": stated.kind,
        "units": tuple(stated.ranked[: stated.dose]),
        "mode": stated.mode,
        "score": evidence.score,
        "margin": evidence.margin,
        "alpha": evidence.alpha,
        "trials": stated.target,
        "least": evidence.minimum_target_trials,
    }
    return {**shared, **changes}


def _specificity(stated: Stated, own: ClaimOptions) -> Claim:
    places = tuple(_where(place) for place in stated.contrast.bystanders)
    changes = {"score": "exact", "trials": places[0], "least": stated.evidence.minimum_trials}
    return Specificity(**_shared(stated, **changes), bystanders=places, needed=stated.needed)


def _sufficiency(stated: Stated, own: ClaimOptions) -> Claim:
    # A token must have as many experts to choose from as it takes: slots of others stay empty.
    return Sufficiency(**_shared(stated, mode="zero"))


def _dose(stated: Stated, own: ClaimOptions) -> Claim:
    return Dose(**_shared(stated, units=tuple(stated.ranked)), doses=tuple(stated.doses))


def _cumulativity(stated: Stated, own: ClaimOptions) -> Claim:
    units = tuple(stated.ranked)
    return Cumulativity(**_shared(stated, units=units), parts=(units[::2], units[1::2]))


def _jointness(stated: Stated, own: ClaimOptions) -> Claim:
    units = tuple(stated.ranked[: stated.dose])
    alone = tuple((unit,) for unit in units)
    parts = alone if len(units) <= MOST_PARTS else (units[::2], units[1::2])
    return Jointness(**_shared(stated), parts=parts)


def _interference(stated: Stated, own: ClaimOptions) -> Claim:
    changes = {"score": own.score or "exact", "least": stated.evidence.minimum_trials}
    return Interference(**_shared(stated, trials=_asked(own), **changes))


def _transfer(stated: Stated, own: ClaimOptions) -> Claim | None:
    place = stated.target if own.subject is not None else None
    if own.task is not None:
        place = _asked(own)
    elif own.subject is None and stated.contrast.transfer is not None:
        place = _where(stated.contrast.transfer)
    if place is None:
        return None
    return Transfer(
        **_shared(stated, trials=place, score=own.score or stated.evidence.score),
        source=stated.subject,
        subject=own.subject or stated.subject,
    )


def _repair(stated: Stated, own: ClaimOptions) -> Claim:
    return Repair(
        **_shared(
            stated,
            mode="force" if stated.kind == "expert" else "clamp",
            trials=stated.target if own.task is None else _asked(own),
            score=own.score or stated.evidence.score,
        ),
        source=stated.subject,
        source_trials=stated.target,
        subject=own.subject or stated.subject,
    )


def _asked(own: ClaimOptions) -> Where:
    return _where(ConditionOptions(own.task, own.condition))


def _where(place: ConditionOptions) -> Where:
    return Where(place.task, () if place.condition is None else (place.condition,))


_STATED = {
    "specificity": _specificity,
    "sufficiency": _sufficiency,
    "dose": _dose,
    "cumulativity": _cumulativity,
    "jointness": _jointness,
    "interference": _interference,
    "transfer": _transfer,
    "repair": _repair,
}
