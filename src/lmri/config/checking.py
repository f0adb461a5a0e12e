"""Checks of a study: its JSON schema first, then what no schema can say.

Every message is one line: the source, the key (dotted), what is allowed, what was got.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema
from jsonschema.exceptions import ValidationError, best_match

from lmri.checks import check_slug, quoted, shortened
from lmri.config.causal import causal_problems
from lmri.config.experiments import experiment_problems
from lmri.config.networks import network_problems
from lmri.config.options import (
    LOAD_KEYS,
    ConditionOptions,
    ContrastOptions,
    SubjectOptions,
    TaskOptions,
    needed_draws,
)
from lmri.config.probes import probe_problems
from lmri.config.recording import record_problems
from lmri.config.templates import template_problems
from lmri.config.validation import claim_problems
from lmri.errors import ConfigError

if TYPE_CHECKING:
    from lmri.config.study import StudyConfig

EVENT_CONDITIONS = ("sensitive", "near_miss_place", "near_miss_year", "benign")

WORLD_CONDITIONS: dict[str, tuple[str, ...] | None] = {
    "events": EVENT_CONDITIONS,
    "events_second": EVENT_CONDITIONS,
    "relations": None,
    "arithmetic": None,
    "copying": None,
    "battery": ("arithmetic", "copying", "events", "facts", "facts_second"),
}
"""Tasks of the world and their conditions; None where the world names them (checked later)."""

SOURCE_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "embedded": ({"state"}, set()),
    "trained": ({"base_seed", "state"}, {"seed"}),
    "base": ({"base_seed"}, set()),
    "directory": ({"path"}, set()),
    "hub": ({"id"}, {"revision"}),
}
"""Keys that each source of a subject needs, and those it may have beside them."""

ANY_SOURCE = {"series", "step", *LOAD_KEYS}
"""Keys that a subject of any source may have."""

REVISION = re.compile(r"[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._/-]*")
"""Revisions of a hub model: each is a file name in the cache of the hub."""

LONGEST_NAME = 64
"""Letters of a name that is repeated whole in a message."""

KINDS = {
    "object": "a mapping of keys to values",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def check_schema(values: object, source: str) -> None:
    """Raise the clearest violation of the JSON schema.

    Parameters
    ----------
    values : object
        The study as read from YAML or JSON.
    source : str
        Begins the message.

    Raises
    ------
    ConfigError
        If the schema is violated, a key is not text, or a number is not finite.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{source}: a study is a mapping of keys to values. Got {type(values).__name__}."
        )
    for problem in _unportable(values, ""):
        raise ConfigError(f"{source}: {problem}")
    error = best_match(_validator().iter_errors(values), key=_depth_first)
    if error is not None:
        raise ConfigError(f"{source}: {_sentence(error)}")


def check_study(study: StudyConfig, source: str) -> None:
    """Raise the first contradiction between the sections of a study.

    Parameters
    ----------
    study : StudyConfig
        Sections that fit the schema.
    source : str
        Begins the message.

    Raises
    ------
    ConfigError
        Naming the key and what is allowed.
    """
    check_slug(study.study, "study", source, ConfigError)
    for section in ("subjects", "tasks", "contrasts"):
        for name in getattr(study, section):
            # A name may be anything until here, and no message may be.
            told = name if name.isprintable() and len(name) <= LONGEST_NAME else shortened(name)
            check_slug(name, f"{section}.{told}", source, ConfigError)
    for problem in _problems(study):
        raise ConfigError(f"{source}: {problem}")


@cache
def _validator() -> jsonschema.Draft202012Validator:
    text = files("lmri.schemas").joinpath("config.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def _depth_first(error: ValidationError) -> tuple[int, int]:
    # The outermost violation first, and among equals a misspelt key before a missing one: the
    # misspelling usually explains what is missing.
    return (-len(error.path), int(error.validator == "additionalProperties"))


def _sentence(error: ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    owner = f"in '{where}'" if where else "in the study"
    allowed = error.schema
    match error.validator:
        case "additionalProperties":
            unknown = min(set(error.instance) - set(allowed["properties"]))
            return f"unknown key '{unknown}' {owner}{_hint(unknown, allowed['properties'])}"
        case "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            return f"missing key '{missing[0]}' {owner}. It must have {quoted(missing)}."
        case "type":
            kinds = error.validator_value
            names = [KINDS[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)]
            rule = f"must be {' or '.join(names)}"
        case "enum":
            rule = f"must be one of {quoted(error.validator_value)}"
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            rule = f"must be {_bounds(allowed)}"
        case "minItems" | "minProperties":
            least = error.validator_value
            rule = f"must have at least {least} {'entry' if least == 1 else 'entries'}"
        case "uniqueItems":
            rule = "must not name anything twice"
        case "contains":
            rule = f"must contain '{error.validator_value['const']}'"
        case "pattern":
            description = allowed["description"]
            rule = f"must be {description[0].lower()}{description[1:]}"
        case _:
            rule = f"is not valid ({error.message})"
    return f"'{where}' {rule}. Got {shortened(error.instance)}."


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return " and ".join(f"{word} {schema[key]}" for key, word in words.items() if key in schema)


def _hint(unknown: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(unknown, list(allowed), n=1)
    question = f"; did you mean '{close[0]}'?" if close else "."
    return f"{question} Allowed: {quoted(allowed)}."


def _unportable(value: object, where: str) -> Iterator[str]:
    """Yield what YAML allows and the JSON of a slice does not: other keys than text, NaN, dates."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str):
                yield f"the keys of '{where or 'the study'}' must be text. Got {key!r}: quote it."
            yield from _unportable(entry, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _unportable(entry, f"{where}.{index}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"'{where}' must be a finite number. Got {value}."
    elif not isinstance(value, str | int | float | bool | None):
        yield f"'{where}' must be text, a number, true or false. Got {value!r}: quote it."


def _problems(study: StudyConfig) -> Iterator[str]:
    for name, subject in study.subjects.items():
        yield from _subject(f"subjects.{name}", subject)
    for name, task in study.tasks.items():
        yield from _task(f"tasks.{name}", task)
    yield from _shares("splits", study.splits)
    yield from record_problems(study)
    for name, contrast in study.contrasts.items():
        yield from _contrast(f"contrasts.{name}", contrast, study)
    yield from _probes(study)
    yield from causal_problems(study)
    yield from _questions(study)
    yield from study.sparse.problems()
    yield from network_problems(study)
    yield from study.decode.problems(study.tasks, study.record.quantities, study.record.full)
    yield from study.encode.problems(study.tasks)
    yield from _evidence(study)
    yield from claim_problems(study)
    yield from experiment_problems(study)


def _questions(study: StudyConfig) -> Iterator[str]:
    asked: set[tuple[str, str]] = set()
    for index, question in enumerate(study.information.questions):
        where = f"information.questions.{index}"
        if (question.task, question.target) in asked:
            yield (
                f"'information.questions' must not ask twice about '{question.target}' of "
                f"'{question.task}'."
            )
        asked.add((question.task, question.target))
        if question.task not in study.tasks:
            yield f"'{where}.task' must be one of {quoted(study.tasks)}. Got '{question.task}'."
        if question.scheme != "trials" and not question.carriers:
            yield f"missing key 'carriers' in '{where}'. It is needed unless 'scheme' is trials."
        if question.scheme == "within" and len(question.carriers) > 1:
            yield (
                f"'{where}.carriers' must name one carrier for the scheme within. "
                f"Got {quoted(question.carriers)}."
            )


def _subject(where: str, subject: SubjectOptions) -> Iterator[str]:
    needed, optional = SOURCE_KEYS[subject.source]
    optional = optional | ANY_SOURCE
    given = set(subject.to_dict()) - {"name", "source"}
    kind = f"a subject with source: {subject.source}"
    for key in sorted(given - needed - optional):
        yield f"unknown key '{key}' in '{where}'. Allowed for {kind}: {quoted(needed | optional)}."
    for key in sorted(needed - given):
        yield f"missing key '{key}' in '{where}'. It is needed for {kind}."
    if subject.series is not None and subject.step is None:
        yield f"missing key 'step' in '{where}'. It is needed beside 'series'."
    if subject.device is not None and subject.device_map is not None:
        yield f"'{where}' must have either 'device' or 'device_map'. Got both."
    if subject.revision is not None and not REVISION.fullmatch(subject.revision):
        yield (
            f"'{where}.revision' must be a commit, tag or branch: letters, digits, and . _ / - "
            f"between them, without '..'. Got {shortened(subject.revision)}."
        )


def _task(where: str, task: TaskOptions) -> Iterator[str]:
    if task.source == "world":
        if task.name not in WORLD_CONDITIONS:
            yield (
                f"'{where}' with source: world must be named one of {quoted(WORLD_CONDITIONS)}. "
                f"Got '{task.name}'."
            )
        for key in {"path", "carriers"} & set(_given(task)):
            yield f"unknown key '{key}' in '{where}'. It is for tasks with source: table."
    elif task.source == "table":
        for key in sorted({"path", "carriers"} - set(_given(task))):
            yield f"missing key '{key}' in '{where}'. It is needed for a task with source: table."
    yield from probe_problems(where, task)
    yield from template_problems(f"{where}.template", task.template, task.source)
    if task.splits is not None:
        yield from _shares(f"{where}.splits", task.splits)


def _given(task: TaskOptions) -> list[str]:
    return [key for key, value in task.to_dict().items() if value]


def _shares(where: str, splits: Any) -> Iterator[str]:
    total = sum(splits.to_dict().values())
    if not math.isclose(total, 1, abs_tol=1e-6):
        yield f"the shares in '{where}' must sum to 1. Got {total:g}."


def _contrast(where: str, contrast: ContrastOptions, study: StudyConfig) -> Iterator[str]:
    if contrast.task not in study.tasks:
        yield f"'{where}.task' must be one of {quoted(study.tasks)}. Got '{contrast.task}'."
        return
    if contrast.random_split is not None:
        yield from _random_split(where, contrast, study)
    else:
        yield from _conditions(where, contrast, study)
    for index, bystander in enumerate(contrast.bystanders):
        yield from _place(f"{where}.bystanders.{index}", bystander, study)
        if bystander.task == contrast.task and bystander.condition in contrast.target:
            yield (
                f"'{where}.bystanders.{index}' must not be a target condition. "
                f"Got '{bystander.condition}'."
            )
    if contrast.transfer is not None:
        yield from _place(f"{where}.transfer", contrast.transfer, study)
    if contrast.role == "hypothesis":
        yield from _hypothesis(where, contrast)


def _random_split(where: str, contrast: ContrastOptions, study: StudyConfig) -> Iterator[str]:
    for key in ("target", "controls", "interaction", "null_condition", "within"):
        if getattr(contrast, key):
            yield f"'{where}' must have either 'random_split' or '{key}'. Got both."
    if contrast.role == "hypothesis":
        yield (
            f"'{where}.role' must be one of 'exploratory', 'negative_control' for a random "
            "split: nothing is there to be claimed. Got 'hypothesis'."
        )
    place = ConditionOptions(contrast.task, contrast.random_split.condition)
    yield from _place(f"{where}.random_split", place, study)
    carriers = study.tasks[contrast.task].carriers
    if carriers and contrast.random_split.carrier not in carriers:
        yield (
            f"'{where}.random_split.carrier' must be one of {quoted(carriers)}. "
            f"Got '{contrast.random_split.carrier}'."
        )


def _conditions(where: str, contrast: ContrastOptions, study: StudyConfig) -> Iterator[str]:
    for key in ("target", "controls"):
        if not getattr(contrast, key):
            yield f"missing key '{key}' in '{where}'. A contrast has it, or 'random_split'."
        for condition in getattr(contrast, key):
            place = ConditionOptions(contrast.task, condition)
            yield from _place(f"{where}.{key}", place, study)
    both = set(contrast.target) & set(contrast.controls)
    if both:
        yield f"'{where}': a condition is target or control, not both. Got {quoted(both)} in both."
    compared = {*contrast.target, *contrast.controls}
    weights = contrast.interaction or {}
    if not compared.issuperset(weights) or not math.isclose(sum(weights.values()), 0, abs_tol=1e-9):
        yield (
            f"'{where}.interaction' must weigh conditions of the contrast ({quoted(compared)}) "
            f"with a sum of 0. Got {shortened(weights)}."
        )
    if contrast.within is not None and contrast.null_condition is not None:
        yield (
            f"'{where}' must have either 'within' or 'null_condition': within a carrier the sham "
            "maps are drawn from all control trials. Got both."
        )
    if contrast.null_condition is not None:
        place = ConditionOptions(contrast.task, contrast.null_condition)
        yield from _place(f"{where}.null_condition", place, study)
        if contrast.null_condition in contrast.target:
            yield (
                f"'{where}.null_condition' must not be a target: its carriers must not carry "
                f"the condition. Got '{contrast.null_condition}'."
            )


def _hypothesis(where: str, contrast: ContrastOptions) -> Iterator[str]:
    if contrast.sham_condition is None and contrast.within is None:
        yield (
            f"missing key 'null_condition' in '{where}'. A hypothesis with several controls must "
            f"say whose carriers the sham maps split: one of {quoted(contrast.controls)}."
        )
    if not contrast.bystanders:
        yield (
            f"missing key 'bystanders' in '{where}'. A hypothesis must name at least one "
            "behaviour that is to stay."
        )


def _place(where: str, place: ConditionOptions, study: StudyConfig) -> Iterator[str]:
    if place.task not in study.tasks:
        yield f"'{where}' must name a task, one of {quoted(study.tasks)}. Got '{place.task}'."
        return
    known = None
    if study.tasks[place.task].source == "world":
        known = WORLD_CONDITIONS[place.task]
    if known is not None and place.condition is not None and place.condition not in known:
        yield (
            f"'{where}' must name a condition of '{place.task}', one of {quoted(known)}. "
            f"Got '{place.condition}'."
        )


def _probes(study: StudyConfig) -> Iterator[str]:
    probes = study.localise.probes
    for key in ("repeated", "needle"):
        task = getattr(probes, key, None)
        if task is not None and task not in study.tasks:
            yield f"'localise.probes.{key}' must be one of {quoted(study.tasks)}. Got '{task}'."
        elif key == "needle" and task is not None:
            own = study.tasks[task]
            # A table may have needles of its own as the content of its trials.
            if own.source != "table" and own.probe != "needle":
                yield (
                    "'localise.probes.needle' must be a task with source: probe and probe: needle, "
                    f"or a table whose content are needles. Got '{task}', which asks for none."
                )


def _evidence(study: StudyConfig) -> Iterator[str]:
    evidence = study.evidence
    for key in ("doses", "neuron_doses"):
        doses = list(getattr(evidence, key))
        if doses != sorted(set(doses)):
            yield f"'evidence.{key}' must ascend. Got {doses}."
    if (evidence.gain is not None) != (evidence.unit_mode == "gain"):
        yield (
            "'evidence.gain' is the factor of 'evidence.unit_mode: gain', and needed for it. "
            f"Got the gain {evidence.gain} and the mode {evidence.unit_mode}."
        )
    if evidence.baseline_control >= evidence.baseline_target:
        yield (
            "'evidence.baseline_control' must be below 'evidence.baseline_target' "
            f"({evidence.baseline_target}). Got {evidence.baseline_control}."
        )
    needed = needed_draws(1, evidence.alpha)
    if study.localise.permutations < needed:
        yield (
            f"'localise.permutations' must be at least {needed}, or no p-value reaches "
            f"evidence.alpha ({evidence.alpha}). Got {study.localise.permutations}."
        )
