"""The verdict on a finding, by the rule stored with it before the re-run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lmri.score import Effect
from lmri.validate.statistics import as_large, rank_p, sequential_p, within_margin

VERDICTS = ("confirmed", "refuted", "inconclusive", "not testable")


@dataclass(frozen=True)
class Evidence:
    """What the re-run of a primary endpoint gave.

    Attributes
    ----------
    effect : Effect
        Decrease of the score with the finding's units off.
    shams : list of float
        The same decrease under every sham map.
    bystanders : dict of str to Effect
        Change of every bystander's score.
    coherent : float
        Share of coherent responses with the units off.
    positive_control : Effect
        Decrease of the score under the positive control.
    sham_sets : int
        Different sets of units among the sham maps.
    absent : frozenset of str
        Bystanders with so few right answers intact, at most the margin, that none could be lost.
    """

    effect: Effect
    shams: list[float]
    bystanders: dict[str, Effect]
    coherent: float
    positive_control: Effect
    sham_sets: int
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Check:
    """One part of the rule."""

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """A verdict with every part of its rule.

    Attributes
    ----------
    verdict : str
        One of :data:`VERDICTS`.
    reason : str
        One sentence with its numbers.
    checks : list of Check
        Every part of the rule.
    p, p_corrected : float
        Rank p against the sham maps, and times the number of claims; NaN when not tested.
    """

    verdict: str
    reason: str
    checks: list[Check] = field(default_factory=list)
    p: float = float("nan")
    p_corrected: float = float("nan")


def not_testable(reason: str) -> Verdict:
    """Verdict on a finding that could not be tested.

    Parameters
    ----------
    reason : str
        Why not.

    Returns
    -------
    Verdict
        ``not testable``.
    """
    return Verdict("not testable", reason)


def decide(endpoint: dict, evidence: Evidence) -> Verdict:
    """Apply the rule of a primary endpoint.

    Confirmed: the effect is beyond the sham maps and beyond the margin, every bystander stays
    within the margin, and the responses are coherent. Refuted: the effect lies within the margin
    while the positive control, on the same trials, moves the behaviour beyond it; what else the
    units break does not matter to that, and the reason tells it. Otherwise inconclusive.

    Parameters
    ----------
    endpoint : dict
        ``primary_endpoint`` of the finding.
    evidence : Evidence
        What the re-run gave.

    Returns
    -------
    Verdict
        The verdict.
    """
    p = _sham_p(endpoint, evidence)
    corrected = min(1.0, p * endpoint["claims"])
    checks = [
        _sham_check(endpoint, evidence, p, corrected),
        _size_check(endpoint, evidence.effect),
        _bystander_check(endpoint, evidence.bystanders, evidence.absent),
        _coherence_check(endpoint, evidence.coherent),
    ]
    margin = endpoint["margin"]
    moved = evidence.positive_control.low > margin
    control = Check("positive control", moved, f"decrease {_interval(evidence.positive_control)}")
    verdict, reason = _word(checks, control, evidence, endpoint)
    return Verdict(verdict, reason, [*checks, control], p, corrected)


def stays(effect: Effect, endpoint: dict) -> bool:
    """Whether a bystander is shown to stay: enough trials, interval within the margin.

    Parameters
    ----------
    effect : Effect
        Change of the bystander's score.
    endpoint : dict
        ``primary_endpoint`` of the finding.

    Returns
    -------
    bool
        False also when there are too few trials to tell.
    """
    enough = effect.n >= endpoint["minimum_trials"]
    return enough and within_margin(effect, endpoint["margin"])


def _word(
    checks: list[Check], control: Check, evidence: Evidence, endpoint: dict
) -> tuple[str, str]:
    effect, margin = _interval(evidence.effect), endpoint["margin"]
    failed = [check for check in checks if not check.passed]
    if not failed:
        return "confirmed", (
            f"switching the units off lowers the behaviour by {effect}; {checks[0].detail}; "
            f"{checks[2].detail}"
        )
    if within_margin(evidence.effect, margin):
        same = _unchanged_by_carrier(evidence.effect)
        broken = _broken(checks, evidence, endpoint)
        if control.passed:
            return "refuted", (
                f"switching the units off changes the behaviour by {effect}, within the margin of "
                f"{margin:g}, while the positive control moves it ({control.detail}){same}{broken}"
            )
        return "inconclusive", (
            f"no effect ({effect}), but the positive control does not move the behaviour either "
            f"({control.detail}): the test could not have found one{same}{broken}"
        )
    problems = "; ".join(check.detail for check in failed)
    return "inconclusive", f"the behaviour falls by {effect}, but {problems}"


def _broken(checks: list[Check], evidence: Evidence, endpoint: dict) -> str:
    """What else the intervention did: a behaviour can be kept by a subject that is broken."""
    told = [] if checks[3].passed else [checks[3].detail]
    lost = {name: e for name, e in evidence.bystanders.items() if not stays(e, endpoint)}
    if lost:
        name = max(lost, key=lambda name: abs(lost[name].mean))
        told.append(
            f"{len(lost)} of {len(evidence.bystanders)} bystanders are not shown to stay, most "
            f"changed is {name} by {_interval(lost[name], sign='+')}"
        )
    return f"; not all else stays: {'; '.join(told)}" if told else ""


def _unchanged(effect: Effect) -> bool:
    return effect.mean == 0 and math.isfinite(effect.carrier_bound)


def _unchanged_by_carrier(effect: Effect) -> str:
    """What a sample without any change leaves open, see ``Resampler.effect``."""
    if not _unchanged(effect):
        return ""
    return (
        f"; it is unchanged in all {effect.n} trials of {effect.n_carriers} carriers: if the "
        f"trials of one carrier change together, changes up to {effect.carrier_bound:.2f} cannot "
        "be excluded"
    )


def _sham_p(endpoint: dict, evidence: Evidence) -> float:
    stop, effect = endpoint.get("stop_after"), evidence.effect.mean
    if stop is None:
        return rank_p(effect, evidence.shams)
    return sequential_p(effect, evidence.shams, stop)


def _sham_check(endpoint: dict, evidence: Evidence, p: float, corrected: float) -> Check:
    exceeded = as_large(evidence.effect.mean, evidence.shams)
    shams, claims, stop = len(evidence.shams), endpoint["claims"], endpoint.get("stop_after")
    detail = (
        f"{exceeded} of {shams} sham maps do as much ({evidence.sham_sets} different sets of "
        f"units; p = {p:.3g}, corrected for {claims} claims {corrected:.3g})"
    )
    if exceeded == stop:
        detail += f", where the draws end by the rule of {stop}"
    elif claims / (1 + shams) > endpoint["alpha"] + 1e-12:
        detail += (
            f", which could not be confirmed: the subject can be run without {shams} of the "
            f"{endpoint['shams']} sham maps asked for, too few for p to reach {endpoint['alpha']:g}"
        )
    return Check("beyond the sham maps", corrected <= endpoint["alpha"], detail)


def _size_check(endpoint: dict, effect: Effect) -> Check:
    beyond = effect.low > endpoint["margin"]
    detail = f"its interval {'lies' if beyond else 'does not lie'} beyond {endpoint['margin']:g}"
    return Check("beyond the margin", beyond, f"{detail}: {_interval(effect)}")


def _bystander_check(
    endpoint: dict, bystanders: dict[str, Effect], absent: frozenset[str]
) -> Check:
    problems = []
    for name, effect in bystanders.items():
        if effect.n < endpoint["minimum_trials"]:
            problems.append(f"{name} has {effect.n} trials, needed {endpoint['minimum_trials']}")
        elif not stays(effect, endpoint):
            problems.append(f"{name} changes by {_interval(effect, sign='+')}")
    there = {name: effect for name, effect in bystanders.items() if name not in absent}
    if bystanders and not there:
        problems.append(
            f"no bystander is there to be lost: intact at most {endpoint['margin']:g} is right in "
            f"each of {', '.join(bystanders)}"
        )
    detail = "; ".join(problems) or _all_stay(there, endpoint["margin"])
    if absent and not problems:
        detail += f"; nothing could be lost in {', '.join(sorted(absent))}"
    return Check("bystanders stay", not problems, detail)


def _all_stay(bystanders: dict[str, Effect], margin: float) -> str:
    text = f"all {len(bystanders)} bystanders stay within {margin:g}"
    same = [effect.carrier_bound for effect in bystanders.values() if _unchanged(effect)]
    if not same:
        return text
    return (
        f"{text}, {len(same)} of them unchanged in every trial (if the trials of one carrier "
        f"change together, changes up to {max(same):.2f} cannot be excluded)"
    )


def _coherence_check(endpoint: dict, share: float) -> Check:
    needed = endpoint["coherence"]["share"]
    detail = f"{share:.2f} of the responses are coherent, needed {needed:g}"
    return Check("responses are coherent", share >= needed, detail)


def _interval(effect: Effect, sign: str = "") -> str:
    # Rounded first and 0 added: no "-0.00".
    mean, low, high = (round(x, 2) + 0.0 for x in (effect.mean, effect.low, effect.high))
    if math.isnan(low):
        return f"{mean:{sign}.2f} (no interval)"
    return f"{mean:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"
