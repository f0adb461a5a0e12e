"""A whole study: read from YAML, checked against the schema and across its sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lmri.config.analyses import BottleneckOptions, InformationOptions, SparseOptions
from lmri.config.checking import check_schema, check_study
from lmri.config.decoding import DecodeOptions
from lmri.config.encoding import EncodeOptions
from lmri.config.examples import ExampleOptions
from lmri.config.experiments import EXPERIMENTS, ExperimentOptions
from lmri.config.networks import AlignOptions, ConnectOptions
from lmri.config.options import (
    ContrastOptions,
    EvidenceOptions,
    LocaliseOptions,
    Options,
    RecordOptions,
    ReportOptions,
    SplitOptions,
    SubjectOptions,
    TaskOptions,
    WorldOptions,
)
from lmri.config.reading import read_yaml
from lmri.config.scoring import RESPONSE_SCORES, ScorersOptions
from lmri.config.series import expand_series
from lmri.config.validation import ValidateOptions
from lmri.errors import ConfigError

SECTIONS: dict[str, type[Options]] = {
    "world": WorldOptions,
    "splits": SplitOptions,
    "record": RecordOptions,
    "localise": LocaliseOptions,
    "evidence": EvidenceOptions,
    "validate": ValidateOptions,
    "scorers": ScorersOptions,
    "sparse": SparseOptions,
    "information": InformationOptions,
    "connect": ConnectOptions,
    "align": AlignOptions,
    "decode": DecodeOptions,
    "encode": EncodeOptions,
    "examples": ExampleOptions,
    "bottleneck": BottleneckOptions,
    "report": ReportOptions,
}
"""Sections with one set of keys; each may be left out, wholly or partly."""

NAMED: dict[str, type[Options]] = {
    "subjects": SubjectOptions,
    "tasks": TaskOptions,
    "contrasts": ContrastOptions,
}
"""Sections that map a name to a set of keys."""


@dataclass(frozen=True)
class StudyConfig:
    """Everything a study is.

    Attributes
    ----------
    study : str
        Name of the folder under ``results/``.
    subjects, tasks, contrasts : dict
        By name, in the order of the file.
    training : dict
        Overrides of the training recipe; the stage that trains checks them.
    seed, world, splits, record, localise, evidence, validate, report
    scorers, sparse, information, connect, align, decode, encode, examples, bottleneck
        The seed of the study and its sections.
    experiments : dict
        Options of the experiments that are run, by name.
    """

    study: str
    subjects: dict[str, SubjectOptions]
    tasks: dict[str, TaskOptions]
    contrasts: dict[str, ContrastOptions]
    seed: int = 0
    world: WorldOptions = field(default_factory=WorldOptions)
    training: dict[str, Any] = field(default_factory=dict)
    splits: SplitOptions = field(default_factory=SplitOptions)
    record: RecordOptions = field(default_factory=RecordOptions)
    localise: LocaliseOptions = field(default_factory=LocaliseOptions)
    evidence: EvidenceOptions = field(default_factory=EvidenceOptions)
    validate: ValidateOptions = field(default_factory=ValidateOptions)
    scorers: ScorersOptions = field(default_factory=ScorersOptions)
    sparse: SparseOptions = field(default_factory=SparseOptions)
    information: InformationOptions = field(default_factory=InformationOptions)
    connect: ConnectOptions = field(default_factory=ConnectOptions)
    align: AlignOptions = field(default_factory=AlignOptions)
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    examples: ExampleOptions = field(default_factory=ExampleOptions)
    bottleneck: BottleneckOptions = field(default_factory=BottleneckOptions)
    report: ReportOptions = field(default_factory=ReportOptions)
    experiments: dict[str, ExperimentOptions] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "the study") -> StudyConfig:
        """Check plain values and make the study.

        Parameters
        ----------
        values : mapping
            As read from YAML or JSON.
        source : str
            Where they came from: begins every message.

        Returns
        -------
        StudyConfig
            The checked study.

        Raises
        ------
        ConfigError
            Naming the source, the key, what was got and what is allowed.
        """
        check_schema(values, source)
        values = {**values, "subjects": expand_series(values["subjects"], source)}
        parts: dict[str, Any] = dict(values)
        for name, kind in SECTIONS.items():
            parts[name] = kind.from_dict(values.get(name, {}))
        for name, kind in NAMED.items():
            parts[name] = {
                key: kind.from_dict({"name": key, **entry}) for key, entry in values[name].items()
            }
        parts["experiments"] = {
            name: EXPERIMENTS[name].from_dict(entry)
            for name, entry in values.get("experiments", {}).items()
        }
        check_study(config := cls(**parts), source)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return the study as plain JSON values, every default filled in.

        Returns
        -------
        dict
            What :meth:`from_dict` reads back to an equal study; a series of checkpoints has
            become its subjects.
        """
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in SECTIONS:
            values[name] = values[name].to_dict()
        for name in NAMED:
            values[name] = {key: _unnamed(entry) for key, entry in values[name].items()}
        values["experiments"] = {name: own.to_dict() for name, own in self.experiments.items()}
        return values

    @property
    def deciding_scorers(self) -> ScorersOptions:
        """Scorers that verdicts and claims rest on, beside the scores of every response."""
        asked = [self.evidence.score, *(own.score for own in self.validate.claims)]
        names = dict.fromkeys(own for own in asked if own and own not in RESPONSE_SCORES)
        return replace(self.scorers, names=tuple(names)) if names else ScorersOptions()

    @property
    def hypotheses(self) -> list[ContrastOptions]:
        """Contrasts whose findings are claims."""
        return [entry for entry in self.contrasts.values() if entry.role == "hypothesis"]

    @property
    def claims(self) -> int:
        """Number of primary claims: hypotheses × subjects."""
        return len(self.hypotheses) * len(self.subjects)

    @property
    def compared(self) -> bool:
        """Whether there are subjects to compare with each other."""
        return len(self.subjects) > 1 and bool(self.hypotheses)

    @property
    def tested_tasks(self) -> list[str]:
        """Tasks of hypotheses that are recorded under a sparse plan too; none without one."""
        tasks = {entry.task for entry in self.hypotheses}
        return sorted(tasks) if self.sparse.finding_plan else []

    @property
    def informed_tasks(self) -> list[str]:
        """Tasks that information is estimated of: those of questions, or else of contrasts."""
        asked = self.information.questions or self.contrasts.values()
        tasks = {entry.task for entry in asked} if self.information.measures else set()
        return [task for task in self.tasks if task in tasks]

    @property
    def decoded_tasks(self) -> list[str]:
        """Tasks whose labels are decoded: those of contrasts and labels; by default all."""
        if not self.decode.labels:
            return list(self.tasks) if self.decode.analyses else []
        asked = (*self.decode.labels, *self.contrasts.values())
        tasks = {entry.task for entry in asked} if self.decode.analyses else set()
        return [task for task in self.tasks if task in tasks]

    @property
    def encoded_tasks(self) -> list[str]:
        """Tasks whose trials are encoded, in the order of the study."""
        return [task for task in self.tasks if task in self.encode.tasks]

    @property
    def shown_tasks(self) -> list[str]:
        """Tasks among whose trials examples of units are looked for: all, where any are."""
        return list(self.tasks) if self.examples.units else []

    @property
    def followed_series(self) -> list[str]:
        """Series of checkpoints whose information is followed over training."""
        return list(self.series) if self.informed_tasks else []

    @property
    def connected_tasks(self) -> list[str]:
        """Tasks whose trials networks of units are of: those named, or else of contrasts."""
        return self._asked_tasks(self.connect.tasks) if self.connect.kinds else []

    @property
    def aligned_tasks(self) -> list[str]:
        """Tasks whose trials subjects are compared in: those named, or else of contrasts."""
        return self._asked_tasks(self.align.tasks) if self.align.quantities else []

    def _asked_tasks(self, named: tuple[str, ...]) -> list[str]:
        asked = named or {entry.task for entry in self.contrasts.values()}
        return [task for task in self.tasks if task in asked]

    @property
    def sensitive_phases(self) -> list[str]:
        """Phases of which units that do not settle are looked for; none unless it is asked for."""
        asked = "sensitive" in self.information.measures
        return list(self.information.phases or self.localise.phases) if asked else []

    @property
    def base_seeds(self) -> list[int]:
        """Seeds of the bases that trained subjects start from."""
        seeds = {entry.base_seed for entry in self.subjects.values()}
        return sorted(seed for seed in seeds if seed is not None)

    @property
    def series(self) -> dict[str, list[SubjectOptions]]:
        """Subjects of every series of checkpoints, by their step."""
        members: dict[str, list[SubjectOptions]] = {}
        for entry in self.subjects.values():
            if entry.series is not None:
                members.setdefault(entry.series, []).append(entry)
        return {name: sorted(entries, key=_step) for name, entries in members.items()}

    @property
    def fetched(self) -> list[str]:
        """Subjects whose weights come from a hub, so over a network."""
        return [name for name, entry in self.subjects.items() if entry.source == "hub"]

    @property
    def jobs(self) -> dict[str, int]:
        """Number of jobs of every rule."""
        subjects, tasks = len(self.subjects), len(self.tasks)
        return {
            "base": len(self.base_seeds),
            "fetch": len(self.fetched),
            "subject": subjects - len(self.fetched),
            "stimuli": tasks,
            "record": subjects * tasks * self.record.shards,
            "localise": subjects,
            "group": 1,
            "calibrate": subjects if self.sparse.policies else 0,
            "record_sparse": subjects * len(self.tested_tasks),
            "survive": subjects if self.tested_tasks else 0,
            "sparse_run": subjects if self.sparse.policies else 0,
            "information": subjects if self.informed_tasks else 0,
            "dynamics": len(self.followed_series),
            "connect": subjects if self.connected_tasks else 0,
            "align": 1 if self.aligned_tasks else 0,
            "decode": subjects if self.decoded_tasks else 0,
            "encode": subjects if self.encoded_tasks else 0,
            "examples": subjects if self.shown_tasks else 0,
            "draws": subjects * self.validate.shards if self.validate.shards > 1 else 0,
            "validate": subjects,
            "experiment": subjects * len(self.experiments),
            "compare": 1 if self.compared else 0,
            "bottleneck": len(self.bottleneck.settings),
            "bottleneck_summary": 1 if self.bottleneck.settings else 0,
            "report": 1,
        }

    def summary(self) -> list[str]:
        """Say in a few lines what the study would run.

        Returns
        -------
        list of str
            One line each: a word, then what it stands for.
        """
        jobs = ", ".join(f"{count} {rule}" for rule, count in self.jobs.items() if count)
        contrasts = ", ".join(f"{c.name} ({c.role})" for c in self.contrasts.values())
        return [
            f"study      {self.study}",
            f"subjects   {len(self.subjects)}: {', '.join(self.subjects)}",
            *(
                f"series     {name}: steps {', '.join(str(entry.step) for entry in entries)}"
                for name, entries in self.series.items()
            ),
            f"tasks      {len(self.tasks)}: {', '.join(self.tasks)}",
            f"contrasts  {len(self.contrasts)}: {contrasts}",
            f"maps       {', '.join(self.localise.maps)}",
            f"jobs       {sum(self.jobs.values())}: {jobs}",
            f"claims     {self.claims}: hypotheses x subjects",
            f"beside     {', '.join(own.kind for own in self.validate.claims) or 'no claim'}",
            *(
                [f"asks       {', '.join(self.experiments)}: experiments"]
                if self.experiments
                else []
            ),
            f"sham maps  {self.evidence.sham_draws(self.claims)} at each primary endpoint",
            f"report     results/{self.study}/report/index.html",
        ]

    def check_files(self, source: str = "the study") -> None:
        """Raise unless the folders and tables that the study names are there.

        Parameters
        ----------
        source : str
            Begins every message.

        Raises
        ------
        ConfigError
            Naming the key and the path.
        """
        for name, subject in self.subjects.items():
            if subject.path is not None and not Path(subject.path).is_dir():
                raise ConfigError(
                    f"{source}: 'subjects.{name}.path' must be a folder with a Hugging Face model "
                    f"(or use source: hub with an id). Got '{subject.path}', which is no folder."
                )
        for name, task in self.tasks.items():
            if task.path is not None and not Path(task.path).exists():
                raise ConfigError(
                    f"{source}: 'tasks.{name}.path' must be a table of stimuli, relative to the "
                    f"folder the study is run from. Got '{task.path}', which is not there."
                )


def load_study(path: Path) -> StudyConfig:
    """Read a study file.

    Parameters
    ----------
    path : Path
        YAML.

    Returns
    -------
    StudyConfig
        The checked study.

    Raises
    ------
    ConfigError
        If the file is missing, not YAML, or not a study; always one line.
    """
    return StudyConfig.from_dict(read_yaml(path), str(path))


def _step(entry: SubjectOptions) -> int:
    return -1 if entry.step is None else entry.step


def _unnamed(entry: Options) -> dict[str, Any]:
    values = entry.to_dict()
    del values["name"]
    return values
