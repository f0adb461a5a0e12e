"""Phases that a study asks for must be there: their absence would show after hours of recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from transformers import PreTrainedTokenizerBase

from lmri.anatomy import load_tokenizer, read_template
from lmri.checks import quoted
from lmri.config import StudyConfig
from lmri.errors import ConfigError
from lmri.record import PHASES, phase_names

SECTIONS = ("information", "encode", "connect", "align")
"""Analyses that may name phases and tasks of their own."""


def check_phases(study: StudyConfig, tables: Mapping[str, pd.DataFrame], source: str) -> None:
    """Refuse phases that subjects do not have on the tasks they are asked of.

    Those of a chat template are known of subjects given by their folders alone.

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
        Naming the key, the phase, the subject and those that it has.
    """
    mapped = list(dict.fromkeys(own.task for own in study.contrasts.values()))
    for name, subject in study.subjects.items():
        tokenizer = None if subject.path is None else load_tokenizer(Path(subject.path))
        known = {task: _phases(tokenizer, table) for task, table in tables.items()}
        for task in mapped:
            owner = f"subject '{name}' on task '{task}'"
            _check("localise.phases", study.localise.phases, known[task], owner, source)
        for section, phases, tasks in _own_phases(study, mapped):
            there = [known[task] for task in tasks]
            if None not in there:
                every = list(dict.fromkeys(phase for own in there for phase in own or ()))
                _check(f"{section}.phases", phases, every, f"subject '{name}'", source)


def _own_phases(
    study: StudyConfig, mapped: list[str]
) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    for section in SECTIONS:
        own = getattr(study, section)
        if own.phases:
            yield section, own.phases, getattr(own, "tasks", ()) or mapped
    if (relations := study.experiments.get("relations")) is not None:
        yield "experiments.relations", relations.phases, [relations.task]


def _phases(tokenizer: PreTrainedTokenizerBase | None, table: pd.DataFrame) -> Sequence[str] | None:
    """Phases of a subject on a task; None where its chat template is not at hand."""
    template = read_template(table["template"].iloc[0])
    if template.kind != "chat":
        return PHASES
    return None if tokenizer is None else phase_names(tokenizer, template, table["prompt"].iloc[0])


def _check(
    key: str, phases: Sequence[str], known: Sequence[str] | None, owner: str, source: str
) -> None:
    for phase in phases:
        if known is not None and phase not in known:
            raise ConfigError(
                f"{source}: '{key}' must be phases that {owner} has, of {quoted(known)}. Got "
                f"'{phase}'."
            )
