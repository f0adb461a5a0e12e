"""The stage ``decode``: what can be read from the recordings of one subject."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.config import ContrastOptions, DecodeOptions
from lmri.decode.activity import Activity, holds_pooled, open_activity
from lmri.decode.bags import decode_bags
from lmri.decode.control import selectivity
from lmri.decode.generalisation import generalise
from lmri.decode.masks import KINDS, compare_masks
from lmri.decode.positions import Position, read_position
from lmri.decode.profile import Asked, ask, profile
from lmri.decode.questions import Question, label_trials
from lmri.decode.regions import ablate_regions
from lmri.decode.trace import trace
from lmri.errors import EvidenceError
from lmri.store import (
    atomic_directory,
    carriers_of,
    read_finding,
    write_map,
    write_text_atomic,
)

SELECTION = "selection"
"""Split that maps were made on: masks are judged on the others."""


@dataclass(frozen=True)
class _Task:
    """What is decoded of one task."""

    name: str
    carriers: tuple[str, ...]
    activity: Activity
    positions: list[Position]
    questions: list[Question]
    contrasts: list[ContrastOptions]
    findings: Path
    phase: str
    options: DecodeOptions
    seed: int


def decode_subject(
    *,
    subject: str,
    recordings: Path,
    findings: Path,
    out: Path,
    tasks: Mapping[str, tuple[str, ...]],
    contrasts: Sequence[ContrastOptions],
    phases: Sequence[str],
    options: DecodeOptions,
    seed: int,
    provenance: dict,
) -> None:
    """Decode the conditions of a subject's recordings.

    What was not recorded, or cannot be decoded, is left out, and why stands in ``left_out.json``.

    Parameters
    ----------
    subject : str
        Name of the subject.
    recordings : Path
        Folder with ``<task>/<shard>.zarr`` of the subject.
    findings : Path
        Folder of its findings, which name the units of masks.
    out : Path
        Folder to write, as a whole: ``<task>.<analysis>.zarr`` for every analysis.
    tasks : mapping of str to tuple of str
        Tasks and their carriers; empty carriers are read off the table.
    contrasts : sequence of ContrastOptions
        Contrasts of the study; those between conditions are decoded.
    phases : sequence of str
        Phases of the maps; the first is that of masks and regions.
    options : DecodeOptions
        Analyses and their settings.
    seed : int
        Of all draws.
    provenance : dict
        Kept in every file.

    Raises
    ------
    EvidenceError
        If a contrast, label or position is of something that was not recorded.
    StoreError
        If a recording or finding is damaged.
    """
    with atomic_directory(out) as partial_out:
        left_out: dict[str, str] = {}
        for name, carriers in tasks.items():
            try:
                activity = open_activity(recordings / name, options.quantity)
            except EvidenceError as error:  # a subject without such units: experts, neurons
                left_out[name] = str(error)
                continue
            own = [entry for entry in contrasts if entry.task == name and not entry.random_split]
            positions = options.positions or activity.default_positions(phases)
            task = _Task(
                name,
                carriers_of(activity.trials, carriers),
                activity,
                [read_position(position, activity.phases) for position in positions],
                _questions(name, own, options),
                own,
                findings,
                phases[0],
                options,
                seed,
            )
            for analysis, found in _analysed(task, left_out):
                labelled = found.assign_attrs(
                    subject=subject,
                    task=name,
                    quantity=options.quantity,
                    provenance=str(provenance),
                )
                write_map(partial_out / f"{name}.{analysis}.zarr", labelled)
        text = json.dumps(left_out, indent=1, sort_keys=True)
        write_text_atomic(partial_out / "left_out.json", text + "\n")


def _questions(
    task: str, contrasts: Sequence[ContrastOptions], options: DecodeOptions
) -> list[Question]:
    found = [
        Question(own.name, task, sides=(tuple(own.controls), tuple(own.target)), within=own.within)
        for own in contrasts
    ]
    columns = [own.column for own in options.labels if own.task == task]
    if not options.labels:
        columns = ["condition"]
    return found + [Question(column, task, column) for column in dict.fromkeys(columns)]


def _analysed(task: _Task, left_out: dict[str, str]) -> Iterator[tuple[str, xr.Dataset]]:
    """Every analysis of a task, all questions together."""
    asked = list(_asked(task, left_out))
    for analysis in task.options.analyses:
        if analysis == "masks":
            found = _masks(task, left_out)
            if found is not None:
                yield analysis, found
            continue
        parts: dict[str, xr.Dataset] = {}
        for own in asked:
            name = own.labelled.question.name
            where = f"{task.name}.{analysis}.{name}"
            missing: dict[str, str] = {}
            try:
                parts[name] = ANALYSES[analysis](task, own, missing)
            except EvidenceError as error:
                left_out[where] = str(error)
                continue
            left_out |= {f"{where}.{position}": reason for position, reason in missing.items()}
        if parts:
            index = pd.Index(list(parts), name="question")
            yield analysis, xr.concat(list(parts.values()), index, join="outer")


def _asked(task: _Task, left_out: dict[str, str]) -> Iterator[Asked]:
    options = task.options
    for question in task.questions:
        try:
            labelled = label_trials(question, task.activity.trials, task.carriers)
            yield ask(labelled, folds=options.folds, draws=options.draws, seed=task.seed)
        except EvidenceError as error:
            left_out[f"{task.name}.{question.name}"] = str(error)


def _profile(task: _Task, asked: Asked, missing: dict[str, str]) -> xr.Dataset:
    return profile(task.activity, asked, task.positions, missing, task.seed)


def _generalisation(task: _Task, asked: Asked, missing: dict[str, str]) -> xr.Dataset:
    return generalise(task.activity, asked, task.positions, missing)


def _control(task: _Task, asked: Asked, missing: dict[str, str]) -> xr.Dataset:
    draws = task.options.control_draws
    return selectivity(task.activity, asked, task.positions, missing, draws=draws, seed=task.seed)


def _trace(task: _Task, asked: Asked, missing: dict[str, str]) -> xr.Dataset:
    own = task.options
    return trace(task.activity, asked, before=own.before, after=own.after, seed=task.seed)


def _bags(task: _Task, asked: Asked, missing: dict[str, str]) -> xr.Dataset:
    own = task.options
    return decode_bags(task.activity, asked, bag=own.bag, alpha=own.alpha, seed=task.seed)


def _regions(task: _Task, asked: Asked, missing: dict[str, str]) -> xr.Dataset:
    position = read_position(task.phase, task.activity.phases)
    draws = task.options.mask_draws
    return ablate_regions(task.activity, asked, position, draws=draws, seed=task.seed)


ANALYSES: dict[str, Callable[[_Task, Asked, dict[str, str]], xr.Dataset]] = {
    "profile": _profile,
    "generalisation": _generalisation,
    "control": _control,
    "trace": _trace,
    "bags": _bags,
    "regions": _regions,
}
"""What makes each analysis of a study; masks have no question of their own."""


def _masks(task: _Task, left_out: dict[str, str]) -> xr.Dataset | None:
    """Compare the units of every finding about a contrast with others of their layers."""
    rows = []
    for contrast in task.contrasts:
        where = f"{task.name}.masks.{contrast.name}"
        try:
            activity, asked = _unselected(task, contrast)
        except EvidenceError as error:
            left_out[where] = str(error)
            continue
        folder = task.findings / f"{contrast.name}.{task.phase}"
        for path in sorted(folder.glob("*.json")):
            finding = read_finding(path)
            try:
                rows.append(_masked(task, activity, asked, finding))
            except EvidenceError as error:
                left_out[f"{where}.{finding['kind']}.{finding['method']}"] = str(error)
    if not rows:
        return None
    return xr.Dataset.from_dataframe(pd.DataFrame(rows).rename_axis("comparison"))


def _unselected(task: _Task, contrast: ContrastOptions) -> tuple[Activity, Asked]:
    """Trials of a contrast that no map was made on."""
    question = next(own for own in task.questions if own.name == contrast.name)
    others = np.flatnonzero((task.activity.trials["split"] != SELECTION).to_numpy())
    if not len(others):
        raise EvidenceError(
            f"masks of {question.owner} need trials of another split than '{SELECTION}', which "
            "maps are made on. Got none: add 'calibration' to 'record.splits'."
        )
    activity = replace(
        task.activity,
        trials=task.activity.trials.iloc[others].reset_index(drop=True),
        rows=task.activity.rows[others],
    )
    labelled = label_trials(question, activity.trials, task.carriers)
    return activity, ask(labelled, folds=task.options.folds, draws=0, seed=task.seed)


def _masked(task: _Task, activity: Activity, asked: Asked, finding: dict) -> dict:
    owner = f"a mask for {asked.labelled.question.owner}"
    if finding["kind"] not in KINDS:
        raise EvidenceError(f"{owner} cannot be made of the kind '{finding['kind']}'.")
    quantity, name = KINDS[finding["kind"]]
    if not holds_pooled(activity.tree, quantity):
        raise EvidenceError(
            f"{owner} needs '{quantity}', which was not recorded: add it to 'record.quantities'."
        )
    units: dict[int, tuple[int, ...]] = {}
    for unit in finding["units"][: task.options.mask_units]:
        units[unit["layer"]] = (*units.get(unit["layer"], ()), unit[name])
    if not units:
        raise EvidenceError(f"{owner} needs mapped units. Got none: the map selects nothing.")
    own = replace(activity, quantity=quantity)
    found = compare_masks(
        own,
        asked,
        read_position(task.phase, own.phases),
        units,
        draws=task.options.mask_draws,
        seed=task.seed,
    )
    names = {key: finding[key] for key in ("contrast", "phase", "kind", "method")}
    return {**names, **asdict(found), "mapped": json.dumps(units)}
