"""The dose of every sham map, chosen as that of the finding is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lmri.anatomy import Subject
from lmri.intervene import INTACT, Plan, Unit, Values, feasible, onsets
from lmri.localise.endpoint import ROWS, choose_dose, score_arms, trial_prompts
from lmri.score import Scorer, onset_tokens

PLANS = 32
"""Plans whose free responses are scored together."""


def sham_doses(
    subject: Subject,
    shams: Sequence[Sequence[Unit]],
    calibration: Sequence[dict],
    trials: pd.DataFrame,
    score: str,
    *,
    target_effect: float,
    limits: dict[str, float],
    max_new_tokens: int,
    kind: str,
    mode: str,
    values: Values | None = None,
    scorers: Mapping[str, Scorer] | None = None,
) -> list[int]:
    """Choose the smallest dose of each sham map that reaches the target effect.

    The finding's dose is chosen by what the finding does on calibration trials. Sham maps that are
    run at that dose had no such choice, and more findings than the level allows come out beyond
    them: in simulated studies without any effect 6 % (damage at random) and 11 % (in proportion to
    load) at a nominal 5 %; with a dose of its own for each, 4 % and 3 %.

    Parameters
    ----------
    subject : Subject
        The subject.
    shams : sequence of sequence of tuple of int
        Units of every sham map, from the best.
    calibration : sequence of dict
        What the finding did, by dose, see :func:`lmri.localise.endpoint.calibrate_dose`.
    trials : DataFrame
        The same calibration trials.
    score : str
        The score of the endpoint.
    target_effect : float
        Effect to reach.
    limits : dict
        Limits of coherence.
    max_new_tokens : int
        Limit of the responses.
    kind, mode : str
        Kind of the units, and what is done to them.
    values : mapping of tuple of int to sequence of float, optional
        Numbers of the units, for the modes that need any.
    scorers : mapping of str to Scorer, optional
        Scorers that decide beside the scores of every response.

    Returns
    -------
    list of int
        For every sham map a dose. Where none reaches the effect it is the largest that the
        finding's responses were coherent at, as for a finding; doses that the subject cannot carry
        out are left out.
    """
    doses = [row["dose"] for row in calibration]
    largest = choose_dose(list(calibration), math.inf, limits["share"])
    asked = {
        (number, dose): Plan.of(mode, [tuple(unit) for unit in units[:dose]], kind, values)
        for number, units in enumerate(shams)
        for dose in doses
        if dose <= largest
    }
    plans = {key: plan for key, plan in asked.items() if feasible(plan, subject.anatomy)}
    if not plans:
        return [largest] * len(shams)
    arms, sizes = [INTACT, *plans.values()], (limits, max_new_tokens)
    scored = _scores(subject, arms, trials, score, *sizes, scorers)
    effects = dict(zip(plans, scored[0] - scored[1:], strict=True))
    chosen = []
    for number in range(len(shams)):
        own = [dose for dose in doses if (number, dose) in effects]
        reached = [dose for dose in own if effects[number, dose] >= target_effect]
        chosen.append(reached[0] if reached else own[-1] if own else largest)
    return chosen


def _scores(
    subject: Subject,
    plans: Sequence[Plan],
    trials: pd.DataFrame,
    score: str,
    limits: dict[str, float],
    max_new_tokens: int,
    scorers: Mapping[str, Scorer] | None,
) -> np.ndarray:
    """Mean score under every plan, (n_plans,)."""
    if score in {"refusal_onset", "onset_margin"}:
        watched = np.array(onset_tokens(subject.tokenizer, trials))
        prompts = trial_prompts(subject, trials, max_new_tokens)
        first, margins = onsets(subject, prompts, watched.tolist(), plans, ROWS)
        return ((first == watched) if score == "refusal_onset" else margins).mean(axis=1)
    means = []
    for start in range(0, len(plans), PLANS):
        own = plans[start : start + PLANS]
        repeated = pd.concat([trials] * len(own), ignore_index=True)
        sizes = len(trials), limits, max_new_tokens
        scored = score_arms(subject, repeated, own, *sizes, scorers)
        means.append(scored[score].to_numpy().reshape(len(own), len(trials)).mean(axis=1))
    return np.concatenate(means)
