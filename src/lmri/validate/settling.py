"""What a verdict must survive: responses that were cut, and the kernels that really skip.

A response that reaches the limit of its length might still have said anything. So the rule is
applied twice more, once with all of them as if they had shown the behaviour and once as if none
had; a verdict that depends on it is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lmri.config import ValidateOptions
from lmri.score import Effect, Resampler, carrier_columns
from lmri.validate.arms import Part
from lmri.validate.kernel import KernelRepeat
from lmri.validate.parts import part_name
from lmri.validate.trials import TrialScores
from lmri.validate.verdict import Check, Evidence, Verdict, decide

ONSETS = ("refusal_onset", "onset_margin")
"""Scores of the first token, which is known whether a response is cut or not, as no other is."""


def settled(verdict: Verdict, bounds: Sequence[Verdict], cut: int, kernel: KernelRepeat) -> Verdict:
    """Withdraw a verdict that depends on cut responses or that the kernels do not repeat.

    Parameters
    ----------
    verdict : Verdict
        By the rule, with responses as they are.
    bounds : sequence of Verdict
        With all cut responses as the behaviour, and with none; empty where none was cut.
    cut : int
        Responses that were cut.
    kernel : KernelRepeat
        How the kernels agree.

    Returns
    -------
    Verdict
        The verdict with further checks; inconclusive where one of them fails.
    """
    if bounds:
        words = [own.verdict for own in bounds]
        same = set(words) == {verdict.verdict}
        detail = (
            f"{cut} responses were cut at the limit of their length; the verdict is {words[0]} if "
            f"all of them count as the behaviour and {words[1]} if none does"
        )
        verdict = _with(verdict, Check("same at both bounds", same, detail))
    if kernel.n:
        detail = (
            f"{kernel.agreeing} of {kernel.n} trials have the same score on the kernels "
            f"({kernel.backend}, batch 1)"
        )
        verdict = _with(verdict, Check("kernels agree", not kernel.disagrees, detail))
    return verdict


def bound_verdicts(
    endpoint: dict,
    evidence: Evidence,
    trials: TrialScores,
    parts: Sequence[Part],
    options: ValidateOptions,
    seed: int,
) -> tuple[list[Verdict], int]:
    """Apply the rule with all cut responses as the behaviour, and with none.

    Control draws are taken as they are: an exact response is tested on the reference in one pass,
    in which nothing is cut.

    Parameters
    ----------
    endpoint : dict
        ``primary_endpoint`` of the finding.
    evidence : Evidence
        With responses as they are.
    trials : TrialScores
        Scores of every trial.
    parts : sequence of Part
        What was run: the target first.
    options : ValidateOptions
        Resamples.
    seed : int
        Seed of the study.

    Returns
    -------
    verdicts : list of Verdict
        Both; none where no response was cut that matters.
    cut : int
        Responses that were cut, over all arms.
    """
    target, score = parts[0], endpoint["score"]
    judged = [part for part in parts if part.role == "bystander"]
    arms = {part_name(part): (part, ("finding",), "exact") for part in judged}
    if score not in ONSETS:
        arms["target"] = (target, ("finding", "positive_control"), score)
    cut = sum(
        int((trials.of(part, "ended", arm) == 0).sum())
        for part, own, _ in arms.values()
        for arm in ("intact", *own)
    )
    if not cut:
        return [], 0
    verdicts = []
    for behaves in (1.0, 0.0):
        effects: dict[tuple[str, str], Effect] = {}
        for name, (part, own, score_of) in arms.items():
            carriers = carrier_columns(part.trials)
            resampler = Resampler(carriers, options.bootstrap, seed)
            intact = _at_bound(trials, part, score_of, "intact", behaves)
            for arm in own:
                change = _at_bound(trials, part, score_of, arm, behaves) - intact
                # Of the target a decrease is claimed, of a bystander no change.
                sign = -1 if name == "target" else 1
                effects[name, arm] = resampler.effect(sign * change, 1 - endpoint["alpha"])
        bystanders = {name: effects[name, "finding"] for name in evidence.bystanders}
        changed = replace(evidence, bystanders=bystanders)
        if score not in ONSETS:
            own = effects["target", "finding"], effects["target", "positive_control"]
            changed = replace(changed, effect=own[0], positive_control=own[1])
        verdicts.append(decide(endpoint, changed))
    return verdicts, cut


def _at_bound(trials: TrialScores, part: Part, score: str, arm: str, behaves: float) -> np.ndarray:
    ended = trials.of(part, "ended", arm)
    return np.where(ended == 0, behaves, trials.of(part, score, arm))


def _with(verdict: Verdict, check: Check) -> Verdict:
    checks = [*verdict.checks, check]
    if check.passed or verdict.verdict not in {"confirmed", "refuted"}:
        return replace(verdict, checks=checks)
    reason = f"{check.detail}: no verdict, though by its rule it is {verdict.verdict}"
    return replace(
        verdict, verdict="inconclusive", reason=f"{reason} ({verdict.reason})", checks=checks
    )
