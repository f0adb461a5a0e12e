"""The rule of each kind of claim, as a function of changes: nothing is run here.

Changes are counted in the direction that is claimed. Where several parts must hold, the p of the
claim is the largest of theirs (intersection-union), so that no correction between them is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np

from lmri.store.claims import (
    Cumulativity,
    Dose,
    Interference,
    Jointness,
    Necessity,
    Repair,
    Specificity,
    Sufficiency,
    Transfer,
)
from lmri.validate.change import Change
from lmri.validate.claims.judging import Judged, told, untestable
from lmri.validate.statistics import as_large, rank_p
from lmri.validate.verdict import Evidence, Verdict


def judge_necessity(claim: Necessity, verdict: Verdict, evidence: Evidence) -> Judged:
    """Read the claim off the primary endpoint, which is tested as ever.

    Parameters
    ----------
    claim : Necessity
        The claim.
    verdict : Verdict
        By the rule alone, with its checks.
    evidence : Evidence
        What the rule was applied to.

    Returns
    -------
    Judged
        It holds if the effect is beyond the sham maps and the margin and responses are coherent:
        what a confirmed verdict needs beside the bystanders. It fails if the verdict is refuted.
    """
    parts = [check for check in verdict.checks if check.check not in NOT_NECESSITY]
    failed = [check.detail for check in parts if not check.passed]
    reason = "; ".join(failed or [check.detail for check in parts])
    # A part without a p of its own that fails leaves the claim open, however small the rank p is.
    p = verdict.p if all(check.passed for check in parts[1:]) else 1.0
    return Judged(claim, reason, evidence.effect, p, contrary=verdict.verdict == "refuted")


NOT_NECESSITY = ("bystanders stay", "positive control")
"""Checks of the verdict that are not part of the claim of necessity."""


def judge_specificity(
    claim: Specificity, changes: Mapping[str, Change], absent: Collection[str] = ()
) -> Judged:
    """Test that every bystander stays within the margin.

    Parameters
    ----------
    claim : Specificity
        The claim.
    changes : mapping of str to Change
        Change of every bystander, by its name.
    absent : collection of str
        Bystanders with so little intact, at most the margin, that nothing could be lost.

    Returns
    -------
    Judged
        The effect is that of the bystander that changed most.
    """
    effects = {name: change.effect for name, change in changes.items()}
    out = [name for name, own in effects.items() if _outside(own.low, own.high, claim.margin)]
    needed = claim.needed or (claim.least,) * len(changes)
    for (name, effect), own in zip(effects.items(), needed, strict=True):
        # What is seen to change is seen with any number of trials.
        least = claim.least if out else max(own, claim.least)
        if effect.n < least:
            return untestable(
                claim, f"{name} has {effect.n} trials; the margin of {claim.margin:g} needs {least}"
            )
    worst = max(effects, key=lambda name: abs(effects[name].mean))
    p = max(change.p_within(claim.margin) for change in changes.values())
    reason = f"most changed of {len(changes)} is {worst}: {told(effects[worst])}"
    if out:
        reason += f"; beyond the margin: {', '.join(out)}"
    elif len(absent) == len(changes):
        return untestable(claim, f"intact no bystander is there to be lost: {', '.join(changes)}")
    elif absent:
        reason += f"; nothing could be lost in {', '.join(sorted(absent))}"
    return Judged(claim, reason, effects[worst], p, contrary=bool(out))


def judge_sufficiency(
    claim: Sufficiency, lost: Change, kept: float, intact: float, shams: Sequence[float]
) -> Judged:
    """Test that the behaviour stays with only these units, as it does not with sham maps'.

    Parameters
    ----------
    claim : Sufficiency
        The claim.
    lost : Change
        Intact minus only these kept.
    kept, intact : float
        Mean scores.
    shams : sequence of float
        Mean score with only the units of each sham map kept.

    Returns
    -------
    Judged
        The result.
    """
    if intact <= claim.margin:
        return untestable(claim, f"the behaviour is not there intact ({intact:.2f})")
    effect = lost.effect
    p = max(lost.p_below(claim.margin), rank_p(kept, shams))
    reason = (
        f"{kept:.2f} is kept of {intact:.2f} (falls by {told(effect)}); {as_large(kept, shams)} of "
        f"{len(shams)} sham maps keep as much"
    )
    return Judged(claim, reason, effect, p, contrary=effect.low > claim.margin)


def judge_dose(claim: Dose, changes: Sequence[Change], left: Sequence[float]) -> Judged:
    """Test that more units do more.

    Parameters
    ----------
    claim : Dose
        The claim.
    changes : sequence of Change
        Decrease at every dose, from the smallest.
    left : sequence of float
        Mean score at every dose.

    Returns
    -------
    Judged
        The effect is what the last dose does beyond the first.
    """
    if len(changes) < 2:
        return untestable(claim, "there is one dose only")
    if left[0] <= claim.margin:
        return untestable(
            claim,
            f"the first dose leaves {left[0]:.2f}, within the margin: no more can be done",
        )
    steps = [after - before for before, after in pairwise(changes)]
    gain = changes[-1] - changes[0]
    effect, back = gain.effect, [step.effect for step in steps]
    p = max([gain.p_above(0.0), *(step.p_above(-claim.margin) for step in steps)])
    risen = any(step.high < -claim.margin for step in back)
    levels = ", ".join(
        f"{value:.2f} with {dose}" for dose, value in zip(claim.doses, left, strict=True)
    )
    reason = f"{levels}; from first to last it falls by {told(effect)}"
    within = -claim.margin < effect.low and effect.high < claim.margin
    return Judged(claim, reason, effect, p, contrary=risen or effect.high < 0 or within)


def judge_cumulativity(claim: Cumulativity, whole: Change, parts: Sequence[Change]) -> Judged:
    """Test that all units do more than either half.

    Parameters
    ----------
    claim : Cumulativity
        The claim.
    whole : Change
        Decrease with all off.
    parts : sequence of Change
        Decrease with each half off.

    Returns
    -------
    Judged
        The effect is what all do beyond the better half.
    """
    if any(not part for part in claim.parts):
        return untestable(claim, "one unit has no halves")
    gains = [whole - part for part in parts]
    effects = [gain.effect for gain in gains]
    p = max(gain.p_above(claim.margin) for gain in gains)
    least = min(effects, key=lambda effect: effect.mean)
    alone = ", ".join(told(part.effect) for part in parts)
    reason = f"all off: {told(whole.effect)}; halves: {alone}"
    contrary = any(effect.high < claim.margin for effect in effects)
    return Judged(claim, reason, least, p, contrary=contrary)


def judge_jointness(claim: Jointness, together: Change, alone: Sequence[Change]) -> Judged:
    """Test that no part does anything alone and that together they do.

    Parameters
    ----------
    claim : Jointness
        The claim.
    together : Change
        Decrease with all off.
    alone : sequence of Change
        Decrease with each part off.

    Returns
    -------
    Judged
        The effect is that of all parts together.
    """
    if len(claim.parts) < 2:
        return untestable(claim, "one unit stands in for no other")
    effects = [change.effect for change in alone]
    p = max(together.p_above(claim.margin), *(own.p_within(claim.margin) for own in alone))
    most = max(effects, key=lambda effect: abs(effect.mean))
    reason = f"together {told(together.effect)}; alone at most {told(most)}"
    outside = any(_outside(own.low, own.high, claim.margin) for own in effects)
    contrary = outside or together.effect.high < claim.margin
    return Judged(claim, reason, together.effect, p, contrary=contrary)


def judge_interference(claim: Interference, rise: Change, intact: float) -> Judged:
    """Test that another behaviour improves.

    Parameters
    ----------
    claim : Interference
        The claim.
    rise : Change
        Increase with the units off.
    intact : float
        Mean score intact.

    Returns
    -------
    Judged
        The result.
    """
    if rise.is_rate and intact >= 1 - claim.margin:
        return untestable(claim, f"it is at {intact:.2f} intact: there is no room to improve")
    effect = rise.effect
    reason = f"{intact:.2f} intact, rises by {told(effect)}"
    p = rise.p_above(claim.margin)
    return Judged(claim, reason, effect, p, contrary=effect.high < claim.margin)


def judge_transfer(claim: Transfer, drop: Change, intact: float, shams: Sequence[float]) -> Judged:
    """Test that the units do elsewhere what they do where they were found.

    Parameters
    ----------
    claim : Transfer
        The claim.
    drop : Change
        Decrease there.
    intact : float
        Mean score there, intact.
    shams : sequence of float
        Decrease under every sham map.

    Returns
    -------
    Judged
        The result.
    """
    if drop.is_rate and intact <= claim.margin:
        return untestable(claim, f"the behaviour is not there intact ({intact:.2f})")
    return _beyond(claim, drop, f"{intact:.2f} intact, falls by", shams)


def judge_repair(claim: Repair, rise: Change, intact: float, shams: Sequence[float]) -> Judged:
    """Test that clamped units bring the behaviour where it is not.

    Parameters
    ----------
    claim : Repair
        The claim.
    rise : Change
        Increase with the units clamped.
    intact : float
        Mean score intact.
    shams : sequence of float
        Increase with the units of every sham map clamped.

    Returns
    -------
    Judged
        The result.
    """
    if rise.is_rate and intact >= 1 - claim.margin:
        return untestable(claim, f"it is at {intact:.2f} intact: there is nothing to mend")
    return _beyond(claim, rise, f"{intact:.2f} intact, rises by", shams)


def _beyond(claim: Transfer | Repair, change: Change, lead: str, shams: Sequence[float]) -> Judged:
    """Test an effect against the margin and against sham maps."""
    effect = change.effect
    p = max(change.p_above(claim.margin), rank_p(effect.mean, shams))
    as_much = as_large(effect.mean, shams)
    reason = f"{lead} {told(effect)}; {as_much} of {len(shams)} sham maps do as much"
    contrary = bool(np.isfinite(effect.high)) and effect.high < claim.margin
    return Judged(claim, reason, effect, p, contrary=contrary)


def _outside(low: float, high: float, margin: float) -> bool:
    return low > margin or high < -margin
