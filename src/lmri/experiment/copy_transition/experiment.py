"""What needs to go right for copying: a base is trained again with heads held at patterns.

Copying is learnt in a transition, when heads begin to look at the token after the last one that
was the same (induction). The subject is a base that the workflow trained; it is trained again, by
the same recipe and with as many seeds as asked for, while through all of training some heads are
held at a pattern. If a pattern is what training has to wait for, copying is learnt earlier with it;
a layer that can only look evenly tells whether the transition needs that layer.

A run of training is one observation: seeds are what is compared, and they are few. Differences are
paired by the seed; p is that of all exchanges of signs, exact, at least 2 ** -seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from transformers import PreTrainedModel

from lmri.anatomy import Subject
from lmri.config import CopyTransitionOptions
from lmri.experiment.copy_transition.holding import ARMS, Texts, copied_texts, held_heads, look
from lmri.experiment.outcome import Drawn, Ground, Outcome, Statement
from lmri.subjects.corpus import Batch
from lmri.subjects.retraining import Training, retrain_base, training_of


def run(ground: Ground, options: CopyTransitionOptions) -> Outcome:
    """Train the subject's base again in every arm, and compare when copying is learnt.

    Parameters
    ----------
    ground : Ground
        What may be read; the subject must be a finished base of the workflow.
    options : CopyTransitionOptions
        Seeds, and when the model is looked at.

    Returns
    -------
    Outcome
        Statements over seeds, the course of every run, and the step at which each learnt to copy.
    """
    training = training_of(Path(ground.subject.model.name_or_path))
    if training is None:
        return _untested("the subject is no finished base that the workflow trained")
    if ground.subject.anatomy.layers < 2:
        return _untested("the subject has one layer, and induction takes two")
    asked = copied_texts(ground, options)
    courses, same = [], {}
    for seed, arm in product(options.seeds, ARMS):
        model, course = train_arm(ground, replace(training, base_seed=seed), arm, asked, options)
        courses.append(course)
        if arm == "free" and seed == training.base_seed:
            same = {seed: _same_weights(model, ground.subject.model)}
    course = pd.concat(courses, ignore_index=True)
    runs = transitions(course, options)
    tables = {
        "runs": runs,
        "course": course,
        "mean_course": mean_course(course),
        "steps": mean_steps(runs, ground.evidence.alpha),
    }
    statements = transition_statements(runs, options, ground.evidence.alpha)
    return Outcome(statements, tables, _CAPTIONS, _figures(), _notes(training, options, runs, same))


def train_arm(
    ground: Ground, training: Training, arm: str, asked: Texts, options: CopyTransitionOptions
) -> tuple[PreTrainedModel, pd.DataFrame]:
    """Train one base and look at it on the way.

    Parameters
    ----------
    ground : Ground
        With a subject of the same anatomy.
    training : Training
        Recipe and seeds.
    arm : str
        One of :data:`ARMS`; its heads are held in training and where it is looked at.
    asked : Texts
        What copying is measured on.
    options : CopyTransitionOptions
        When it is looked at.

    Returns
    -------
    model : transformers.PreTrainedModel
        As it is at the end.
    course : DataFrame
        One row a look: ``arm``, ``seed``, ``step``, ``copied``, ``induction``, ``previous``.
    """
    rows: list[dict] = []

    def around(model: PreTrainedModel, batch: Batch) -> AbstractContextManager:
        return held_heads(_as_subject(ground, model), arm, batch.input_ids, batch.position_ids)

    def see(step: int, model: PreTrainedModel) -> None:
        seen = look(_as_subject(ground, model), arm, asked, ground.rows)
        rows.append({"arm": arm, "seed": training.base_seed, "step": step, **seen})

    last = training.recipe.base_steps
    steps = tuple(dict.fromkeys([*range(0, last, options.every), last]))
    return retrain_base(training, around=around, steps=steps, see=see), pd.DataFrame(rows)


def transitions(course: pd.DataFrame, options: CopyTransitionOptions) -> pd.DataFrame:
    """Say of every run when it learnt to copy.

    Parameters
    ----------
    course : DataFrame
        Of all runs, as of :func:`train_arm`.
    options : CopyTransitionOptions
        The share of words that counts as copying.

    Returns
    -------
    DataFrame
        One row a run: ``learnt``, whether it copies to the end from some look on; ``step``, that
        look, or one look after the last where it does not; ``rises``, the look before which
        ``copied`` rises most, and ``induction_rises`` the same of the best head; ``copied`` and
        ``induction`` at the end.
    """
    rows = []
    for (arm, seed), own in course.groupby(["arm", "seed"], sort=False):
        steps, copied = own["step"].to_numpy(), own["copied"].to_numpy()
        below = np.flatnonzero(copied < options.copied)
        first = 0 if len(below) == 0 else int(below[-1]) + 1
        learnt = first < len(steps)
        rows.append(
            {
                "arm": arm,
                "seed": seed,
                "learnt": learnt,
                "step": int(steps[first]) if learnt else int(steps[-1]) + options.every,
                "rises": int(steps[1:][np.diff(copied).argmax()]),
                "induction_rises": int(steps[1:][np.diff(own["induction"]).argmax()]),
                "copied": copied[-1],
                "induction": own["induction"].iloc[-1],
            }
        )
    return pd.DataFrame(rows)


def transition_statements(
    runs: pd.DataFrame, options: CopyTransitionOptions, alpha: float
) -> list[Statement]:
    """Compare the arms by seed.

    Parameters
    ----------
    runs : DataFrame
        As of :func:`transitions`.
    options : CopyTransitionOptions
        The margin of what is copied at the end.
    alpha : float
        Level of the intervals.

    Returns
    -------
    list of Statement
        Three of the step at which copying is learnt, one of what is copied at the end.
    """
    steps = runs.pivot(index="seed", columns="arm", values="step").astype(float)
    copied = runs.pivot(index="seed", columns="arm", values="copied")
    learnt = runs.pivot(index="seed", columns="arm", values="learnt")
    made = []
    for claim, (sentence, earlier, later) in _EARLIER.items():
        if not learnt[[earlier, later]].any(axis=None):
            reason = "no run of either arm learns to copy in these steps"
            made.append(Statement.untested(claim, sentence, reason, "step"))
            continue
        sooner = steps[later] - steps[earlier]
        made.append(_over_seeds(claim, sentence, sooner, 0.0, alpha, "steps sooner"))
    claim, sentence = _PREVENTED
    if not learnt["free"].any():
        reason = "no free run learns to copy in these steps"
        return [*made, Statement.untested(claim, sentence, reason, "copied")]
    lost = copied["free"] - copied["even"]
    return [*made, _over_seeds(claim, sentence, lost, options.margin, alpha, "copied, share")]


def _over_seeds(
    claim: str, sentence: str, differences: pd.Series, threshold: float, alpha: float, score: str
) -> Statement:
    values = differences.to_numpy(dtype=np.float64)
    mean, low, high = interval(values, alpha)
    p = sign_flip_p(values - threshold)
    numbers = (mean, low, high, threshold, p, len(values), len(values))
    return Statement(claim, sentence, *numbers, f"all {2 ** len(values)} signs", score, "training")


def sign_flip_p(values: np.ndarray) -> float:
    """Exact one-sided p of a mean above 0, by all exchanges of the signs of paired differences.

    Parameters
    ----------
    values : ndarray of shape (n_pairs,)
        The differences.

    Returns
    -------
    float
        Share of the ``2 ** n_pairs`` choices of signs with a mean at least as large.
    """
    signs = np.array(list(product([1.0, -1.0], repeat=len(values))))
    means = signs @ np.abs(values)
    return float((means >= values.sum() - 1e-9).mean())


def interval(values: np.ndarray, alpha: float) -> tuple[float, float, float]:
    """Mean of few values with the interval of Student's t.

    Parameters
    ----------
    values : ndarray of shape (n,)
        At least two values.
    alpha : float
        1 minus the level.

    Returns
    -------
    mean, low, high : float
        Equal where the values are.
    """
    error = values.std(ddof=1) / math.sqrt(len(values))
    half = float(stats.t.ppf(1 - alpha / 2, len(values) - 1)) * error
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def mean_course(course: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of what is copied, with the smallest and the largest, by arm and step."""
    grouped = course.groupby(["arm", "step"], sort=False)
    table = grouped["copied"].agg(["mean", "min", "max"]).reset_index()
    table = table.rename(columns={"mean": "copied", "min": "least", "max": "most"})
    return table.assign(induction=grouped["induction"].mean().to_numpy())


def mean_steps(runs: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Mean step at which copying is learnt, by arm, with its interval over seeds."""
    rows = []
    for arm, own in runs.groupby("arm", sort=False):
        step, low, high = interval(own["step"].to_numpy(dtype=np.float64), alpha)
        known = {"arm": arm, "held": ARMS[arm], "runs": len(own), "learnt": own["learnt"].sum()}
        rows.append({**known, "step": step, "low": low, "high": high})
    return pd.DataFrame(rows)


def _as_subject(ground: Ground, model: PreTrainedModel) -> Subject:
    return replace(ground.subject, model=model)


def _same_weights(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    own: Mapping[str, torch.Tensor] = other.state_dict()
    return all(torch.equal(values, own[name]) for name, values in model.state_dict().items())


_EARLIER = {
    "induction_earlier": (
        "With a head of the second layer held at induction, copying is learnt at an earlier step "
        "than without.",
        "induction",
        "free",
    ),
    "previous_earlier": (
        "With a head of the first layer held at the token before, copying is learnt at an earlier "
        "step than without.",
        "previous",
        "free",
    ),
    "induction_over_itself": (
        "With a head of the second layer held at induction, copying is learnt at an earlier step "
        "than with the same head held at the token itself.",
        "induction",
        "itself",
    ),
}
_PREVENTED = (
    "even_prevents",
    "With all heads of the second layer looking at all tokens alike, less is copied at the end "
    "than without, by more than the margin.",
)


def _untested(reason: str) -> Outcome:
    sentences = {claim: sentence for claim, (sentence, *_) in _EARLIER.items()}
    sentences[_PREVENTED[0]] = _PREVENTED[1]
    return Outcome([Statement.untested(*own, reason) for own in sentences.items()])


def _notes(
    training: Training, options: CopyTransitionOptions, runs: pd.DataFrame, same: dict[int, bool]
) -> list[str]:
    few = len(options.seeds)
    notes = [
        f"{few} seeds in each of {len(ARMS)} arms: no p is below {1 / 2**few:.2g}, and intervals "
        "(Student's t) are wide. Seeds share one world and one recipe.",
        f"A run that does not copy at the end counts as if it learnt at step "
        f"{training.recipe.base_steps + options.every}, one look after the last: "
        f"{int((~runs['learnt']).sum())} of {len(runs)} runs.",
    ]
    for seed, equal in same.items():
        state = "ends in the weights of the subject" if equal else "ends in other weights"
        notes.append(f"The free run of seed {seed}, that of the subject, {state}, bit by bit.")
    return notes


_CAPTIONS = {
    "steps": "Step at which copying is learnt, mean over seeds with the interval of Student's t.",
    "runs": (
        "Every run: the step from which it copies to the end, the looks at which what is copied "
        "and the induction of the best head that is not held rise most, and both at the end."
    ),
}


def _figures() -> list[Drawn]:
    return [
        Drawn(
            *("mean_course", "line", "step", "copied", "least", "most", "arm"),
            title="Copying over training",
            caption=(
                "Share of the words of answers, but the first, that are said right; mean over "
                "seeds, and the range. A pattern that training waits for moves the rise to the "
                "left."
            ),
            against="Curves that rise together: then the pattern is not what it waits for.",
        ),
        Drawn(
            *("mean_course", "line", "step", "induction", None, None, "arm"),
            title="Induction over training",
            caption=(
                "Attention of the best head that is not held to the token after the last that was "
                "the same. It rises with copying where that head is what copies."
            ),
            against="Copying that rises while no head looks there.",
        ),
        Drawn(
            *("steps", "dots", "arm", "step", "low", "high", None),
            title="When copying is learnt",
            caption="Mean over seeds with the interval; further left is earlier.",
            against="Intervals that lie on each other.",
        ),
    ]
