"""The stage ``encode``: what drives the units of one subject."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.anatomy import Subject, load_subject
from lmri.config import EncodeOptions, LoadOptions
from lmri.encode.activity import Trials, Units, select_trials, units_of
from lmri.encode.analysis import (
    Design,
    carrier_table,
    encode_sums,
    encode_trials,
    exchanged,
)
from lmri.encode.bands import design_of
from lmri.encode.ceiling import honest_repeats
from lmri.encode.features import MADE, default_bands, known_bands, projected_embeddings, trial_bands
from lmri.encode.folds import carrier_folds, check_rows
from lmri.encode.ridge import search_of
from lmri.encode.token_tests import token_tests
from lmri.encode.tokens import (
    TokenDesign,
    check_recorded,
    moving,
    token_moments,
    without_still,
)
from lmri.encode.use import PHASE, use_of_bands
from lmri.errors import EvidenceError
from lmri.stimuli.confounds import token_frequency
from lmri.store import (
    Recording,
    atomic_directory,
    carriers_of,
    manifest_path,
    open_recording,
    write_map,
    write_table,
    write_text_atomic,
)
from lmri.store.carriers import CARRIER

SPLIT = "selection"
"""Split that is encoded; subspaces are ablated in the next one."""


@dataclass(frozen=True)
class _Task:
    """What is asked of one task."""

    name: str
    recordings: Sequence[Recording]
    carriers: tuple[str, ...]
    subject: Subject
    options: EncodeOptions
    seed: int


def encode_subject(
    *,
    subject: str,
    model: Path,
    recordings: Path,
    out: Path,
    tasks: Mapping[str, tuple[str, ...]],
    options: EncodeOptions,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
) -> None:
    """Say which features of stimuli predict the units of a subject.

    What was not recorded, does not vary or has too few carriers is left out, and why stands in
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
        Folder to write, as a whole: ``<task>.<kind>.<level>.zarr``, ``<task>.use.parquet`` and
        ``left_out.json``.
    tasks : mapping of str to tuple of str
        Tasks and their carriers; empty carriers are read off the table.
    options : EncodeOptions
        Kinds, phases, bands and folds.
    seed : int
        Of all draws.
    provenance : dict
        Kept in every file.
    load : LoadOptions, optional
        How the subject is loaded; by default in float32 on the CPU.

    Raises
    ------
    EvidenceError
        If a task has no recording.
    StoreError
        If a recording is damaged.
    """
    loaded = load_subject(model, subject, load=load)
    labels = {"subject": subject, "provenance": str(provenance), "seed": seed}
    with atomic_directory(out) as partial_out:
        left_out: dict[str, str] = {}
        for name, carriers in tasks.items():
            task = _Task(name, _open(recordings / name), tuple(carriers), loaded, options, seed)
            for level in options.levels:
                for kind in options.kinds:
                    found = _encoded(task, kind, level, left_out)
                    if found is not None:
                        path = partial_out / f"{name}.{kind}.{level}.zarr"
                        write_map(path, found.assign_attrs(task=name, level=level, **labels))
            if options.subspace_draws and "residual" in options.kinds:
                table = _attempt(lambda task=task: _use(task), f"{name}.use", left_out)
                if table is not None:
                    write_table(partial_out / f"{name}.use.parquet", table.assign(subject=subject))
        text = json.dumps(left_out, indent=1, sort_keys=True)
        write_text_atomic(partial_out / "left_out.json", text + "\n")


def _encoded(task: _Task, kind: str, level: str, left_out: dict[str, str]) -> xr.Dataset | None:
    """Encode a kind of units in all phases; None where no phase can be."""
    encode = {"trials": _trials, "tokens": _tokens}[level]
    phases = {}
    for phase in task.options.phases:
        where = f"{task.name}.{kind}.{level}.{phase}"
        made = _attempt(lambda phase=phase: encode(task, kind, phase), where, left_out)
        if made is None:
            continue
        found, reasons = made
        # Bands are those of all kinds.
        above = f"{task.name}.{level}.{phase}"
        left_out |= {f"{above}.{name}": reason for name, reason in reasons.items()}
        if found.attrs["constant"]:
            count = int(np.prod([found.sizes[dim] for dim in found["r2"].dims]))
            left_out[f"{where}.units"] = f"{found.attrs['constant']} of {count} units are constant"
        phases[phase] = found
    if not phases:
        return None
    about = {phase: found.attrs for phase, found in phases.items()}
    joined = xr.concat(
        [found.drop_attrs() for found in phases.values()],
        pd.Index(list(phases), name="phase"),
        join="outer",
    )
    return joined.assign_attrs(kind=kind, about=json.dumps(about))


def _trials(task: _Task, kind: str, phase: str) -> tuple[xr.Dataset, dict[str, str]]:
    units = units_of(task.recordings, kind)
    trials, design = trial_design(task, phase)
    exchange, untested = exchanged(design, trials, task.options.draws, task.seed)
    reasons = design.layout.left_out | untested
    repeats = honest_repeats(trials.table, phase)
    return encode_trials(trials, units, design, repeats, exchange), reasons


def trial_design(task: _Task, phase: str) -> tuple[Trials, Design]:
    """Choose the trials of a phase and make their features."""
    options, owner = task.options, f"'{task.name}' in '{phase}'"
    trials = select_trials(task.recordings, SPLIT, phase)
    folds = carrier_folds(_carried(trials.table, task.carriers), options.folds, task.seed, owner)
    trials = replace(trials, table=_carried(trials.table, task.carriers))
    names, reasons = known_bands(trials.table, options.bands or default_bands(trials.table))
    embeddings = projected_embeddings(task.subject.model, options.dimensions, task.seed)
    X, layout = design_of(trial_bands(trials, names, embeddings), folds, owner)
    layout = replace(layout, left_out=layout.left_out | reasons)
    check_rows(len(X), X.shape[1], owner)
    search = search_of(len(layout.names), options.candidates, task.seed)
    return trials, Design(X, layout, folds, search)


def _tokens(task: _Task, kind: str, phase: str) -> tuple[xr.Dataset, dict[str, str]]:
    check_recorded(task.recordings, kind)
    options, owner = task.options, f"tokens of '{task.name}' in '{phase}'"
    units = units_of(task.recordings, kind)
    trials = select_trials(task.recordings, SPLIT, phase)
    folds = carrier_folds(_carried(trials.table, task.carriers), options.folds, task.seed, owner)
    table = pd.concat([own.trials for own in task.recordings], ignore_index=True)
    given = [own for own in options.bands or default_bands(trials.table) if own not in MADE]
    columns, reasons = known_bands(table, given, made=())
    names = (*columns, "identity", "previous")
    embeddings = projected_embeddings(task.subject.model, options.dimensions, task.seed)
    made = TokenDesign.of(
        table, names, embeddings, options.delays, token_frequency(task.recordings)
    )
    sums = []
    for layer in range(len(units.layers)):
        own = token_moments(task.recordings, made, folds, trials.row_of, units, layer, phase)
        varies = moving(own)
        kept, layout = without_still(own, made.layout)
        sums.append(kept)
    check_rows(int(sums[0].n.sum()), sums[0].features, owner)
    search = search_of(len(layout.names), options.candidates, task.seed)
    design = Design(np.empty((0, sums[0].features)), layout, folds, search)
    tests = token_tests(
        task.recordings,
        trials.row_of,
        phase,
        made,
        varies,
        design,
        sums[0],
        carrier_table(_carried(trials.table, task.carriers)),
        options.draws,
        task.seed,
    )
    reasons |= layout.left_out | tests.left_out

    def null(layer: int, name: str) -> np.ndarray:
        return tests.null_scores(units, layer, sums[layer], design, name)

    return encode_sums(sums, units, design, tests.exchange, null), reasons


def _use(task: _Task) -> pd.DataFrame:
    if PHASE not in task.options.phases:
        raise EvidenceError(f"Subspaces are ablated at '{PHASE}', which is none of the phases.")
    units: Units = units_of(task.recordings, "residual")
    trials, design = trial_design(task, PHASE)
    return use_of_bands(
        task.subject,
        task.recordings,
        trials,
        units,
        design,
        draws=task.options.subspace_draws,
        most=task.options.subspace_trials,
        seed=task.seed,
    )


def _attempt(make: Callable, where: str, left_out: dict[str, str]):
    """Make something, or note why it cannot be."""
    try:
        return make()
    except EvidenceError as error:
        left_out[where] = str(error)
        return None


def _carried(table: pd.DataFrame, carriers: Sequence[str]) -> pd.DataFrame:
    """Keep the carriers of the task among the columns, all where none are named."""
    if not carriers:
        return table
    others = [f"{CARRIER}{name}" for name in carriers_of(table) if name not in carriers]
    return table.drop(columns=others)


def _open(folder: Path) -> list[Recording]:
    stores = sorted(folder.glob("*.zarr"), key=lambda path: int(path.stem))
    if not stores:
        raise EvidenceError(f"{folder}: no recording. Record the task before encoding it.")
    return [open_recording(store, manifest_path(store)) for store in stores]
