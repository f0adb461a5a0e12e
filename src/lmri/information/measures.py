"""The measures of the stage ``information``: each makes one profile of the recordings of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from lmri.anatomy import Subject
from lmri.config import InformationOptions
from lmri.errors import EvidenceError
from lmri.information.answers import answer_profile
from lmri.information.attention_entropy import attention_entropy_map, sliding_windows
from lmri.information.class_profiles import rate_reduction_profile, unit_entropy_profile
from lmri.information.code_profiles import code_profile, code_quantity
from lmri.information.lens import lens_profile
from lmri.information.measuring import Settings
from lmri.information.mutual_profile import information_of
from lmri.information.profiles import layer_profiles
from lmri.information.question import Question, sample_of
from lmri.information.readings import (
    POOLED,
    Trials,
    choice_rates,
    pooled_activity,
    select_trials,
)
from lmri.information.reasons import reason_of
from lmri.information.resolution_profiles import resolution_profile
from lmri.information.states import States
from lmri.information.token_profiles import activity_profile, massive_profile
from lmri.store import Recording

INPUTS = "content"
"""Phase whose embeddings stand for the inputs."""

CHOICES = "tokens/router/expert_id"


@dataclass(frozen=True)
class Asked:
    """What is asked of one task.

    Attributes
    ----------
    name : str
        The task.
    recordings : sequence of Recording
        Its shards.
    questions : sequence of Question
        About its trials.
    subject : Subject
        Who was recorded.
    options : InformationOptions
        Estimators, phases and draws.
    seed : int
        Of all draws.
    left_out : dict of str to str
        Takes what could not be made, and why.
    """

    name: str
    recordings: Sequence[Recording]
    questions: Sequence[Question]
    subject: Subject
    options: InformationOptions
    seed: int
    left_out: dict[str, str] = field(default_factory=dict)


def _mutual(task: Asked, *, kind: str) -> xr.Dataset:
    _check_recorded(task.recordings, kind)
    trials = select_trials(task.recordings)
    where = f"{task.name}.{kind}"
    read = choice_rates if kind == "expert" else partial(pooled_activity, kind=kind)
    phases = []
    for phase in task.options.phases:
        try:
            _, values = next(iter(read(trials, phase=phase)))
        except EvidenceError as error:
            task.left_out[f"{where}.{phase}"] = reason_of(error)
            continue
        if np.isfinite(values).all(axis=1).any():
            phases.append(phase)
        else:
            task.left_out[f"{where}.{phase}"] = "No trial has a token in this phase."
    ask = partial(_sampled, trials, np.arange(len(trials.table)))
    questions = list(_answerable(task, kind, ask))
    if not phases or not questions:
        raise EvidenceError("No phase has tokens, or no question can be asked of the trials.")
    options = task.options
    settings = Settings(
        estimators=options.estimators,
        draws=options.draws,
        probe_draws=options.probe_draws,
        seed=task.seed,
    )
    given = INPUTS if kind == "residual" and _has_inputs(task.recordings) else None
    if kind == "residual" and given is None and "pair" in options.estimators:
        task.left_out[f"{where}.pair"] = (
            f"The phase '{INPUTS}', whose embeddings it needs, is not there."
        )
    return information_of(
        task.recordings, questions, kind=kind, phases=phases, settings=settings, inputs=given
    )


def _check_recorded(recordings: Sequence[Recording], kind: str) -> None:
    needed, quantity, more = POOLED.get(kind, CHOICES), kind, ""
    if kind == "expert":
        quantity, more = "router", " and 'record.full'"
    if not all(own.holds(needed) for own in recordings):
        raise EvidenceError(
            f"'{needed}' was not recorded: add '{quantity}' to 'record.quantities'{more}."
        )


def _sampled(trials: Trials, rows: np.ndarray, question: Question) -> None:
    sample_of(trials, question, rows, 2, 0)  # the errors of a question that cannot be asked


def _answerable(
    task: Asked, where: str, attempt: Callable[[Question], object]
) -> Iterator[Question]:
    """Yield the questions for which an attempt succeeds, and note the others."""
    for question in task.questions:
        try:
            attempt(question)
        except EvidenceError as error:
            task.left_out[f"{task.name}.{where}.{question.target}"] = reason_of(error)
            continue
        yield question


def _has_inputs(recordings: Sequence[Recording]) -> bool:
    first = recordings[0]
    phases = [str(name) for name in first.array("pooled/residual/phase")[:]]
    places = [str(name) for name in first.array("pooled/residual/place")[:]]
    return INPUTS in phases and "before" in places


def _spectral(task: Asked) -> xr.Dataset:
    return layer_profiles(task.recordings, seed=task.seed)


def _rate_reduction(task: Asked) -> xr.Dataset:
    _check_recorded(task.recordings, "residual")
    found: dict[str, xr.Dataset] = {}

    def reduce(question: Question) -> None:
        found[question.target] = rate_reduction_profile(
            task.recordings, question=question, draws=task.options.draws, seed=task.seed
        )

    list(_answerable(task, "rate_reduction", reduce))
    asked = {question.target: question.exchanged for question in task.questions}
    exchanged = [asked[target] for target in found]
    return _by_target(found).assign_coords(exchanged=("target", exchanged))


def _codes(task: Asked) -> xr.Dataset:
    quantity = code_quantity(task.recordings)
    found: dict[str, xr.Dataset] = {}

    def code(question: Question) -> None:
        found[question.target] = code_profile(
            task.recordings,
            quantity=quantity,
            question=question,
            draws=task.options.draws,
            seed=task.seed,
        )

    list(_answerable(task, "codes", code))
    return _by_target(found).assign_attrs(quantity=quantity)


def _by_target(found: dict[str, xr.Dataset]) -> xr.Dataset:
    if not found:
        raise EvidenceError("No question can be asked of the trials.")
    index = pd.Index(list(found), name="target")
    return xr.concat([own.drop_attrs() for own in found.values()], index)


def _unit_entropy(task: Asked) -> xr.Dataset:
    held = (
        name
        for name in ("neuron", "residual")
        if all(own.holds(POOLED[name]) for own in task.recordings)
    )
    quantity = next(held, "residual")
    states = States(task.recordings, "trials", "selection", "mean", quantity)
    counts = pd.Series(states.labels("condition")[states.chosen]).value_counts()
    reference = str(sorted(counts[counts == counts.max()].index)[0])
    return unit_entropy_profile(task.recordings, reference, quantity=quantity, seed=task.seed)


def _resolution(task: Asked) -> xr.Dataset:
    return resolution_profile(task.recordings, seed=task.seed)


def _eigenscore(task: Asked) -> xr.Dataset:
    return answer_profile(task.recordings, draws=task.options.draws, seed=task.seed)


def _massive(task: Asked) -> xr.Dataset:
    return massive_profile(task.recordings)


def _active(task: Asked) -> xr.Dataset:
    return activity_profile(task.recordings)


def _attention(task: Asked) -> xr.Dataset:
    return attention_entropy_map(task.recordings, windows=sliding_windows(task.subject))


def _lens(task: Asked) -> xr.Dataset:
    return lens_profile(task.recordings, task.subject)


MEASURES: dict[str, Callable[[Asked], xr.Dataset]] = {
    "residual": partial(_mutual, kind="residual"),
    "expert": partial(_mutual, kind="expert"),
    "spectral": _spectral,
    "resolution": _resolution,
    "rate_reduction": _rate_reduction,
    "codes": _codes,
    "unit_entropy": _unit_entropy,
    "attention": _attention,
    "lens": _lens,
    "eigenscore": _eigenscore,
    "massive": _massive,
    "active": _active,
}
"""What makes each measure of a study that is about trials."""
