"""What a test of a claim gives, and the outcomes of all claims of a finding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmri.score import Effect
from lmri.store.claims import Claim
from lmri.validate.statistics import holm


@dataclass(frozen=True)
class Judged:
    """A claim that was put to its test, before it is corrected for the others.

    Attributes
    ----------
    claim : Claim
        The claim.
    reason : str
        What was found, with its numbers.
    effect : Effect or None
        In the direction that is claimed.
    p : float
        Of the hypothesis that the claim does not hold; the largest where several must be rejected.
    contrary : bool
        Whether an interval shows that it does not hold.
    untestable : bool
        Whether it could not be tested; ``reason`` says why.
    """

    claim: Claim
    reason: str
    effect: Effect | None = None
    p: float = math.nan
    contrary: bool = False
    untestable: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a claim.

    Attributes
    ----------
    judged : Judged
        Its test.
    outcome : str
        One of :data:`lmri.store.claims.OUTCOMES`.
    p_corrected : float
        Corrected for the claims of its family.
    family : str
        Which these are, in words.
    """

    judged: Judged
    outcome: str
    p_corrected: float
    family: str


def untestable(claim: Claim, reason: str) -> Judged:
    """Say why a claim could not be tested."""
    return Judged(claim, reason, untestable=True)


def outcomes(judged: Sequence[Judged], findings: int) -> list[Outcome]:
    """Correct the claims of a finding for each other and decide each.

    The primary family is what the verdict is made of. Necessity has its rank p times the primary
    claims of the study; specificity needs no correction, since all parts of a rule have to hold.
    The secondary claims are corrected by Holm within the finding, and times the findings of the
    study: together the chance that any false one of the study holds is at most alpha. A claim that
    was not testable is no test and does not count.

    Parameters
    ----------
    judged : sequence of Judged
        All claims of a finding.
    findings : int
        Findings of the study with a primary endpoint.

    Returns
    -------
    list of Outcome
        In the same order. A claim holds if its corrected p is at most its alpha, fails if an
        interval shows the contrary, and is undecided otherwise.
    """
    secondary = [own for own in judged if own.claim.family == "secondary" and not own.untestable]
    values = [min(1.0, p * findings) for p in holm([own.p for own in secondary])]
    corrected = dict(zip(map(id, secondary), values, strict=True))
    told = f"{len(secondary)} secondary claims (Holm) x {findings} findings"
    results = []
    for own in judged:
        if own.untestable:
            results.append(Outcome(own, "not testable", math.nan, own.claim.family))
        elif own.claim.family == "primary":
            times = findings if own.claim.kind == "necessity" else 1
            family = f"primary: rank p x {findings} findings" if times > 1 else "primary"
            results.append(_decided(own, min(1.0, own.p * times), family))
        else:
            results.append(_decided(own, corrected[id(own)], told))
    return results


def _decided(judged: Judged, p: float, family: str) -> Outcome:
    if judged.contrary:
        word = "fails"
    else:
        word = "holds" if p <= judged.claim.alpha + 1e-12 else "undecided"
    return Outcome(judged, word, p, family)


def told(effect: Effect) -> str:
    """Write an effect with its interval."""
    # Rounded first and 0 added: no "-0.00".
    mean, low, high = (round(x, 2) + 0.0 for x in (effect.mean, effect.low, effect.high))
    if math.isnan(low):
        return f"{mean:+.2f} (no interval)"
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
