"""The primary endpoint: what validation will test, chosen on calibration trials alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lmri.anatomy import Subject, prompt_room, render_trials
from lmri.config import ConditionOptions, ContrastOptions, EvidenceOptions
from lmri.errors import EvidenceError, LmriError
from lmri.intervene import (
    INTACT,
    Plan,
    Unit,
    Values,
    check_plan,
    feasible,
    most_new_tokens,
    respond,
)
from lmri.score import (
    Scorer,
    coherent,
    longest_run,
    onset_tokens,
    response_log_probability,
    score_responses,
)

SLACK = 2.0
"""Nats per token that a coherent response may fall below the least likely intact ones."""

LEAST_REPEATS = 3
"""A run of one token up to this long is never called incoherent."""

ROWS = 256


def baseline_check(
    trials: pd.DataFrame, contrast: ContrastOptions, evidence: EvidenceOptions
) -> tuple[list[dict], str]:
    """Check that the behaviour is there before asking what carries it.

    Parameters
    ----------
    trials : DataFrame
        Recorded trials with scores (selection and calibration).
    contrast : ContrastOptions
        Its target and control conditions.
    evidence : EvidenceOptions
        The score and its limits.

    Returns
    -------
    baseline : list of dict
        ``condition``, ``n`` and mean ``score``.
    reason : str
        Empty when the behaviour is at least ``baseline_target`` in every target condition and at
        most ``baseline_control`` in every control condition; else what is wrong.
    """
    rows, problems = [], []
    for condition in (*contrast.target, *contrast.controls):
        own = trials[trials["condition"] == condition].groupby("trial")[evidence.score].mean()
        rows.append({"condition": condition, "n": len(own), "score": float(own.mean())})
        is_target = condition in contrast.target
        if is_target and own.mean() < evidence.baseline_target:
            problems.append(f"{condition} {own.mean():.2f} < {evidence.baseline_target}")
        if not is_target and own.mean() > evidence.baseline_control:
            problems.append(f"{condition} {own.mean():.2f} > {evidence.baseline_control}")
    reason = (
        f"the behaviour is not there: {evidence.score} {'; '.join(problems)}" if problems else ""
    )
    return rows, reason


def size_check(
    stimuli: dict[str, pd.DataFrame], contrast: ContrastOptions, evidence: EvidenceOptions
) -> str:
    """Check that the evaluation sets are large enough for the margin.

    Parameters
    ----------
    stimuli : dict of str to DataFrame
        Stimuli of every task; only their number in the evaluation split is looked at.
    contrast : ContrastOptions
        Its target and bystanders.
    evidence : EvidenceOptions
        The smallest numbers.

    Returns
    -------
    str
        Empty when large enough; else which set is too small and how many trials it needs.
    """
    needs = [
        (ConditionOptions(contrast.task, c), evidence.minimum_target_trials)
        for c in contrast.target
    ]
    needs += [(bystander, evidence.minimum_trials) for bystander in contrast.bystanders]
    for part, least in needs:
        count = len(condition_trials(stimuli, part.task, part.condition, "evaluation"))
        if count < least:
            name = part.task if part.condition is None else f"{part.task}, {part.condition}"
            return f"too few evaluation trials of {name}: {count}, needed are {least}"
    return ""


def condition_trials(
    stimuli: dict[str, pd.DataFrame], task: str, condition: str | None, split: str
) -> pd.DataFrame:
    """Trials of a condition (of all when None) in a split.

    Parameters
    ----------
    stimuli : dict of str to DataFrame
        Stimuli of every task.
    task : str
        The task.
    condition : str or None
        The condition.
    split : str
        The split.

    Returns
    -------
    DataFrame
        The trials, numbered from 0.
    """
    table = stimuli[task]
    keep = table["split"] == split
    if condition is not None:
        keep &= table["condition"] == condition
    return table[keep].reset_index(drop=True)


def calibrate_dose(
    subject: Subject,
    ranked: Sequence[Unit],
    doses: Sequence[int],
    trials: pd.DataFrame,
    evidence: EvidenceOptions,
    limits: dict[str, float],
    max_new_tokens: int,
    *,
    kind: str = "expert",
    mode: str | None = None,
    values: Values | None = None,
    scorers: Mapping[str, Scorer] | None = None,
) -> tuple[int, list[dict]]:
    """Choose the smallest dose that reaches the target effect on calibration trials.

    Where none reaches it, the largest dose puts the claim to the hardest test. But a subject that
    no longer speaks tests little: the largest is taken among the doses under which the responses
    to the same trials are coherent, if there is one.

    Parameters
    ----------
    subject : Subject
        The subject.
    ranked : sequence of tuple of int
        Units from the best.
    doses : sequence of int
        Numbers of units to try, from the smallest.
    trials : DataFrame
        Calibration trials of the target conditions.
    evidence : EvidenceOptions
        Score, mode of experts and target effect.
    limits : dict
        Limits of coherence, see :func:`coherence_limits`.
    max_new_tokens : int
        Limit of the responses.
    kind : str
        Kind of the units.
    mode : str, optional
        What is done to them; by default the mode of ``evidence``.
    values : mapping of tuple of int to sequence of float, optional
        Numbers of the units, for the modes that need any.
    scorers : mapping of str to Scorer, optional
        Scorers that decide beside the scores of every response.

    Returns
    -------
    dose : int
        The chosen one, see :func:`choose_dose`.
    calibration : list of dict
        ``dose``, ``n``, ``effect`` (decrease of the score) and ``coherent`` (share of the
        responses) of every feasible dose.

    Raises
    ------
    EvidenceError
        If the subject can carry out none of the doses, with what stands against the first.
    """
    mode = mode or evidence.mode
    asked = {d: Plan.of(mode, ranked[:d], kind, values) for d in doses}
    plans = {d: plan for d, plan in asked.items() if feasible(plan, subject.anatomy)}
    if not plans:
        raise EvidenceError(
            f"The 'doses' of the evidence must have one that subject '{subject.name}' can carry "
            f"out in the mode '{mode}'. Got {list(doses)}: {_obstacle(asked[doses[0]], subject)}"
        )
    arms = [INTACT, *plans.values()]
    repeated = pd.concat([trials] * len(arms), ignore_index=True)
    sizes = len(trials), limits, max_new_tokens
    scored = score_arms(subject, repeated, arms, *sizes, scorers)
    means = scored[[evidence.score, "coherent"]].to_numpy().reshape(len(arms), len(trials), 2)
    (intact, _), *rest = means.mean(axis=1)
    calibration = [
        {"dose": d, "n": len(trials), "effect": float(intact - value), "coherent": float(share)}
        for d, (value, share) in zip(plans, rest, strict=True)
    ]
    return choose_dose(calibration, evidence.target_effect, limits["share"]), calibration


def _obstacle(plan: Plan, subject: Subject) -> str:
    try:
        check_plan(plan, subject.anatomy)
    except LmriError as error:
        return str(error)
    return ""


def choose_dose(calibration: list[dict], target_effect: float, share: float) -> int:
    """Choose a dose from what each did on calibration trials.

    Parameters
    ----------
    calibration : list of dict
        ``dose``, ``effect`` and ``coherent`` of every feasible dose, from the smallest.
    target_effect : float
        Effect to reach.
    share : float
        Share of coherent responses that is needed where no dose reaches it.

    Returns
    -------
    int
        The smallest dose that reaches the effect; else the largest that is coherent; else the
        largest.
    """
    for row in calibration:
        if row["effect"] >= target_effect:
            return row["dose"]
    speaking = [row for row in calibration if row["coherent"] >= share]
    return (speaking or calibration)[-1]["dose"]


def score_arms(
    subject: Subject,
    trials: pd.DataFrame,
    plans: Sequence[Plan],
    per_plan: int,
    limits: dict[str, float],
    max_new_tokens: int,
    scorers: Mapping[str, Scorer] | None = None,
) -> pd.DataFrame:
    """Respond to trials under plans and score the responses.

    Parameters
    ----------
    subject : Subject
        The subject.
    trials : DataFrame
        The trials of every plan, one plan after another.
    plans : sequence of Plan
        The plans.
    per_plan : int
        Trials of each plan.
    limits : dict
        Limits of coherence.
    max_new_tokens : int
        Limit of the responses.
    scorers : mapping of str to Scorer, optional
        Scorers that decide beside the scores of every response.

    Returns
    -------
    DataFrame
        Scores of every row, see :func:`lmri.score.score_responses`, and ``coherent``.
    """
    prompts = trial_prompts(subject, trials, max_new_tokens)
    responses = respond(
        subject,
        prompts,
        onset_tokens(subject.tokenizer, trials),
        plans=plans,
        plan_of_row=np.repeat(np.arange(len(plans)), per_plan),
        max_new_tokens=max_new_tokens,
        rows=ROWS,
    )
    scores = score_responses(
        *(subject.tokenizer, trials, responses.tokens, responses.ended),
        *(responses.onset_margin, scorers),
    )
    likely = response_log_probability(subject, prompts, responses.tokens, ROWS)
    scores["coherent"] = coherent(likely, responses.tokens, responses.ended, limits)
    return scores


def coherence_limits(
    subject: Subject, trials: pd.DataFrame, evidence: EvidenceOptions, max_new_tokens: int
) -> tuple[dict[str, float], np.ndarray]:
    """Fix what counts as a coherent response, from intact responses to calibration trials.

    Parameters
    ----------
    subject : Subject
        The subject.
    trials : DataFrame
        Calibration trials of target and bystanders.
    evidence : EvidenceOptions
        The share of responses that must be coherent.
    max_new_tokens : int
        Limit of the responses.

    Returns
    -------
    limits : dict
        ``log_probability``: the first percentile of the intact responses less :data:`SLACK`
        (nats per token); ``repeats``: the longest run of one token in them, at least
        :data:`LEAST_REPEATS`; ``share``.
    ended : ndarray of shape (n_trials,), bool
        Which intact responses end by themselves, without which none is coherent.
    """
    prompts = trial_prompts(subject, trials, max_new_tokens)
    responses = respond(
        subject,
        prompts,
        onset_tokens(subject.tokenizer, trials),
        max_new_tokens=max_new_tokens,
        rows=ROWS,
    )
    means = response_log_probability(subject, prompts, responses.tokens, ROWS)
    runs = max(longest_run(response) for response in responses.tokens)
    limits = {
        "log_probability": float(np.nanpercentile(means, 1) - SLACK),
        "repeats": int(max(LEAST_REPEATS, runs)),
        "share": evidence.coherent_share,
    }
    return limits, np.asarray(responses.ended, dtype=bool)


def trial_prompts(subject: Subject, trials: pd.DataFrame, max_new_tokens: int) -> list[list[int]]:
    """Prompts of trials as they are responded to.

    Parameters
    ----------
    subject : Subject
        The subject.
    trials : DataFrame
        The trials.
    max_new_tokens : int
        Limit of the responses, which need room.

    Returns
    -------
    list of list of int
        Token ids.
    """
    room = prompt_room(subject.model.config, most_new_tokens(subject, max_new_tokens))
    return [prompt.ids for prompt in render_trials(subject.tokenizer, trials, room)]
