"""The stage ``information``: profiles by layer of the recordings of one subject."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import xarray as xr

from lmri.anatomy import Subject, load_subject
from lmri.config import InformationOptions, LoadOptions
from lmri.errors import EvidenceError, SubjectError
from lmri.information.asking import questions_of
from lmri.information.attention_logits import logit_ceilings
from lmri.information.changes import between_layers
from lmri.information.measures import MEASURES, Asked
from lmri.information.readings import open_shards
from lmri.information.reasons import reason_of
from lmri.store import atomic_directory, write_map, write_text_atomic

CHANGES = "changes"
"""Name of the table of what is said of the first layer against the last."""

LOGITS = "logits"
"""The measure that is of the weights, and of no task."""


def information_subject(
    *,
    subject: str,
    model: Path,
    recordings: Path,
    out: Path,
    tasks: Mapping[str, tuple[str, ...]],
    options: InformationOptions,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
) -> None:
    """Profile by layer what the recordings of a subject say of their trials.

    What was not recorded, or cannot be estimated, is left out, and why stands in
    ``left_out.json``.

    Parameters
    ----------
    subject : str
        Name of the subject.
    model : Path
        Its prepared folder.
    recordings : Path
        Folder with ``<task>/<shard>.zarr`` of the subject.
    out : Path
        Folder to write, as a whole: ``<task>.<measure>.zarr`` for every measure, with ``residual``
        ``<task>.changes.zarr``, and ``logits.zarr``, which is of no task.
    tasks : mapping of str to tuple of str
        Tasks and their carriers; empty carriers are read off the table.
    options : InformationOptions
        Measures, questions and estimators.
    seed : int
        Of all draws.
    provenance : dict
        Kept in every file.
    load : LoadOptions, optional
        How the subject is loaded; by default in float32 on the CPU.

    Raises
    ------
    EvidenceError
        If a task has no recording, or a question names a column that its trials do not have.
    StoreError
        If a recording is damaged.
    """
    loaded = load_subject(model, subject, load=load)
    with atomic_directory(out) as partial_out:
        left_out: dict[str, str] = {}
        for task, carriers in tasks.items():
            shards = open_shards(recordings / task)
            questions = questions_of(task, shards, carriers, options)
            asked = Asked(task, shards, questions, loaded, options, seed, left_out)
            for name, found in _measured(asked):
                labelled = found.assign_attrs(
                    subject=subject, task=task, provenance=str(provenance)
                )
                write_map(partial_out / f"{task}.{name}.zarr", labelled)
        for found in _of_weights(loaded, options, left_out):
            labelled = found.assign_attrs(subject=subject, provenance=str(provenance))
            write_map(partial_out / f"{LOGITS}.zarr", labelled)
        text = json.dumps(left_out, indent=1, sort_keys=True)
        write_text_atomic(partial_out / "left_out.json", text + "\n")


def _measured(task: Asked) -> Iterator[tuple[str, xr.Dataset]]:
    for measure in (name for name in task.options.measures if name in MEASURES):
        try:
            found = MEASURES[measure](task)
        except (EvidenceError, SubjectError) as error:
            task.left_out[f"{task.name}.{measure}"] = reason_of(error)
            continue
        yield measure, found
        if measure != "residual":
            continue
        changes = between_layers(found)
        if changes.empty:
            task.left_out[f"{task.name}.{CHANGES}"] = "Two layers are needed. One was recorded."
        else:
            yield CHANGES, xr.Dataset.from_dataframe(changes.rename_axis("change"))


def _of_weights(
    subject: Subject, options: InformationOptions, left_out: dict[str, str]
) -> Iterator[xr.Dataset]:
    if LOGITS not in options.measures:
        return
    try:
        yield logit_ceilings(subject)
    except SubjectError as error:
        left_out[LOGITS] = reason_of(error)
