"""What a study takes, before anything of it runs: jobs, disk, memory, hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from lmri.anatomy import Anatomy, describe, parameter_counts
from lmri.config import StudyConfig, SubjectOptions
from lmri.preflight import coefficients as per
from lmri.preflight.analysis_costs import shared_costs
from lmri.preflight.costs import subject_costs
from lmri.preflight.models import empty_subject
from lmri.preflight.reader import Reader
from lmri.preflight.volumes import Trials, count_trials, subject_tokenizer
from lmri.stimuli import make_stimuli

FACTOR = 3
"""Within which disk and memory are told; a test compares them with a run."""

HOUR = 3600.0

SMALL = ("stimuli", "group", "dynamics", "compare", "bottleneck_summary", "report")
"""Stages that take little more than their start."""


@dataclass(frozen=True)
class Estimate:
    """What a study takes.

    Attributes
    ----------
    study : str
        Its name.
    jobs : dict of str to int
        By rule.
    trials, tokens : int
        Trials of all tasks, and tokens that all subjects are recorded on, if responses are as long
        as they may be; from the mean length of prompts.
    stages : DataFrame
        A row for each stage of each subject: the fields of
        :class:`lmri.preflight.costs.StageCost`, and ``subject``.
    weights : float
        Bytes that are fetched into the cache of the hub; part of no folder of the study.
    guessed : bool
        Whether tokens were told from characters, for want of a tokenizer.
    """

    study: str
    jobs: dict[str, int]
    trials: int
    tokens: int
    stages: pd.DataFrame
    weights: float
    guessed: bool

    @property
    def total_jobs(self) -> int:
        """Jobs of all rules."""
        return sum(self.jobs.values())

    @property
    def disk(self) -> float:
        """Bytes below the folder of the study."""
        return float(self.stages["disk"].sum())

    @property
    def memory(self) -> float:
        """Bytes of the largest job."""
        return float(self.stages["memory"].max())

    @property
    def core_hours(self) -> float:
        """Hours of a core, starts of all jobs included."""
        alone = self.total_jobs - sum(
            self.jobs.get(stage, 0) for stage in set(self.stages["stage"])
        )
        on_cores = self.stages.loc[~self.stages["gpu"], "seconds"].sum()
        return float(on_cores + alone * per.START) / HOUR

    @property
    def left_out(self) -> list[str]:
        """Stages that the study has and no model tells of: they count as their start."""
        known = {*SMALL, *self.stages["stage"]}
        return [rule for rule, count in self.jobs.items() if count and rule not in known]

    @property
    def gpu_hours(self) -> float:
        """Hours for which jobs hold a GPU, at an assumed speed."""
        return float(self.stages.loc[self.stages["gpu"], "seconds"].sum()) / HOUR

    def lines(self) -> list[str]:
        """Say it in a few lines: a word, then what it stands for."""
        by_stage = self.stages.groupby("stage", sort=False)
        largest = self.stages.loc[self.stages["memory"].idxmax()]
        hours = {name: part["seconds"].sum() / HOUR for name, part in by_stage}
        most = sorted(hours, key=hours.get, reverse=True)[:4]
        jobs = ", ".join(f"{count} {rule}" for rule, count in self.jobs.items() if count)
        disk = {name: part["disk"].sum() for name, part in by_stage}
        where = ", ".join(f"{name} {_size(n)}" for name, n in disk.items() if n >= 0.01 * self.disk)
        waits = {name: self.total_jobs * s / HOUR for name, s in per.SCHEDULED.items()}
        lines = [
            f"study       {self.study}",
            f"jobs        {self.total_jobs}: {jobs}",
            f"stimuli     {self.trials} trials; about {self.tokens} tokens are recorded, or fewer"
            + (" (told from characters: there is no tokenizer here)" if self.guessed else ""),
            f"disk        {_size(self.disk)}: {where}",
            f"memory      {_size(self.memory)} in the largest job ({largest['stage']} of "
            f"{largest['subject']})",
            f"core hours  {self.core_hours:.2g}",
            f"GPU hours   {self.gpu_hours:.2g}"
            + (
                f" at {per.GPU_FLOPS:.0e} operations a second, which is assumed"
                if self.gpu_hours
                else ": the study puts no subject on a GPU"
            ),
            f"most of it  {', '.join(f'{name} {hours[name]:.2g} h' for name in most)}",
            f"waiting     {waits['local']:.2g} h for Snakemake on one machine, "
            f"{waits['slurm']:.2g} h for Slurm, over all jobs; many wait at once",
            f"accuracy    disk and memory within {FACTOR} times, hours of the order "
            "(docs/scaling.md)",
        ]
        if self.left_out:
            lines.append(
                f"left out    {', '.join(self.left_out)}: counted as the start of its jobs"
            )
        if self.weights:
            lines.insert(4, f"weights     {_size(self.weights)} more in the cache of the hub")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "study": self.study,
            "jobs": self.jobs,
            "trials": self.trials,
            "tokens": self.tokens,
            "disk_bytes": self.disk,
            "weight_bytes": self.weights,
            "memory_bytes": self.memory,
            "core_hours": self.core_hours,
            "gpu_hours": self.gpu_hours,
            "left_out": self.left_out,
            "stages": self.stages.to_dict(orient="records"),
        }


def estimate_study(study: StudyConfig) -> Estimate:
    """Estimate what a study takes; its stimuli are made, and no subject is loaded.

    Parameters
    ----------
    study : StudyConfig
        A checked study.

    Returns
    -------
    Estimate
        Of the stages for which there is a model (`lmri.preflight.costs`); jobs of others count as
        their start.

    Raises
    ------
    LmriError
        If a table or the configuration of a subject cannot be read.
    """
    tables = {
        name: make_stimuli(
            task=name, options=task, splits=study.splits, world=study.world, seed=study.seed
        )
        for name, task in study.tasks.items()
    }
    sizes = _Sizes(study, tables)
    rows: list[dict[str, Any]] = []
    readers: dict[str, Reader] = {}
    tokens, weights, fetched = 0.0, 0.0, set()
    for name, options in study.subjects.items():
        reader = sizes.reader(options)
        readers[name] = reader
        rows += [{"subject": name, **vars(cost)} for cost in subject_costs(study, reader)]
        tokens += sizes.recorded_tokens(reader)
        if options.source == "hub" and (options.id, options.revision) not in fetched:
            fetched.add((options.id, options.revision))
            weights += reader.weight_bytes
    rows += [{"subject": name, **vars(cost)} for name, cost in shared_costs(study, readers)]
    stages = pd.DataFrame(rows)
    stages.loc[stages["stage"] == "fetch", "disk"] = 0.0  # they lie in the cache of the hub
    trials = sum(map(len, tables.values()))
    return Estimate(study.study, study.jobs, trials, round(tokens), stages, weights, sizes.guessed)


class _Sizes:
    """Anatomies and tokens of the subjects of a study, each looked up once."""

    def __init__(self, study: StudyConfig, tables: dict[str, pd.DataFrame]) -> None:
        self._study, self._tables = study, tables
        self._known: dict[tuple, tuple[Anatomy, int, int, dict[str, Trials]]] = {}
        self.guessed = False

    def reader(self, options: SubjectOptions) -> Reader:
        """Describe a subject; checkpoints of one model are taken to have one anatomy."""
        made = {"embedded": "packaged", "trained": "recipe", "base": "recipe"}
        key = (made.get(options.source), options.path or options.id)
        if key not in self._known:
            model = empty_subject(self._study, options)
            anatomy = describe(model)
            tokenizer = subject_tokenizer(self._study, options)
            self.guessed |= tokenizer is None
            tasks = {name: count_trials(t, tokenizer) for name, t in self._tables.items()}
            self._known[key] = (anatomy, *parameter_counts(model, anatomy), tasks)
        anatomy, total, used, tasks = self._known[key]
        return Reader(options, anatomy, total, used, tasks)

    def recorded_tokens(self, reader: Reader) -> float:
        """Count the tokens that a subject is recorded on, at most."""
        options = self._study.record
        return sum(
            trials.count(*options.splits)
            * options.repeats
            * (trials.prompt + options.max_new_tokens)
            for trials in reader.tasks.values()
        )


def _size(count: float) -> str:
    for size, suffix in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= size:
            return (
                f"{count / size:.2g} {suffix}"
                if count < 100 * size
                else f"{count / size:.0f} {suffix}"
            )
    return f"{count / 1e3:.0f} kB"
