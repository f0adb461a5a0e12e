"""The stage ``localise``: every contrast of one subject, in every phase."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import xarray as xr

from lmri.anatomy import Subject, load_subject
from lmri.checks import check_choice
from lmri.config import ContrastOptions, EvidenceOptions, LoadOptions, LocaliseOptions
from lmri.errors import EvidenceError
from lmri.intervene import can_reroute
from lmri.localise.design import contrast_design
from lmri.localise.findings import (
    ALWAYS_RUN,
    base_finding,
    primary_finding,
    unmapped_finding,
)
from lmri.localise.maps import ResonanceMap, null_split_rate, resonance_map, restrict, to_dataset
from lmri.localise.resonance import count_cells
from lmri.store import (
    Recording,
    atomic_directory,
    open_recording,
    read_table,
    write_finding,
    write_map,
)

NAME = "expert.resonance"


@dataclass(frozen=True)
class Study:
    """What the contrasts of one subject share.

    Attributes
    ----------
    subject : Subject
        The loaded subject.
    stimuli : dict of str to DataFrame
        Stimuli of every task.
    recordings : dict of str to list of Recording
        Shards of every recorded task.
    carriers : dict of str to tuple of str
        Carriers of every task.
    options : LocaliseOptions
        Phases and relabellings.
    evidence : EvidenceOptions
        The rule of the verdict.
    claims : int
        Primary claims of the study.
    seed : int
        Seed of the study.
    provenance : dict
        Kept in every file.
    """

    subject: Subject
    stimuli: dict[str, pd.DataFrame]
    recordings: dict[str, list[Recording]]
    carriers: dict[str, tuple[str, ...]]
    options: LocaliseOptions
    evidence: EvidenceOptions
    claims: int
    seed: int
    provenance: dict


def localise_subject(
    *,
    subject: str,
    model: Path,
    stimuli: Path,
    recordings: Path,
    maps: Path,
    findings: Path,
    tasks: dict[str, tuple[str, ...]],
    contrasts: Sequence[ContrastOptions],
    options: LocaliseOptions,
    evidence: EvidenceOptions,
    claims: int,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
) -> None:
    """Map every contrast of a subject and fix its findings.

    A subject without experts has no maps; its findings say that they cannot be tested.

    Parameters
    ----------
    subject : str
        Name of the subject.
    model : Path
        Its prepared folder.
    stimuli : Path
        Folder with ``<task>.parquet``.
    recordings : Path
        Folder with ``<task>/<shard>.zarr`` of the subject.
    maps, findings : Path
        Folders to write, each replaced as a whole.
    tasks : dict of str to tuple of str
        Tasks of the study with their carriers; empty carriers are read off the table.
    contrasts : sequence of ContrastOptions
        The contrasts.
    options : LocaliseOptions
        Phases and relabellings.
    evidence : EvidenceOptions
        The rule of the verdict.
    claims : int
        Primary claims of the study.
    seed : int
        Seed of the study.
    provenance : dict
        Kept in every file.
    load : LoadOptions, optional
        How the subject is loaded; by default in float32 on the CPU.

    Raises
    ------
    StoreError
        If a recording is missing or damaged.
    EvidenceError
        If a contrast names an unknown condition or is too small for its test.
    """
    tables = {task: read_table(stimuli / f"{task}.parquet", ("trial", "split")) for task in tasks}
    carriers = {task: own or _carriers(tables[task]) for task, own in tasks.items()}
    used = sorted({contrast.task for contrast in contrasts})
    opened = {task: _open(recordings / task) for task in used}
    loaded = load_subject(model, subject, load=load)
    study = Study(loaded, tables, opened, carriers, options, evidence, claims, seed, provenance)
    with ExitStack() as stack:
        # Findings are the last to appear: a killed job leaves none.
        finding_root = stack.enter_context(atomic_directory(findings))
        map_root = stack.enter_context(atomic_directory(maps))
        for contrast in contrasts:
            for phase in options.phases:
                folder = f"{contrast.name}.{phase}"
                statistics, finding = _localise(study, contrast, phase)
                if statistics is not None:
                    write_map(map_root / folder / f"{NAME}.zarr", statistics)
                write_finding(finding_root / folder / f"{NAME}.json", finding)


def _localise(
    study: Study, contrast: ContrastOptions, phase: str
) -> tuple[xr.Dataset | None, dict]:
    if not study.subject.anatomy.experts:
        role, name = _role(study, contrast, phase), study.subject.name
        return None, unmapped_finding(name, contrast, phase, role, study.provenance)
    trials = _selection_trials(study, contrast)
    result = _map(study, contrast, phase, trials)
    attributes = {
        "subject": study.subject.name,
        "contrast": contrast.name,
        "phase": phase,
        "role": _role(study, contrast, phase),
        "permutations": study.options.permutations,
        "seed": study.seed,
        "provenance": str(study.provenance),
    }
    significant = None
    if contrast.random_split is not None:
        significant = null_split_rate(
            result.cells,
            trials,
            contrast,
            splits=study.options.null_splits,
            alpha=study.evidence.alpha,
            permutations=study.options.permutations,
            seed=study.seed,
        )
        attributes["null_splits"] = study.options.null_splits
        attributes["null_splits_significant"] = significant
    finding = _finding(study, contrast, phase, result, trials)
    return to_dataset(result, **attributes), finding


def _map(study: Study, contrast: ContrastOptions, phase: str, trials: pd.DataFrame) -> ResonanceMap:
    design = contrast_design(contrast, trials, study.carriers[contrast.task])
    cells = count_cells(
        study.recordings[contrast.task],
        study.carriers[contrast.task],
        phase,
        "selection",
        study.subject.anatomy.experts,
    )
    if contrast.random_split is not None:
        cells = restrict(cells, contrast.random_split.condition)
    return resonance_map(
        cells,
        design,
        alpha=study.evidence.alpha,
        permutations=study.options.permutations,
        seed=study.seed,
        owner=f"contrast '{contrast.name}'",
    )


def _finding(
    study: Study,
    contrast: ContrastOptions,
    phase: str,
    result: ResonanceMap,
    trials: pd.DataFrame,
) -> dict:
    role = _role(study, contrast, phase)
    finding = base_finding(
        study.subject.name, contrast, phase, role, result, study.evidence, study.provenance
    )
    if contrast.role != "hypothesis" or finding["status"] == "null":
        return finding
    if not can_reroute(study.subject.anatomy):
        return {**finding, "reason": ALWAYS_RUN}
    recorded = pd.concat(
        [recording.trials for recording in study.recordings[contrast.task]], ignore_index=True
    )
    return primary_finding(
        finding,
        study.subject,
        contrast,
        study.evidence,
        result,
        selection=trials,
        recorded=recorded,
        stimuli=study.stimuli,
        claims=study.claims,
        max_new_tokens=int(study.recordings[contrast.task][0].attributes["max_new_tokens"]),
        seed=study.seed,
    )


def _role(study: Study, contrast: ContrastOptions, phase: str) -> str:
    # One phase is primary; what the others show is looked at and decides nothing.
    return contrast.role if phase == study.options.phases[0] else "exploratory"


def _selection_trials(study: Study, contrast: ContrastOptions) -> pd.DataFrame:
    check_choice(contrast.task, study.stimuli, "task", f"contrast '{contrast.name}'", EvidenceError)
    table = study.stimuli[contrast.task]
    return table[table["split"] == "selection"].reset_index(drop=True)


def _carriers(table: pd.DataFrame) -> tuple[str, ...]:
    prefix = "carrier_"
    return tuple(c.removeprefix(prefix) for c in table.columns if c.startswith(prefix))


def _open(folder: Path) -> list[Recording]:
    stores = sorted(folder.glob("*.zarr"), key=lambda path: int(path.stem))
    if not stores:
        raise EvidenceError(f"{folder}: no recording. Record the task before localising on it.")
    return [open_recording(s, s.with_name(f"{s.name}.manifest.json")) for s in stores]
