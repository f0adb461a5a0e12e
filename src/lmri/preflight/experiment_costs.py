"""What the experiments of a study cost: texts that are read under plans, times their tokens.

Each counts what grows with its options; how much of the reading plans share is one coefficient for
all (:data:`lmri.preflight.coefficients.PER_PLANNED`), so that hours are of the order.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

from lmri.config import (
    CircuitReuseOptions,
    ConditionOptions,
    CopyTransitionOptions,
    LanguageNetworkOptions,
    RelationsOptions,
    RetrievalHeadsOptions,
    SkillsOptions,
    SteeringOptions,
    StudyConfig,
    VoidLayersOptions,
)
from lmri.experiment.copy_transition.holding import ARMS
from lmri.preflight import coefficients as per
from lmri.preflight.reader import Reader, StageCost
from lmri.preflight.volumes import units_of
from lmri.subjects import Recipe

WAYS = 2
"""Kinds of controls of an experiment that has two, and aims of a vector: on and off."""

MODES_OF_HEADS = 3
"""Ways in which heads are switched off."""


def experiment_cost(study: StudyConfig, reader: Reader) -> StageCost:
    """Estimate all experiments of a study on one subject.

    Parameters
    ----------
    study : StudyConfig
        With at least one experiment.
    reader : Reader
        The subject.

    Returns
    -------
    StageCost
        Of the stage ``experiment``.
    """
    seconds = sum(
        per.START + COSTS[name](options, study, reader)
        for name, options in study.experiments.items()
    )
    memory = reader.loaded + per.MAPPING
    return StageCost("experiment", seconds, reader.on_gpu, memory, 1e6 * len(study.experiments))


def _read(study: StudyConfig, reader: Reader, task: str, most: int, plans: float) -> float:
    """Seconds of reading prompts and answers of the evaluation trials of a task under plans."""
    trials = reader.tasks[task]
    tokens = min(most, trials.count("evaluation")) * (trials.prompt + study.record.max_new_tokens)
    return per.PER_PLANNED * reader.passes(plans * tokens)


def _parts(
    study: StudyConfig, reader: Reader, parts: tuple[ConditionOptions, ...], most: int, plans: float
) -> float:
    return sum(_read(study, reader, part.task, most, plans) for part in parts)


def _void_layers(options: VoidLayersOptions, study: StudyConfig, reader: Reader) -> float:
    plans = WAYS * options.draws
    return sum(_read(study, reader, task, options.trials, plans) for task in options.tasks)


def _steering(options: SteeringOptions, study: StudyConfig, reader: Reader) -> float:
    searched = reader.anatomy.layers * len(options.scales)
    plans = len(options.vectors) * WAYS * (WAYS * options.draws + searched)
    task = study.contrasts[options.contrast].task
    return _read(study, reader, task, options.trials, plans)


def _relations(options: RelationsOptions, study: StudyConfig, reader: Reader) -> float:
    trials = reader.tasks[options.task]
    plans = len(options.kinds) * trials.conditions * options.draws  # each has sets of its own
    return _read(study, reader, options.task, trials.count("evaluation"), plans)


def _skills(options: SkillsOptions, study: StudyConfig, reader: Reader) -> float:
    plans = len(options.forget) * options.draws
    return _parts(study, reader, options.retain, options.trials, plans)


def _circuit_reuse(options: CircuitReuseOptions, study: StudyConfig, reader: Reader) -> float:
    one_by_one = units_of(options.kind, reader.anatomy)
    plans = one_by_one + len(options.behaviours) * options.draws
    return _parts(study, reader, options.behaviours, options.trials, plans)


def _retrieval_heads(options: RetrievalHeadsOptions, study: StudyConfig, reader: Reader) -> float:
    heads = units_of("head", reader.anatomy)
    plans = MODES_OF_HEADS * min(options.draws, comb(heads, min(options.heads, heads)))
    tasks = (options.needle, options.copying)
    return sum(_read(study, reader, task, options.trials, plans) for task in tasks)


def _copy_transition(options: CopyTransitionOptions, study: StudyConfig, reader: Reader) -> float:
    recipe = Recipe.from_dict(study.training)
    steps = len(ARMS) * len(options.seeds) * recipe.base_steps
    looks = steps / options.every
    training = reader.trained(steps * recipe.rows * recipe.length) + steps * per.PER_STEP
    return training + _read(study, reader, options.task, options.trials, looks)


def _language_network(options: LanguageNetworkOptions, study: StudyConfig, reader: Reader) -> float:
    plans = len(options.kinds) * WAYS * options.draws
    tasks = (options.task, *options.others)
    return sum(_read(study, reader, task, options.trials, plans) for task in tasks)


COSTS: dict[str, Callable[..., float]] = {
    "void_layers": _void_layers,
    "steering": _steering,
    "relations": _relations,
    "skills": _skills,
    "circuit_reuse": _circuit_reuse,
    "retrieval_heads": _retrieval_heads,
    "copy_transition": _copy_transition,
    "language_network": _language_network,
}
"""Seconds of each experiment, beside its start."""
