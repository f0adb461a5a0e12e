"""The slice of a study that a stage reads, as plain JSON.

A job gets its slice on the command line, and its parameters are what makes Snakemake run it
again: a change elsewhere in the study leaves the job alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmri.checks import check_choice, quoted
from lmri.config.options import LOAD_KEYS
from lmri.config.study import StudyConfig, load_study
from lmri.errors import ConfigError

__all__ = ["STAGES", "read_stage", "stage_slice"]


MOST_SURVIVING = 500
"""Relabellings, at most, of maps that are made again to be compared."""


def _base(study: StudyConfig, base_seed: int) -> dict[str, Any]:
    return {"base_seed": base_seed, "world": study.world.to_dict(), "training": study.training}


def _subject(study: StudyConfig, subject: str) -> dict[str, Any]:
    entry = _entry(study, "subjects", subject)
    # Left out: another dtype reads the same files, which are not to be fetched or trained again.
    entry = {key: value for key, value in entry.items() if key not in LOAD_KEYS}
    return {"subject": entry, "world": study.world.to_dict(), "training": study.training}


def _stimuli(study: StudyConfig, task: str) -> dict[str, Any]:
    return {
        "seed": study.seed,
        "task": _entry(study, "tasks", task),
        "splits": study.splits.to_dict(),
        "world": study.world.to_dict(),
    }


def _record(study: StudyConfig, subject: str, task: str) -> dict[str, Any]:
    _entry(study, "subjects", subject)
    _entry(study, "tasks", task)
    return {
        "seed": study.seed,
        "subject": subject,
        "load": study.subjects[subject].load.to_dict(),
        "task": task,
        "record": study.record.to_dict(),
    }


def _localise(study: StudyConfig, subject: str) -> dict[str, Any]:
    _entry(study, "subjects", subject)
    return {
        "seed": study.seed,
        "subject": subject,
        "load": study.subjects[subject].load.to_dict(),
        "tasks": {name: list(task.carriers) for name, task in study.tasks.items()},
        "contrasts": [entry.to_dict() for entry in study.contrasts.values()],
        "localise": study.localise.to_dict(),
        "evidence": study.evidence.to_dict(),
        "claims": study.claims,
        "stated": [own.to_dict() for own in study.validate.claims],
    }


def _group(study: StudyConfig) -> dict[str, Any]:
    return {
        "seed": study.seed,
        "subjects": {
            name: {"origin": entry.origin, "series": entry.series or "", "step": entry.step}
            for name, entry in study.subjects.items()
        },
        "contrasts": [entry.to_dict() for entry in study.contrasts.values()],
        "localise": study.localise.to_dict(),
        "alpha": study.evidence.alpha,
    }


def _calibrate(study: StudyConfig, subject: str) -> dict[str, Any]:
    _entry(study, "subjects", subject)
    return {
        "seed": study.seed,
        "subject": subject,
        "load": study.subjects[subject].load.to_dict(),
        "sparse": study.sparse.to_dict(),
    }


def _record_sparse(study: StudyConfig, subject: str, task: str) -> dict[str, Any]:
    # What a map needs and no more: no other split, one store, nothing left out on purpose.
    own = {**_record(study, subject, task)["record"], "splits": ["selection"], "shards": 1}
    own.pop("without", None)
    return {**_record(study, subject, task), "record": own, "plan": study.sparse.finding_plan}


def _survive(study: StudyConfig, subject: str) -> dict[str, Any]:
    own = _localise(study, subject)
    tested = [entry.to_dict() for entry in study.hypotheses]
    # Enough to select units; the maps themselves have their p-values from more.
    own["localise"]["permutations"] = min(own["localise"]["permutations"], MOST_SURVIVING)
    kept = ("seed", "subject", "load", "tasks", "localise", "evidence")
    return {**{key: own[key] for key in kept}, "contrasts": tested}


def _sparse_run(study: StudyConfig, subject: str) -> dict[str, Any]:
    # Tasks in their order, which the tables keep.
    return {**_calibrate(study, subject), "tasks": list(study.tasks)}


def _information(study: StudyConfig, subject: str) -> dict[str, Any]:
    _entry(study, "subjects", subject)
    own = study.information.to_dict()
    own.pop("follow", None)  # of series
    return {
        "seed": study.seed,
        "subject": subject,
        "load": study.subjects[subject].load.to_dict(),
        "tasks": {name: list(study.tasks[name].carriers) for name in study.informed_tasks},
        "information": {**own, "phases": own.get("phases") or list(study.localise.phases)},
    }


def _dynamics(study: StudyConfig, series: str) -> dict[str, Any]:
    check_choice(series, study.series, "series", "the study", ConfigError)
    return {
        "seed": study.seed,
        "series": series,
        "steps": {entry.name: entry.step for entry in study.series[series]},
        "tasks": study.informed_tasks,
        "sensitive": study.sensitive_phases,
        "follow": [entry.to_dict() for entry in study.information.follow],
    }


def _decode(study: StudyConfig, subject: str) -> dict[str, Any]:
    _entry(study, "subjects", subject)
    tasks = study.decoded_tasks
    return {
        "seed": study.seed,
        "subject": subject,
        "tasks": {name: list(study.tasks[name].carriers) for name in tasks},
        "contrasts": [own.to_dict() for own in study.contrasts.values() if own.task in tasks],
        "phases": list(study.localise.phases),
        "decode": study.decode.to_dict(),
    }


def _encode(study: StudyConfig, subject: str) -> dict[str, Any]:
    _entry(study, "subjects", subject)
    own = study.encode.to_dict()
    return {
        "seed": study.seed,
        "subject": subject,
        "load": study.subjects[subject].load.to_dict(),
        "tasks": {name: list(study.tasks[name].carriers) for name in study.encoded_tasks},
        "encode": {**own, "phases": own.get("phases") or list(study.localise.phases)},
    }


def _connect(study: StudyConfig, subject: str) -> dict[str, Any]:
    _entry(study, "subjects", subject)
    tasks = study.connected_tasks
    compared = [own for own in study.contrasts.values() if own.target and own.task in tasks]
    return {
        "seed": study.seed,
        "subject": subject,
        "tasks": {name: list(study.tasks[name].carriers) for name in tasks},
        "contrasts": [
            {
                "name": own.name,
                "task": own.task,
                "target": list(own.target),
                "controls": list(own.controls),
            }
            for own in compared
        ],
        "connect": _with_phases(study, study.connect.to_dict()),
    }


def _align(study: StudyConfig) -> dict[str, Any]:
    return {
        "seed": study.seed,
        "subjects": list(study.subjects),
        "tasks": {name: list(study.tasks[name].carriers) for name in study.aligned_tasks},
        "align": _with_phases(study, study.align.to_dict()),
    }


def _with_phases(study: StudyConfig, own: dict[str, Any]) -> dict[str, Any]:
    """Fill in the phases of the maps, and leave the tasks to the slice."""
    return {**own, "tasks": [], "phases": own.get("phases") or list(study.localise.phases)}


def _draws(study: StudyConfig, subject: str) -> dict[str, Any]:
    values = _validate(study, subject)
    # Intervals, claims and plans are for the validation.
    own = {name: values["validate"][name] for name in ("rows", "control_bystander_trials")}
    own["shards"] = study.validate.shards
    return {**{name: values[name] for name in ("seed", "subject", "load")}, "validate": own}


def _validate(study: StudyConfig, subject: str) -> dict[str, Any]:
    _entry(study, "subjects", subject)
    return {
        "seed": study.seed,
        "subject": subject,
        "load": study.subjects[subject].load.to_dict(),
        "validate": study.validate.to_dict(),
        "sparse_plan": study.sparse.finding_plan,
    }


def _score(study: StudyConfig) -> dict[str, Any]:
    return {"seed": study.seed, "scorers": study.scorers.to_dict()}


def _experiment(study: StudyConfig, subject: str, experiment: str) -> dict[str, Any]:
    _entry(study, "subjects", subject)
    check_choice(experiment, study.experiments, "experiment", "the study", ConfigError)
    return {
        "seed": study.seed,
        "subject": subject,
        "load": study.subjects[subject].load.to_dict(),
        "experiment": experiment,
        "options": study.experiments[experiment].to_dict(),
        "tasks": list(study.tasks),
        "contrasts": [entry.to_dict() for entry in study.contrasts.values()],
        "evidence": study.evidence.to_dict(),
        "max_new_tokens": study.record.max_new_tokens,
        "rows": study.validate.rows,
        "bootstrap": study.validate.bootstrap,
    }


def _compare(study: StudyConfig) -> dict[str, Any]:
    return {
        "seed": study.seed,
        "subjects": list(study.subjects),
        "bootstrap": study.validate.bootstrap,
    }


def _bottleneck(study: StudyConfig, setting: str) -> dict[str, Any]:
    settings = study.bottleneck.settings
    check_choice(setting, settings, "setting", "the study", ConfigError)
    # Another activation, penalty or number of draws leaves what is trained as it is.
    own = {key: value for key, value in study.bottleneck.to_dict().items() if key != "bootstrap"}
    activation, l2 = settings[setting]
    chosen = {**own, "activations": [activation], "l2": [l2]}
    return {"seed": study.seed, "setting": setting, "bottleneck": chosen}


def _bottleneck_summary(study: StudyConfig) -> dict[str, Any]:
    return {"seed": study.seed, "bottleneck": study.bottleneck.to_dict()}


def _report(study: StudyConfig) -> dict[str, Any]:
    return study.to_dict()


STAGES: dict[str, tuple[Callable[..., dict[str, Any]], tuple[str, ...]]] = {
    "base": (_base, ("base_seed",)),
    "subject": (_subject, ("subject",)),
    "stimuli": (_stimuli, ("task",)),
    "record": (_record, ("subject", "task")),
    "localise": (_localise, ("subject",)),
    "group": (_group, ()),
    "calibrate": (_calibrate, ("subject",)),
    "record_sparse": (_record_sparse, ("subject", "task")),
    "survive": (_survive, ("subject",)),
    "sparse_run": (_sparse_run, ("subject",)),
    "information": (_information, ("subject",)),
    "dynamics": (_dynamics, ("series",)),
    "connect": (_connect, ("subject",)),
    "decode": (_decode, ("subject",)),
    "encode": (_encode, ("subject",)),
    "align": (_align, ()),
    "draws": (_draws, ("subject",)),
    "validate": (_validate, ("subject",)),
    "score": (_score, ()),
    "experiment": (_experiment, ("subject", "experiment")),
    "compare": (_compare, ()),
    "bottleneck": (_bottleneck, ("setting",)),
    "bottleneck_summary": (_bottleneck_summary, ()),
    "report": (_report, ()),
}
"""Stages: the function that cuts the slice, and what selects a job of the stage."""


def stage_slice(study: StudyConfig, stage: str, **selectors: Any) -> dict[str, Any]:
    """Cut the part of a study that one job of a stage reads.

    Parameters
    ----------
    study : StudyConfig
        The study.
    stage : str
        One of :data:`STAGES`.
    **selectors
        Which job: ``base_seed``, ``subject``, ``task``, ``series``, ``setting`` or
        ``experiment``, as the stage needs.

    Returns
    -------
    dict
        Plain JSON values, the same for the same study.

    Raises
    ------
    ConfigError
        If the stage, subject or task is unknown.
    """
    check_choice(stage, STAGES, "stage", "a slice", ConfigError)
    cut, needed = STAGES[stage]
    if set(selectors) != set(needed):
        raise ConfigError(
            f"A slice of '{stage}' is selected by {quoted(needed)}. Got {quoted(selectors)}."
        )
    return cut(study, **selectors)


def read_stage(argument: str, stage: str, **selectors: Any) -> dict[str, Any]:
    """Read a slice from a command line: its JSON, or a study file to cut it from.

    Parameters
    ----------
    argument : str
        JSON text that begins with ``{``, or the path of a study file.
    stage : str
        The stage, as for :func:`stage_slice`.
    **selectors
        Which job, as for :func:`stage_slice`.

    Returns
    -------
    dict
        The slice.

    Raises
    ------
    ConfigError
        If the text is not the JSON of this slice, or the study file cannot be used.
    """
    if not argument.lstrip().startswith("{"):
        study = load_study(Path(argument))
        try:
            return stage_slice(study, stage, **selectors)
        except ConfigError as error:
            raise ConfigError(f"{argument}: {error}") from None
    try:
        values = json.loads(argument)
    except ValueError as error:
        raise ConfigError(f"The slice given as --config is not JSON ({error}).") from None
    _check_slice(values, stage, selectors)
    return values


def _check_slice(values: dict[str, Any], stage: str, selectors: dict[str, Any]) -> None:
    """Refuse the slice of another job: its selectors are repeated in it."""
    for key, wanted in selectors.items():
        got = values.get(key)
        name = got.get("name") if isinstance(got, dict) else got
        if name != wanted:
            raise ConfigError(
                f"The slice given as --config is for another job of '{stage}': its '{key}' must "
                f"be {wanted!r}. Got {name!r}."
            )


def _entry(study: StudyConfig, section: str, name: str) -> dict[str, Any]:
    entries = getattr(study, section)
    check_choice(name, entries, section.removesuffix("s"), "the study", ConfigError)
    return entries[name].to_dict()
