"""What experiments and questions name must be there: else it shows after hours of recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import pandas as pd

from lmri.anatomy import Anatomy, describe
from lmri.checks import quoted
from lmri.config import ConditionOptions, StudyConfig
from lmri.encode.features import MADE
from lmri.errors import ConfigError
from lmri.intervene import KINDS
from lmri.localise import Units
from lmri.preflight.models import empty_subject
from lmri.score import SCORES

PLACES = {"skills": ("forget", "retain"), "circuit_reuse": ("behaviours",)}
"""Keys of experiments that name tasks and conditions."""

RECORDED = (
    *SCORES,
    *("response", "ended", "n_response", "repeat", "n_prompt", "n_dropped", "n_prefill"),
    *("content_last", "instruction_last"),
)
"""Columns that recording adds to those of the stimuli."""


def check_asked(study: StudyConfig, tables: Mapping[str, pd.DataFrame], source: str) -> None:
    """Refuse columns, conditions and numbers of units that tasks and subjects do not have.

    Units of a subject on the hub are left to its job.

    Parameters
    ----------
    study : StudyConfig
        The study.
    tables : mapping of str to DataFrame
        Stimuli by task.
    source : str
        Where the study is from; begins the message.

    Raises
    ------
    ConfigError
        Naming the key.
    """
    problems = chain(
        _questions(study, tables),
        _bands(study, tables),
        _labels(study, tables),
        _relations(study, tables),
        _conditions(study, tables),
        _units(study),
    )
    for problem in problems:
        raise ConfigError(f"{source}: {problem}")


def _questions(study: StudyConfig, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    for index, question in enumerate(study.information.questions):
        where, table = f"information.questions.{index}", tables[question.task]
        if question.target not in {*table.columns, *RECORDED}:
            yield (
                f"'{where}.target' must be a column of the trials of '{question.task}', such as "
                f"{quoted(_starting(table, 'class_', ['condition']))}. Got '{question.target}'."
            )
        for carrier in question.carriers:
            yield from _carrier(f"{where}.carriers", carrier, question.task, table)


def _bands(study: StudyConfig, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """A band that some task has is left out of the others; one that none has is a slip."""
    known = {*MADE, *RECORDED}.union(*(tables[task].columns for task in study.encode.tasks))
    for index, name in enumerate(study.encode.bands if study.encode.tasks else ()):
        if name not in known:
            yield (
                f"'encode.bands.{index}' must be {quoted(MADE)} or a column of the trials of "
                f"{quoted(study.encode.tasks)}. Got '{name}'."
            )


def _labels(study: StudyConfig, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    for index, label in enumerate(study.decode.labels):
        table = tables[label.task]
        if label.column not in {*table.columns, *RECORDED}:
            yield (
                f"'decode.labels.{index}.column' must be a column of the trials of "
                f"'{label.task}', such as {quoted(_starting(table, 'class_', ['condition']))}. "
                f"Got '{label.column}'."
            )


def _relations(study: StudyConfig, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    options = study.experiments.get("relations")
    if options is None:
        return
    where, table = "experiments.relations", tables[options.task]
    yield from _carrier(f"{where}.within", options.within, options.task, table)
    if (count := table["condition"].nunique()) < 3:
        yield (
            f"'{where}.task' must be a task of at least 3 conditions, which are the relations. Got "
            f"'{options.task}' with {count}."
        )


def _carrier(key: str, carrier: str, task: str, table: pd.DataFrame) -> Iterator[str]:
    if f"carrier_{carrier}" not in table:
        known = [name.removeprefix("carrier_") for name in _starting(table, "carrier_")]
        yield f"'{key}' must be of the carriers of '{task}', {quoted(known)}. Got '{carrier}'."


def _starting(table: pd.DataFrame, prefix: str, more: list[str] | None = None) -> list[str]:
    return [*(more or []), *(str(own) for own in table.columns if str(own).startswith(prefix))]


def _conditions(study: StudyConfig, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    for name, keys in PLACES.items():
        if (options := study.experiments.get(name)) is None:
            continue
        for key in keys:
            for index, place in enumerate(getattr(options, key)):
                yield from _condition(f"experiments.{name}.{key}.{index}", place, tables)


def _condition(
    where: str, place: ConditionOptions, tables: Mapping[str, pd.DataFrame]
) -> Iterator[str]:
    known = set(tables[place.task]["condition"])
    if place.condition is not None and place.condition not in known:
        yield (
            f"'{where}.condition' must be of the conditions of '{place.task}', {quoted(known)}. "
            f"Got '{place.condition}'."
        )


def _units(study: StudyConfig) -> Iterator[str]:
    """Controls are other units: a set of all leaves none."""
    reuse = study.experiments.get("circuit_reuse")
    heads = study.experiments.get("retrieval_heads")
    sets = []
    if reuse is not None:
        sets.append(("experiments.circuit_reuse.units", reuse.kind, reuse.units))
    if heads is not None:
        sets.append(("experiments.retrieval_heads.heads", "head", heads.heads))
    if not sets:
        return
    for name, subject in study.subjects.items():
        if subject.source == "hub":
            continue
        anatomy = describe(empty_subject(study, subject))
        for key, kind, count in sets:
            if (size := _count(anatomy, kind)) <= count:
                yield (
                    f"'{key}' must be below the number of {KINDS[kind].plural} of each subject: "
                    f"others are the controls. Got {count}, and '{name}' has {size}."
                )


def _count(anatomy: Anatomy, kind: str) -> int:
    return Units.of(kind, KINDS[kind].layers(anatomy), *KINDS[kind].shape(anatomy)).size
