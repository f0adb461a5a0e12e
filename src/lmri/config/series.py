"""Series of checkpoints: one entry of a study that stands for several subjects.

The entry becomes its subjects when the study is read, so that everything downstream sees ordinary
subjects: changing one checkpoint runs the jobs of that subject again and no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from lmri.checks import SLUG
from lmri.errors import ConfigError

__all__ = ["expand_series"]

PLURALS = {"revisions": ("hub", "revision"), "paths": ("directory", "path"), "steps": ("base", "")}
"""Keys that make a series: the source they are for, and the key they put into each subject."""

STEP = re.compile(r"(?:step|checkpoint|iter(?:ation)?)[-_]?(\d+)", re.IGNORECASE)
"""Step in the label of a checkpoint: ``step1000``, ``step1000-tokens4B``, ``checkpoint-500``."""


def expand_series(entries: Mapping[str, Mapping[str, Any]], source: str) -> dict[str, dict]:
    """Replace every series of checkpoints by its subjects.

    Parameters
    ----------
    entries : mapping
        The section ``subjects`` of a study, which fits the schema.
    source : str
        Begins every message.

    Returns
    -------
    dict
        The section with ordinary subjects, in order: those of a series are named
        ``<name>_<label>`` and carry its name as ``series`` and their ``step``.

    Raises
    ------
    ConfigError
        If a series is of another source, has a checkpoint without a step or two at one step, or
        two subjects get the same name.
    """
    expanded: dict[str, dict] = {}
    for name, entry in entries.items():
        for subject, values in _members(name, entry, source):
            if subject in expanded:
                raise ConfigError(
                    f"{source}: two subjects must not have the same name. Got '{subject}' twice, "
                    f"the second from 'subjects.{name}': rename one of them."
                )
            expanded[subject] = values
    return expanded


def _members(name: str, entry: Mapping[str, Any], source: str) -> Iterator[tuple[str, dict]]:
    plural = next((key for key in PLURALS if key in entry), None)
    if plural is None:
        yield name, dict(entry)
        return
    where = f"{source}: 'subjects.{name}"
    _check_keys(where, plural, entry)
    common = {key: value for key, value in entry.items() if key != plural}
    seen: dict[int, str] = {}
    for label, step, own in _checkpoints(where, plural, entry[plural]):
        slug = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
        if not SLUG.fullmatch(slug):
            raise ConfigError(f"{where}.{plural}' must have letters or digits. Got '{label}'.")
        if step in seen:
            raise ConfigError(
                f"{where}.{plural}' must not have two checkpoints at one step. Got '{seen[step]}' "
                f"and '{label}' at step {step}."
            )
        seen[step] = label
        yield f"{name}_{slug}", {**common, **own, "series": name, "step": step}


def _check_keys(where: str, plural: str, entry: Mapping[str, Any]) -> None:
    needed, singular = PLURALS[plural]
    if entry["source"] != needed:
        raise ConfigError(
            f"{where}.{plural}' is for subjects with source: {needed}. "
            f"Got source: {entry['source']}."
        )
    others = {*PLURALS, "series", "step", singular} - {plural}
    for key in sorted(others & set(entry)):
        raise ConfigError(f"{where}' must have either '{plural}' or '{key}'. Got both.")


def _checkpoints(where: str, plural: str, values: Any) -> Iterator[tuple[str, int, dict]]:
    """Yield the label, the step and the key of every checkpoint."""
    singular = PLURALS[plural][1]
    if plural == "steps":
        yield from ((f"step{step}", step, {}) for step in values)
    elif plural == "revisions" and isinstance(values, Mapping):
        yield from ((label, step, {singular: label}) for label, step in values.items())
    elif plural == "revisions":
        yield from ((label, _step(where, plural, label), {singular: label}) for label in values)
    else:
        labelled = values if isinstance(values, Mapping) else {path: path for path in values}
        for label, path in labelled.items():
            label = label if isinstance(values, Mapping) else PurePath(path).name
            yield label, _step(where, plural, label), {singular: path}


def _step(where: str, plural: str, label: str) -> int:
    found = STEP.search(label)
    if found is not None:
        return int(found[1])
    if label.isascii() and label.isdigit():
        return int(label)
    example = "{ main: 143000 }" if plural == "revisions" else "{ step1000: folder }"
    raise ConfigError(
        f"{where}.{plural}' must say the step of every checkpoint, as in 'step1000'. "
        f"Got '{label}': give a mapping, as in {plural}: {example}."
    )
