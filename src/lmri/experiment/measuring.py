"""What experiments share: trials of a split, runs of plans on them, effects over carriers."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lmri.anatomy import prompt_room, render_trials
from lmri.checks import check_choice, quoted
from lmri.config import ContrastOptions
from lmri.errors import EvidenceError
from lmri.experiment.outcome import Ground, Statement
from lmri.intervene import AnyPlan, most_new_tokens
from lmri.score import carrier_columns
from lmri.validate.arms import Arm, Bench
from lmri.validate.change import Carriers, Change
from lmri.validate.statistics import rank_p

NO_LIMITS = {"log_probability": -math.inf, "repeats": math.inf}
"""Limits of coherence that every response keeps."""


def random_of(ground: Ground, *names: object) -> np.random.Generator:
    """Make the random numbers of one purpose: the same in every run, others for others.

    Parameters
    ----------
    ground : Ground
        With the seed of the study.
    *names
        What they are for, such as the experiment and the control.

    Returns
    -------
    Generator
        Random numbers.
    """
    return np.random.default_rng([ground.seed, zlib.crc32(repr(names).encode())])


def trials_of(
    ground: Ground,
    task: str,
    split: str,
    conditions: Sequence[str] = (),
    most: int | None = None,
) -> pd.DataFrame:
    """Trials of a task in a split.

    Parameters
    ----------
    ground : Ground
        With the stimuli.
    task, split : str
        Which.
    conditions : sequence of str
        Of these conditions only; by default of all.
    most : int, optional
        As many at most, drawn at random, in their order.

    Returns
    -------
    DataFrame
        Numbered from 0.

    Raises
    ------
    EvidenceError
        If there is none.
    """
    check_choice(task, ground.stimuli, "task", "an experiment", EvidenceError)
    table = ground.stimuli[task]
    keep = table["split"] == split
    if conditions:
        keep &= table["condition"].isin(list(conditions))
    found = np.flatnonzero(keep)
    if len(found) == 0:
        raise EvidenceError(
            f"The task '{task}' must have trials of the split '{split}'"
            f"{f' and the conditions {quoted(conditions)}' if conditions else ''}. Got none: "
            "name another task, or change 'splits'."
        )
    if most is not None and len(found) > most:
        rng = random_of(ground, "trials", task, split, *conditions)
        found = np.sort(rng.choice(found, most, replace=False))
    return table.iloc[found].reset_index(drop=True)


def contrast_of(ground: Ground, name: str) -> ContrastOptions:
    """Find a contrast of the study that compares conditions.

    Parameters
    ----------
    ground : Ground
        With the contrasts.
    name : str
        Of the contrast.

    Returns
    -------
    ContrastOptions
        The contrast.

    Raises
    ------
    EvidenceError
        If the study has none of this name.
    """
    found = {own.name: own for own in ground.contrasts if own.target}
    check_choice(name, found, "contrast", "an experiment", EvidenceError)
    return found[name]


def prompts_of(ground: Ground, trials: pd.DataFrame) -> list[list[int]]:
    """Token ids of the prompts of trials, with room for a whole response.

    Parameters
    ----------
    ground : Ground
        With the subject.
    trials : DataFrame
        The trials.

    Returns
    -------
    list of list of int
        One for each trial.
    """
    longest = most_new_tokens(ground.subject, ground.max_new_tokens)
    room = prompt_room(ground.subject.model.config, longest)
    return [own.ids for own in render_trials(ground.subject.tokenizer, trials, room)]


def scores_under(
    ground: Ground, trials: pd.DataFrame, plans: Sequence[AnyPlan], score: str
) -> np.ndarray:
    """Score trials under every plan, in the fewest passes that give it exactly.

    Parameters
    ----------
    ground : Ground
        With the subject.
    trials : DataFrame
        The trials.
    plans : sequence of Plan or Combined
        The plans; :data:`lmri.intervene.INTACT` for the intact subject.
    score : str
        A score, see ``docs/scoring.md``.

    Returns
    -------
    ndarray of shape (n_plans, n_trials), float64
        The scores.
    """
    return np.array(_bench(ground).quick(_arms(plans), trials, score), dtype=np.float64)


def responses_under(
    ground: Ground, trials: pd.DataFrame, plans: Sequence[AnyPlan]
) -> list[pd.DataFrame]:
    """Let the subject answer freely under every plan, and score all that it says.

    Parameters
    ----------
    ground, trials, plans
        As for :func:`scores_under`.

    Returns
    -------
    list of DataFrame
        For every plan the columns of :func:`lmri.score.score_responses`, one row a trial.
    """
    found = _bench(ground).run(_arms(plans), trials)
    return [own.drop(columns="coherent") for own in found]


def _bench(ground: Ground) -> Bench:
    return Bench(ground.subject, ground.rows, ground.max_new_tokens, NO_LIMITS)


def _arms(plans: Sequence[AnyPlan]) -> list[Arm]:
    return [Arm("experiment", "none", draw=draw, plan=plan) for draw, plan in enumerate(plans)]


def carriers_of(ground: Ground, trials: pd.DataFrame) -> Carriers:
    """Bootstrap of trials of one task over their carriers; shared by all changes on them.

    Parameters
    ----------
    ground : Ground
        With the seed and the number of resamples.
    trials : DataFrame
        The trials.

    Returns
    -------
    Carriers
        The bootstrap.

    Raises
    ------
    EvidenceError
        If the task has no carriers.
    """
    columns = carrier_columns(trials)
    if columns.shape[1] == 0:
        raise EvidenceError(
            "The trials of an experiment must have carriers, over which its effects are "
            "resampled. Got trials without a 'carrier_' column that has values."
        )
    return Carriers(columns, ground.bootstrap, ground.seed)


def change_of(
    ground: Ground, carriers: Carriers, differences: np.ndarray, *, is_rate: bool
) -> Change:
    """Paired differences with their bootstrap over carriers.

    Parameters
    ----------
    ground : Ground
        With the level.
    carriers : Carriers
        Of the trials.
    differences : ndarray of shape (n_trials,)
        In the direction that is claimed.
    is_rate : bool
        Whether the score is in [0, 1].

    Returns
    -------
    Change
        Has ``effect`` (with its interval) and ``p_above(threshold)``.
    """
    differences = np.asarray(differences, dtype=np.float64)
    return Change(differences, carriers, 1 - ground.evidence.alpha, is_rate)


def stated(
    claim: str,
    statement: str,
    change: Change,
    *,
    score: str,
    threshold: float = 0.0,
    among: tuple[float, Sequence[float]] | None = None,
    controls: str = "",
    **more: Any,
) -> Statement:
    """Make a statement of a change.

    Parameters
    ----------
    claim, statement, score, controls : str
        As of :class:`Statement`.
    change : Change
        In the direction that is claimed.
    threshold : float
        What the change must be above.
    among : tuple of (float, sequence of float), optional
        The value that is ranked, larger being more extreme, and those of the control draws.
    **more
        Further fields of the statement.

    Returns
    -------
    Statement
        Its p is the larger of that over carriers and of the rank among the controls; without an
        interval it was not testable.
    """
    effect = change.effect
    p = change.p_above(threshold)
    if among is not None:
        p = max(p, rank_p(*among))
    numbers = (effect.mean, effect.low, effect.high, threshold, p, effect.n, effect.n_carriers)
    return Statement(claim, statement, *numbers, controls, score, **more)
