"""How many trials an equivalence test needs, told before any of them is run.

A bystander stays if the interval of its change lies within the margin. With too few trials no
interval does, whatever the subject does: such a test cannot be passed and should not be run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy.stats import norm

from lmri.anatomy import Subject, encode
from lmri.config import ConditionOptions, ContrastOptions, EvidenceOptions
from lmri.intervene import INTACT, Plan, says_exactly
from lmri.localise.endpoint import ROWS, condition_trials, trial_prompts

POWER = 0.8
"""Chance that a subject without any change on average passes."""

SHARES = (0.0, 0.05, 0.1, 0.25, 1.0)
"""Shares of trials that change, half of them each way, for which the planner tells a number."""


def needed_trials(variance: float, margin: float, alpha: float, power: float = POWER) -> int:
    """Count the trials that an equivalence test within a margin needs.

    ``n = (z(1 - alpha / 2) + z((1 + power) / 2))^2 variance / margin^2``, and at least as many as
    let the interval of an unchanged sample lie within the margin, ``(1 - margin)^n <= alpha / 2``.
    The change is taken to be 0 on average and trials to be independent: trials that share carriers
    need more.

    Parameters
    ----------
    variance : float
        Of the paired difference of a trial; of a rate at most 1.
    margin : float
        Half-width of the region of equivalence.
    alpha : float
        One minus the confidence of the two-sided interval.
    power : float
        Chance to pass.

    Returns
    -------
    int
        Trials.
    """
    reach = norm.isf(alpha / 2) + norm.isf((1 - power) / 2)
    varied = math.ceil(reach**2 * variance / margin**2)
    unchanged = math.ceil(math.log(alpha / 2) / math.log1p(-margin))
    return max(varied, unchanged)


def calibrated_needs(
    subject: Subject,
    plan: Plan,
    contrast: ContrastOptions,
    stimuli: Mapping[str, pd.DataFrame],
    evidence: EvidenceOptions,
    max_new_tokens: int,
) -> list[int]:
    """Count the trials that each bystander needs, from how its calibration trials change.

    Parameters
    ----------
    subject : Subject
        The subject.
    plan : Plan
        The finding's units off.
    contrast : ContrastOptions
        The contrast, for its bystanders.
    stimuli : mapping of str to DataFrame
        Stimuli of every task.
    evidence : EvidenceOptions
        Margin and level.
    max_new_tokens : int
        Limit of the responses.

    Returns
    -------
    list of int
        One for each bystander; the least that any needs where it has no calibration trial.
    """
    needs = []
    for place in contrast.bystanders:
        trials = condition_trials(dict(stimuli), place.task, place.condition, "calibration")
        variance = 0.0
        if len(trials):
            variance = float(np.mean(_changes(subject, plan, trials, max_new_tokens) ** 2))
        needs.append(needed_trials(variance, evidence.margin, evidence.alpha))
    return needs


def plan_lines(
    contrast: ContrastOptions, stimuli: Mapping[str, pd.DataFrame], evidence: EvidenceOptions
) -> Iterator[str]:
    """Say which trials the bystanders of a hypothesis need, and which they have.

    Parameters
    ----------
    contrast : ContrastOptions
        The hypothesis.
    stimuli : mapping of str to DataFrame
        Stimuli of every task.
    evidence : EvidenceOptions
        Margin and level.

    Yields
    ------
    str
        A word, then what it stands for.
    """
    margin, alpha = evidence.margin, evidence.alpha
    needs = ", ".join(
        f"{needed_trials(share, margin, alpha)} if {share:.0%} change" for share in SHARES
    )
    yield f"planner    {contrast.name}: to stay within {margin:g} a bystander needs {needs}"
    for place in contrast.bystanders:
        count = len(condition_trials(dict(stimuli), place.task, place.condition, "evaluation"))
        yield f"           {_name(place)}: {count} evaluation trials, {_enough(count, evidence)}"


def _enough(count: int, evidence: EvidenceOptions) -> str:
    least = max(needed_trials(0.0, evidence.margin, evidence.alpha), evidence.minimum_trials)
    if count < least:
        return f"not testable: at least {least} are needed"
    shares = np.arange(0, 1.005, 0.01)
    fit = [s for s in shares if needed_trials(s, evidence.margin, evidence.alpha) <= count]
    return f"enough if at most {max(fit):.0%} of them change"


def _name(place: ConditionOptions) -> str:
    return place.task if place.condition is None else f"{place.task}, {place.condition}"


def _changes(subject: Subject, plan: Plan, trials: pd.DataFrame, max_new_tokens: int) -> np.ndarray:
    """Change of the exact response of every trial, of shape (n_trials,)."""
    tokenizer, prompts = subject.tokenizer, trial_prompts(subject, trials, max_new_tokens)
    references = [
        [*encode(tokenizer, row.reference, f"reference of {row.trial!r}"), tokenizer.eos_token_id]
        for row in trials.itertuples()
    ]
    exact = says_exactly(
        subject,
        prompts * 2,
        references * 2,
        plans=[INTACT, plan],
        plan_of_row=np.repeat([0, 1], len(trials)),
        rows=ROWS,
    )
    intact, off = exact.astype(np.float64).reshape(2, -1)
    return off - intact
