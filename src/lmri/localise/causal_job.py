"""Causal maps of a contrast and their findings, written as files."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from lmri.anatomy import Dictionary
from lmri.config import ContrastOptions
from lmri.localise.causal import causal_maps
from lmri.localise.design import contrast_design
from lmri.localise.endpoint import baseline_check
from lmri.localise.findings import NO_SHAMS_ASKED, base_finding, unmapped_finding
from lmri.localise.rivals import direct_attribution
from lmri.localise.study import Study, recorded_trials, selection_trials, tested_finding
from lmri.store import CAUSAL_PHASE, write_finding, write_map

SHOWN_BY = {"refusal": "refusal_onset", "reference": "exact", "fact": "fact_told"}
"""Score of the behaviour that a causal map traces, by the column that says it."""


def write_causal(
    study: Study, contrast: ContrastOptions, map_root: Path, finding_root: Path
) -> None:
    """Write causal maps, and the findings of those that units can be selected from.

    Parameters
    ----------
    study : Study
        The study, with causal maps in its options.
    contrast : ContrastOptions
        One of their contrasts.
    map_root, finding_root : Path
        Folders of the maps and findings of the subject.
    """
    trials = selection_trials(study, contrast)
    design = contrast_design(contrast, trials, study.carriers[contrast.task])
    own, folder = study.options.causal, f"{contrast.name}.{CAUSAL_PHASE}"
    written, absent = set(), _absent(study, contrast)
    if absent:
        warnings.warn(f"Causal maps of '{contrast.name}': {absent}.", stacklevel=2)
    for name, statistics, selection in causal_maps(
        study.subject, trials, contrast, design, own, study.seed, study.options.permutations
    ):
        role = contrast.role if name == own.primary else "exploratory"
        labelled = statistics.assign_attrs(
            subject=study.subject.name,
            contrast=contrast.name,
            role=role,
            provenance=str(study.provenance),
            **({"warning": absent} if absent else {}),
        )
        write_map(map_root / folder / f"{name}.zarr", labelled)
        if selection is None:
            continue
        finding = base_finding(
            study.subject.name,
            contrast,
            CAUSAL_PHASE,
            role,
            selection,
            study.evidence,
            study.provenance,
        )
        if selection.kind == "feature":
            finding["dictionary"] = _source(study.subject.dictionary)
        if finding["status"] != "null":
            finding = {**finding, "reason": NO_SHAMS_ASKED}
            if own.shams and contrast.role == "hypothesis":
                attribution = direct_attribution(map_root, folder, selection.kind)
                finding = tested_finding(study, contrast, finding, selection, trials, attribution)
        write_finding(finding_root / folder / f"{name}.json", finding)
        written.add(name)
    if own.primary is not None and own.primary not in written:
        kind, _, method = own.primary.partition(".")
        described = study.subject.name, contrast, CAUSAL_PHASE, contrast.role, kind, method
        finding = unmapped_finding(*described, study.provenance)
        write_finding(finding_root / folder / f"{own.primary}.json", finding)


def _absent(study: Study, contrast: ContrastOptions) -> str:
    """What is wrong where clean trials do not show the behaviour that is traced; else nothing."""
    # Of the clean trials alone: a corrupted one may show anything.
    clean = replace(contrast, controls=())
    score = SHOWN_BY.get(study.options.causal.correct, study.evidence.score)
    asked = replace(study.evidence, score=score)
    _, problem = baseline_check(recorded_trials(study, contrast), clean, asked)
    return problem


def _source(dictionary: Dictionary) -> dict:
    """What a finding says of the dictionary, so that validation takes no other."""
    return {
        "path": str(dictionary.path),
        "sha256": dictionary.sha256,
        "layer": dictionary.layer,
        "place": dictionary.place,
    }
