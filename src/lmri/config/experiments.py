"""The section ``experiments`` of a study: which are run, with their options."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmri.checks import quoted
from lmri.config.options import ConditionOptions, Options, needed_draws

if TYPE_CHECKING:
    from lmri.config.study import StudyConfig


@dataclass(frozen=True)
class ExperimentOptions(Options):
    """Options of an experiment."""

    def problems(self, where: str, study: StudyConfig) -> Iterator[str]:
        """Find what no schema can say.

        Parameters
        ----------
        where : str
            Key of the experiment in the study.
        study : StudyConfig
            The study.

        Yields
        ------
        str
            One line for each, naming the key.
        """
        yield from ()


@dataclass(frozen=True)
class VoidLayersOptions(ExperimentOptions):
    """Layers that hardly change a token are passed over.

    A layer is void at a token if it adds less to the norm of the residual than ``share`` of the
    range of what the layers before it added. At most ``trials`` of each of ``tasks`` are run, and
    ``draws`` random choices of as many layers at every token. An answer survives if the share of
    right ones falls by less than ``margin``.
    """

    tasks: tuple[str, ...]
    share: float = 0.8
    draws: int = 199
    trials: int = 120
    margin: float = 0.1

    def problems(self, where: str, study: StudyConfig) -> Iterator[str]:
        """Find tasks that the study does not have, and too few draws."""
        yield from unknown_tasks(f"{where}.tasks", self.tasks, study.tasks)
        # Of the three statements of a task one has no control, but counts in the correction.
        yield from too_few_draws(f"{where}.draws", self.draws, 3 * len(self.tasks), study)


@dataclass(frozen=True)
class SteeringOptions(ExperimentOptions):
    """A direction of the residual switches the behaviour of a contrast on and off.

    Vectors lead from the trials of its control ``condition`` (the first, if none is named) to those
    of its target. ``vectors`` are made in every way that is named. Their layer and the smallest of
    ``scales`` that changes the score by ``target_effect``, with a next token at most
    ``most_entropy`` nats less certain than that of the intact subject on the less certain of both
    sides, are searched on calibration trials. ``draws`` random directions of the
    same length are the controls; at most ``trials`` of each condition are run.
    """

    contrast: str
    condition: str | None = None
    vectors: tuple[str, ...] = ("mean_difference", "control_vector", "entropy_weighted")
    scales: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
    target_effect: float = 0.5
    most_entropy: float = 1.0
    draws: int = 199
    trials: int = 120

    def problems(self, where: str, study: StudyConfig) -> Iterator[str]:
        """Find a contrast that the study does not have, or a condition that is none of it."""
        known = [own.name for own in study.contrasts.values() if own.target]
        if self.contrast not in known:
            yield f"'{where}.contrast' must be one of {quoted(known)}. Got '{self.contrast}'."
            return
        controls = study.contrasts[self.contrast].controls
        if self.condition is not None and self.condition not in controls:
            yield (
                f"'{where}.condition' must be a control of '{self.contrast}', one of "
                f"{quoted(controls)}. Got '{self.condition}'."
            )
        if list(self.scales) != sorted(set(self.scales)):
            yield f"'{where}.scales' must ascend. Got {list(self.scales)}."
        yield from too_few_draws(f"{where}.draws", self.draws, 2 * len(self.vectors) + 1, study)


@dataclass(frozen=True)
class RelationsOptions(ExperimentOptions):
    """Units of single relations are switched off.

    Conditions of ``task`` are the relations, each asked of every value of the carrier ``within``.
    Units of ``kinds`` are ranked by what they do in one of ``phases``, which calibration trials
    choose. ``draws`` random sets stand beside those of each relation.
    """

    task: str = "relations"
    within: str = "place"
    kinds: tuple[str, ...] = ("expert", "expert_neuron")
    phases: tuple[str, ...] = ("content", "prompt_last", "response")
    draws: int = 199

    def problems(self, where: str, study: StudyConfig) -> Iterator[str]:
        """Find a task that the study does not have, what is not recorded, and too few draws."""
        yield from unknown_tasks(f"{where}.task", [self.task], study.tasks)
        for needed in ("router", "neuron"):
            reading = {"router": {"expert", "expert_neuron"}, "neuron": {"neuron", "expert_neuron"}}
            if reading[needed] & {*self.kinds} and needed not in study.record.quantities:
                yield (
                    f"'record.quantities' must have '{needed}' for '{where}.kinds' "
                    f"{quoted(self.kinds)}. Got {quoted(study.record.quantities)}."
                )
        yield from too_few_draws(f"{where}.draws", self.draws, 5 * len(self.kinds), study)


@dataclass(frozen=True)
class SkillsOptions(ExperimentOptions):
    """Skills to ``forget``, each by itself, while what is to ``retain`` stays.

    ``shares`` of all neurons are moved or zeroed; ``scales`` multiply the size of the hypercube.
    ``trials`` of every part are used in each split, at most.
    """

    forget: tuple[ConditionOptions, ...] = field(metadata={"section": ConditionOptions})
    retain: tuple[ConditionOptions, ...] = field(metadata={"section": ConditionOptions})
    shares: tuple[float, ...] = (0.005, 0.01, 0.03, 0.1)
    scales: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    trials: int = 100
    draws: int = 199

    def problems(self, where: str, study: StudyConfig) -> Iterator[str]:
        """Find tasks that the study does not have, doses out of order, and too few draws."""
        for name in ("forget", "retain"):
            tasks = [own.task for own in getattr(self, name)]
            yield from unknown_tasks(f"{where}.{name}", tasks, study.tasks)
        for name in ("shares", "scales"):
            doses = list(getattr(self, name))
            if doses != sorted(set(doses)):
                yield f"'{where}.{name}' must ascend. Got {doses}."
        yield from too_few_draws(f"{where}.draws", self.draws, 5 * len(self.forget), study)


@dataclass(frozen=True)
class CircuitReuseOptions(ExperimentOptions):
    """Circuits of ``behaviours`` are compared: as many ``units`` of a ``kind`` each.

    ``trials`` of every behaviour are used in each split, at most; where answers that fail are to be
    mended, all of calibration and evaluation. ``draws`` random sets stand beside each circuit.
    """

    behaviours: tuple[ConditionOptions, ...] = field(metadata={"section": ConditionOptions})
    kind: str = "expert"
    units: int = 8
    trials: int = 60
    draws: int = 99

    def problems(self, where: str, study: StudyConfig) -> Iterator[str]:
        """Find tasks that the study does not have, and too few draws."""
        tasks = [own.task for own in self.behaviours]
        yield from unknown_tasks(f"{where}.behaviours", tasks, study.tasks)
        yield from too_few_draws(f"{where}.draws", self.draws, 5, study)


RETRIEVAL_STATEMENTS, COPY_STATEMENTS = 11, 4
"""Statements of these experiments, which are corrected for each other."""


@dataclass(frozen=True)
class RetrievalHeadsOptions(ExperimentOptions):
    """Heads that look at a needle are switched off.

    The ``heads`` best by their retrieval score in the task ``needle`` are compared with other sets
    of as many, at most ``draws`` of them, on at most ``trials`` of it and of the task ``copying``.
    An answer is lost if the share of right ones falls by more than ``margin``; a behaviour is there
    if the intact subject gives the share ``baseline`` of the right answers.
    """

    needle: str = "needle"
    copying: str = "copying"
    heads: int = 3
    draws: int = 999
    trials: int = 60
    margin: float = 0.1
    baseline: float = 0.5

    def problems(self, where: str, study: StudyConfig) -> Iterator[str]:
        """Find tasks that the study does not have, or that are not recorded so."""
        yield from unknown_tasks(f"{where}.needle", [self.needle], study.tasks)
        yield from unknown_tasks(f"{where}.copying", [self.copying], study.tasks)
        for key, have in (("quantities", study.record.quantities), ("full", study.record.full)):
            if "attention" not in have:
                yield f"'record.{key}' must have 'attention' for '{where}'. Got {list(have)}."
        yield from too_few_draws(f"{where}.draws", self.draws, RETRIEVAL_STATEMENTS, study)


@dataclass(frozen=True)
class CopyTransitionOptions(ExperimentOptions):
    """The base that a subject is is trained again with heads that are held at patterns.

    Once for each of ``seeds`` in every arm. After ``every`` so many steps it is asked at most
    ``trials`` of ``task``; it has learnt to copy where it says the share ``copied`` of the words,
    and is kept from it where at the end it says less than a free run by more than ``margin``.
    """

    task: str = "copying"
    seeds: tuple[int, ...] = (21, 22, 23, 24, 25, 26, 27)
    every: int = 10
    copied: float = 0.8
    trials: int = 60
    margin: float = 0.1

    def problems(self, where: str, study: StudyConfig) -> Iterator[str]:
        """Find a task that the study does not have, and too few seeds for any statement."""
        yield from unknown_tasks(f"{where}.task", [self.task], study.tasks)
        needed = math.ceil(math.log2(round(COPY_STATEMENTS / study.evidence.alpha, 6)))
        if len(self.seeds) < needed:
            yield (
                f"'{where}.seeds' must be at least {needed}, or no statement reaches "
                f"evidence.alpha ({study.evidence.alpha}). Got {len(self.seeds)}."
            )


@dataclass(frozen=True)
class LanguageNetworkOptions(ExperimentOptions):
    """Units that respond most to sentences are switched off.

    Of every one of ``kinds`` the ``percents`` that respond more to the sentences than to the
    nonwords of ``task``; statements are about the last. Beside them ``draws`` random sets of the
    same layers and as many sham maps. Language is lost if held-out sentences lose more than
    ``margin`` nats a token; what is lost of ``others`` is compared, if the intact subject says a
    token of their answers with a probability of at least ``baseline``.
    """

    task: str = "language"
    others: tuple[str, ...] = ("arithmetic", "copying")
    kinds: tuple[str, ...] = ("neuron",)
    percents: tuple[float, ...] = (1, 2, 5)
    draws: int = 199
    trials: int = 60
    margin: float = 0.1
    baseline: float = 0.5

    def problems(self, where: str, study: StudyConfig) -> Iterator[str]:
        """Find tasks and quantities that the study does not have, and shares that do not ascend."""
        yield from unknown_tasks(f"{where}.task", [self.task], study.tasks)
        yield from unknown_tasks(f"{where}.others", self.others, study.tasks)
        for kind in self.kinds:
            if kind not in study.record.quantities:
                yield (
                    f"'record.quantities' must have '{kind}' for '{where}.kinds'. Got "
                    f"{list(study.record.quantities)}."
                )
        if list(self.percents) != sorted(set(self.percents)):
            yield f"'{where}.percents' must ascend. Got {list(self.percents)}."
        statements = len(self.kinds) * (2 + len(self.others))
        yield from too_few_draws(f"{where}.draws", self.draws, statements, study)


EXPERIMENTS: dict[str, type[ExperimentOptions]] = {
    "void_layers": VoidLayersOptions,
    "steering": SteeringOptions,
    "relations": RelationsOptions,
    "skills": SkillsOptions,
    "circuit_reuse": CircuitReuseOptions,
    "retrieval_heads": RetrievalHeadsOptions,
    "copy_transition": CopyTransitionOptions,
    "language_network": LanguageNetworkOptions,
}
"""Options of every experiment by its name."""


def unknown_tasks(where: str, named: Collection[str], tasks: Collection[str]) -> Iterator[str]:
    """Find tasks that a study does not have.

    Parameters
    ----------
    where : str
        Key that names them.
    named, tasks : collection of str
        Those that are named, and those that there are.

    Yields
    ------
    str
        One line for each.
    """
    for task in named:
        if task not in tasks:
            yield f"'{where}' must be of the study's tasks, {quoted(tasks)}. Got '{task}'."


def too_few_draws(where: str, draws: int, statements: int, study: StudyConfig) -> Iterator[str]:
    """Find a number of control draws with which no statement could hold.

    Parameters
    ----------
    where : str
        Key of the number.
    draws : int
        The number.
    statements : int
        Statements of the experiment that are corrected for each other.
    study : StudyConfig
        With the level.

    Yields
    ------
    str
        One line, naming the number that is needed.
    """
    needed = needed_draws(statements, study.evidence.alpha)
    if draws < needed:
        yield (
            f"'{where}' must be at least {needed}, or no p of {statements} statements reaches "
            f"evidence.alpha ({study.evidence.alpha}). Got {draws}."
        )


def experiment_problems(study: StudyConfig) -> Iterator[str]:
    """Find what is wrong with the experiments of a study.

    Parameters
    ----------
    study : StudyConfig
        The study.

    Yields
    ------
    str
        One line for each, naming the key.
    """
    for name, options in study.experiments.items():
        yield from options.problems(f"experiments.{name}", study)
