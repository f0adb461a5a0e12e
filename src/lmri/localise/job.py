"""The stage ``localise``: every map of every contrast of one subject, in every phase."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from lmri.anatomy import Subject, load_subject, read_dictionary, with_dictionary
from lmri.config import (
    ClaimOptions,
    ContrastOptions,
    EvidenceOptions,
    LoadOptions,
    LocaliseOptions,
    ScorersOptions,
)
from lmri.intervene import can_reroute
from lmri.localise.activity import Activity
from lmri.localise.causal_job import write_causal
from lmri.localise.contrast_map import activity_of, map_of
from lmri.localise.findings import (
    ALWAYS_RUN,
    OTHER_PHASE,
    base_finding,
    unmapped_finding,
)
from lmri.localise.heads_and_layers import PROBES, HeadsAndLayers, map_heads_and_layers
from lmri.localise.maps import UnitMap, null_split_rate, restrict, to_dataset
from lmri.localise.measures import Measure, available, parse_measure
from lmri.localise.rivals import direct_attribution
from lmri.localise.statistics import hedges_g
from lmri.localise.study import (
    Study,
    open_shards,
    selection_trials,
    task_carriers,
    tested_finding,
)
from lmri.score import deciding_scorers
from lmri.store import (
    CAUSAL_PHASE,
    Recording,
    atomic_directory,
    read_table,
    write_finding,
    write_map,
    write_text_atomic,
)


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
    stated: Sequence[ClaimOptions] = (),
    scorers: ScorersOptions | None = None,
) -> None:
    """Map every contrast of a subject and fix its findings.

    Of the maps that are asked for, those of kinds that the subject has are made; the first of
    them is primary, the others are exploratory. Where it has none, its findings say that they
    cannot be tested.

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
    stated : sequence of ClaimOptions
        Claims of every hypothesis beside the primary one.
    scorers : ScorersOptions, optional
        Scorers that decide beside the scores of every response.

    Raises
    ------
    ScoreError
        If one of the scorers is unknown or cannot decide.
    StoreError
        If a recording is missing or damaged.
    EvidenceError
        If a contrast names an unknown condition or is too small for its test.
    """
    deciding = deciding_scorers(scorers or ScorersOptions())
    tables = {task: read_table(stimuli / f"{task}.parquet", ("trial", "split")) for task in tasks}
    carriers = {task: own or task_carriers(tables[task]) for task, own in tasks.items()}
    used = sorted({contrast.task for contrast in contrasts})
    opened = {task: open_shards(recordings / task) for task in used}
    loaded = _with_features(load_subject(model, subject, load=load), options)
    study = Study(
        *(loaded, tables, opened, carriers, options, evidence, claims, seed, provenance),
        *(stated, deciding),
    )
    with ExitStack() as stack:
        # Findings are the last to appear: a killed job leaves none.
        finding_root = stack.enter_context(atomic_directory(findings))
        map_root = stack.enter_context(atomic_directory(maps))
        for contrast in contrasts:
            # First, since the units that it attributes most to are a rival of the other findings.
            if options.causal is not None and contrast.name in options.causal.contrasts:
                write_causal(study, contrast, map_root, finding_root)
            for phase in options.phases:
                folder = f"{contrast.name}.{phase}"
                for measure, statistics, finding in _localise(study, contrast, phase, map_root):
                    if statistics is not None:
                        write_map(map_root / folder / f"{measure.name}.zarr", statistics)
                    write_finding(finding_root / folder / f"{measure.name}.json", finding)
        if options.probes is not None:
            _write_probes(study, {task: open_shards(recordings / task) for task in tasks}, map_root)


def _with_features(subject: Subject, options: LocaliseOptions) -> Subject:
    causal = options.causal
    if causal is None or causal.dictionary is None or "feature" not in causal.kinds:
        return subject
    return with_dictionary(subject, read_dictionary(Path(causal.dictionary), subject))


def _write_probes(study: Study, recordings: dict[str, list[Recording]], root: Path) -> None:
    own = study.options.probes
    settings = HeadsAndLayers(own.repeated, own.repeating, own.needle, own.phase)
    found, left_out = map_heads_and_layers(recordings, study.subject, settings)
    for name, statistics in found.items():
        labelled = statistics.assign_attrs(provenance=str(study.provenance))
        write_map(root / PROBES / f"{name}.zarr", labelled)
    # Why a map is not there is for people: what was not recorded, or found no trial.
    text = json.dumps(left_out, indent=1, sort_keys=True)
    write_text_atomic(root / PROBES / "left_out.json", text + "\n")


def _localise(
    study: Study, contrast: ContrastOptions, phase: str, maps: Path
) -> Iterator[tuple[Measure, xr.Dataset | None, dict]]:
    """Yield every map of a contrast in a phase, with its finding."""
    measures = [parse_measure(name) for name in study.options.maps]
    own = available(measures, study.subject.anatomy)
    if not own:
        primary = measures[0]
        role = _role(study, contrast, phase, is_first=True)
        name = study.subject.name
        yield (
            primary,
            None,
            unmapped_finding(
                name, contrast, phase, role, primary.kind, primary.method, study.provenance
            ),
        )
    trials = selection_trials(study, contrast) if own else None
    for number, measure in enumerate(own):
        role = _role(study, contrast, phase, is_first=number == 0)
        activity = activity_of(study, contrast, phase, measure)
        result = map_of(study, contrast, activity, measure, trials)
        attributes = _attributes(study, contrast, phase, role, result)
        if contrast.random_split is not None and number == 0:
            attributes |= _null_splits(study, contrast, activity, trials)
        about = contrast, phase, role, result, trials
        finding = _finding(study, maps, *about, is_first=number == 0)
        statistics = to_dataset(result, **attributes)
        if measure.kind == "expert_neuron":
            statistics = _beside_routing(study, contrast, phase, measure, result, statistics)
        yield measure, statistics, finding


def _beside_routing(
    study: Study,
    contrast: ContrastOptions,
    phase: str,
    measure: Measure,
    result: UnitMap,
    statistics: xr.Dataset,
) -> xr.Dataset:
    """Put the difference in routing beside neurons, so that it is not taken for their own."""
    rates = activity_of(study, contrast, phase, parse_measure("expert.mean_difference"))
    if contrast.random_split is not None:
        rates = restrict(rates, contrast.random_split.condition)
    sides = rates.sides(result.labels[None], result.design.weights)
    difference = np.concatenate([block.scores(sides)[0] for block in rates.blocks()])
    routing = ("layer", "expert"), difference.reshape(rates.units.shape)
    conditional = int(measure.quantity == "conditional")
    return statistics.assign(routing_difference=routing).assign_attrs(conditional=conditional)


def _attributes(
    study: Study, contrast: ContrastOptions, phase: str, role: str, result: UnitMap
) -> dict:
    return {
        "subject": study.subject.name,
        "contrast": contrast.name,
        "phase": phase,
        "role": role,
        "permutations": study.options.permutations,
        "seed": study.seed,
        "provenance": str(study.provenance),
        "confounds": json.dumps(_balance(result)),
    }


def _balance(result: UnitMap) -> dict[str, float]:
    """How much the two sides differ in each confound of the model, as Hedges g."""
    confounds = getattr(result.activity, "confounds", None)
    if confounds is None:
        return {}
    sides = result.activity.sides(result.labels[None], result.design.weights)
    sizes = hedges_g(sides, sides.confounds)[0]
    return dict(zip(confounds.columns, sizes.round(4).tolist(), strict=True))


def _null_splits(
    study: Study, contrast: ContrastOptions, activity: Activity, trials: pd.DataFrame
) -> dict:
    significant = null_split_rate(
        activity,
        trials,
        contrast,
        splits=study.options.null_splits,
        alpha=study.evidence.alpha,
        permutations=study.options.permutations,
        seed=study.seed,
    )
    return {
        "null_splits": study.options.null_splits,
        "null_splits_significant": significant,
    }


def _finding(
    study: Study,
    maps: Path,
    contrast: ContrastOptions,
    phase: str,
    role: str,
    result: UnitMap,
    trials: pd.DataFrame,
    *,
    is_first: bool,
) -> dict:
    finding = base_finding(
        study.subject.name, contrast, phase, role, result, study.evidence, study.provenance
    )
    if contrast.role != "hypothesis" or finding["status"] == "null":
        return finding
    if phase != study.options.phases[0] and not is_first:
        return {**finding, "reason": OTHER_PHASE}
    if result.measure.kind == "expert" and not can_reroute(study.subject.anatomy):
        return {**finding, "reason": ALWAYS_RUN}
    attribution = direct_attribution(maps, f"{contrast.name}.{CAUSAL_PHASE}", result.kind)
    return tested_finding(study, contrast, finding, result, trials, attribution)


def _role(study: Study, contrast: ContrastOptions, phase: str, *, is_first: bool) -> str:
    # One map in one phase is primary; what the others show is looked at and decides nothing.
    causal = study.options.causal
    if causal is not None and causal.primary is not None and contrast.name in causal.contrasts:
        return "exploratory"
    return contrast.role if is_first and phase == study.options.phases[0] else "exploratory"
