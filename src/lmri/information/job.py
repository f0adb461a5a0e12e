"""The stage ``information``: profiles by layer of the recordings of one subject."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.anatomy import Subject, load_subject
from lmri.checks import check_columns
from lmri.config import InformationOptions, LoadOptions
from lmri.errors import EvidenceError, SubjectError
from lmri.information.attention_entropy import attention_entropy_map, sliding_windows
from lmri.information.changes import between_layers
from lmri.information.class_profiles import rate_reduction_profile
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
from lmri.store import (
    Recording,
    atomic_directory,
    manifest_path,
    open_recording,
    write_map,
    write_text_atomic,
)

CHANGES = "changes"
"""Name of the table of what is said of the first layer against the last."""

INPUTS = "content"
"""Phase whose embeddings stand for the inputs."""

CHOICES = "tokens/router/expert_id"


@dataclass(frozen=True)
class _Task:
    """What is asked of one task."""

    name: str
    recordings: Sequence[Recording]
    questions: list[Question]
    subject: Subject
    options: InformationOptions
    seed: int


def information_subject(
    *,
    subject: str,
    model: Path,
    recordings: Path,
    out: Path,
    tasks: Mapping[str, tuple[str, ...]],
    options: InformationOptions,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
) -> None:
    """Profile by layer what the recordings of a subject say of their trials.

    What was not recorded, or cannot be estimated, is left out, and why stands in
    ``left_out.json``.

    Parameters
    ----------
    subject : str
        Name of the subject.
    model : Path
        Its prepared folder.
    recordings : Path
        Folder with ``<task>/<shard>.zarr`` of the subject.
    out : Path
        Folder to write, as a whole: ``<task>.<measure>.zarr`` for every measure, and
        ``<task>.changes.zarr`` with ``residual``.
    tasks : mapping of str to tuple of str
        Tasks and their carriers; empty carriers are read off the table.
    options : InformationOptions
        Measures, questions and estimators.
    seed : int
        Of all draws.
    provenance : dict
        Kept in every file.
    load : LoadOptions, optional
        How the subject is loaded; by default in float32 on the CPU.

    Raises
    ------
    EvidenceError
        If a task has no recording, or a question names a column that its trials do not have.
    StoreError
        If a recording is damaged.
    """
    loaded = load_subject(model, subject, load=load)
    with atomic_directory(out) as partial_out:
        left_out: dict[str, str] = {}
        for task, carriers in tasks.items():
            shards = _open(recordings / task)
            questions = questions_of(task, shards, carriers, options)
            asked = _Task(task, shards, questions, loaded, options, seed)
            for name, found in _measured(asked, left_out):
                labelled = found.assign_attrs(
                    subject=subject, task=task, provenance=str(provenance)
                )
                write_map(partial_out / f"{task}.{name}.zarr", labelled)
        text = json.dumps(left_out, indent=1, sort_keys=True)
        write_text_atomic(partial_out / "left_out.json", text + "\n")


def questions_of(
    task: str,
    recordings: Sequence[Recording],
    carriers: Sequence[str],
    options: InformationOptions,
) -> list[Question]:
    """Say what is asked of a task: what the study asks, or else what its trials suggest.

    Parameters
    ----------
    task : str
        The task.
    recordings : sequence of Recording
        Its shards.
    carriers : sequence of str
        Its carriers; empty, all that its trials have.
    options : InformationOptions
        Questions of the study; those of other tasks are left aside.

    Returns
    -------
    list of Question
        By default the condition, and the class of each carrier where there are several.

    Raises
    ------
    EvidenceError
        If a question names a column that the trials do not have.
    """
    table = pd.concat([own.trials for own in recordings], ignore_index=True)
    if options.questions:
        asked = [own for own in options.questions if own.task == task]
        for own in asked:
            wanted = [own.target, *(f"carrier_{name}" for name in own.carriers)]
            check_columns(table.columns, wanted, f"of the trials of '{task}'", EvidenceError)
        return [Question(own.target, own.carriers, own.scheme) for own in asked]
    # Sorted: columns of a store are in no order.
    named = carriers or sorted(
        str(name).removeprefix("carrier_") for name in table if str(name).startswith("carrier_")
    )
    found = [_about_conditions(table, list(named))]
    for name in named:
        if f"class_{name}" in table and table[f"class_{name}"].nunique() > 1:
            found.append(Question(f"class_{name}", (name,)))
    return found


def _about_conditions(table: pd.DataFrame, carriers: list[str]) -> Question:
    """Ask about the condition, and exchange what carries it."""
    for name in carriers:
        if (table.groupby(f"carrier_{name}")["condition"].nunique() == 1).all():
            return Question("condition", (name,))
    if len(carriers) > 1 and all(f"class_{name}" in table for name in carriers):
        return Question("condition", tuple(carriers))
    if carriers:
        return Question("condition", (carriers[0],), "within")
    return Question("condition", (), "trials")


def _measured(task: _Task, left_out: dict[str, str]) -> Iterator[tuple[str, xr.Dataset]]:
    for measure in task.options.measures:
        try:
            found = MEASURES[measure](task, left_out)
        except (EvidenceError, SubjectError) as error:
            left_out[f"{task.name}.{measure}"] = _said(error)
            continue
        yield measure, found
        if measure != "residual":
            continue
        changes = between_layers(found)
        if changes.empty:
            left_out[f"{task.name}.{CHANGES}"] = "Two layers are needed. One was recorded."
        else:
            yield CHANGES, xr.Dataset.from_dataframe(changes.rename_axis("change"))


def _mutual(task: _Task, left_out: dict[str, str], *, kind: str) -> xr.Dataset:
    _check_recorded(task.recordings, kind)
    trials = select_trials(task.recordings)
    where = f"{task.name}.{kind}"
    read = choice_rates if kind == "expert" else partial(pooled_activity, kind=kind)
    phases = []
    for phase in task.options.phases:
        try:
            _, values = next(iter(read(trials, phase=phase)))
        except EvidenceError as error:
            left_out[f"{where}.{phase}"] = _said(error)
            continue
        if np.isfinite(values).all(axis=1).any():
            phases.append(phase)
        else:
            left_out[f"{where}.{phase}"] = "No trial has a token in this phase."
    ask = partial(_sampled, trials, np.arange(len(trials.table)))
    questions = list(_answerable(task.questions, left_out, where, ask))
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
        left_out[f"{where}.pair"] = (
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
    questions: Sequence[Question],
    left_out: dict[str, str],
    where: str,
    attempt: Callable[[Question], object],
) -> Iterator[Question]:
    """Yield the questions for which an attempt succeeds, and note the others."""
    for question in questions:
        try:
            attempt(question)
        except EvidenceError as error:
            left_out[f"{where}.{question.target}"] = _said(error)
            continue
        yield question


def _has_inputs(recordings: Sequence[Recording]) -> bool:
    first = recordings[0]
    phases = [str(name) for name in first.array("pooled/residual/phase")[:]]
    places = [str(name) for name in first.array("pooled/residual/place")[:]]
    return INPUTS in phases and "before" in places


def _spectral(task: _Task, left_out: dict[str, str]) -> xr.Dataset:
    return layer_profiles(task.recordings, seed=task.seed)


def _rate_reduction(task: _Task, left_out: dict[str, str]) -> xr.Dataset:
    _check_recorded(task.recordings, "residual")
    found: dict[str, xr.Dataset] = {}

    def reduce(question: Question) -> None:
        # A class that several carriers make together, or that differs within one, is exchanged
        # among trials.
        alone = question.scheme == "between" and len(question.carriers) == 1
        found[question.target] = rate_reduction_profile(
            task.recordings,
            column=question.target,
            carrier=f"carrier_{question.carriers[0]}" if alone else None,
            draws=task.options.draws,
            seed=task.seed,
        )

    list(_answerable(task.questions, left_out, f"{task.name}.rate_reduction", reduce))
    if not found:
        raise EvidenceError("No question can be asked of the trials.")
    exchanged = [own.attrs["carrier"] or "trials" for own in found.values()]
    joined = xr.concat(
        [own.drop_attrs() for own in found.values()], pd.Index(list(found), name="target")
    )
    return joined.assign_coords(exchanged=("target", exchanged))


def _attention(task: _Task, left_out: dict[str, str]) -> xr.Dataset:
    return attention_entropy_map(task.recordings, windows=sliding_windows(task.subject))


def _lens(task: _Task, left_out: dict[str, str]) -> xr.Dataset:
    return lens_profile(task.recordings, task.subject)


MEASURES: dict[str, Callable[[_Task, dict[str, str]], xr.Dataset]] = {
    "residual": partial(_mutual, kind="residual"),
    "expert": partial(_mutual, kind="expert"),
    "spectral": _spectral,
    "rate_reduction": _rate_reduction,
    "attention": _attention,
    "lens": _lens,
}
"""What makes each measure of a study."""


def _said(error: Exception) -> str:
    # A reason begins with the store that it is about, on the machine that recorded it.
    text = str(error)
    head, mark, rest = text.partition(".zarr: ")
    return rest if mark and " " not in head else text


def _open(folder: Path) -> list[Recording]:
    stores = sorted(folder.glob("*.zarr"), key=lambda path: int(path.stem))
    if not stores:
        raise EvidenceError(f"{folder}: no recording. Record the task before asking about it.")
    return [open_recording(store, manifest_path(store)) for store in stores]
