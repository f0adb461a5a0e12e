"""The stage ``experiment``: one experiment on one subject, written as a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from lmri.anatomy import load_subject
from lmri.checks import check_choice
from lmri.config import ContrastOptions, EvidenceOptions, ExperimentOptions, LoadOptions
from lmri.experiment.outcome import STATEMENTS, Ground, Outcome
from lmri.experiment.registry import EXPERIMENTS
from lmri.experiment.statements import statement_rows
from lmri.store import atomic_directory, read_table, write_table, write_text_atomic

SCHEMA = "lmri.experiment/1"


def run_experiment(
    *,
    subject: str,
    experiment: str,
    model: Path,
    stimuli: Path,
    recordings: Path,
    findings: Path,
    out: Path,
    tasks: Sequence[str],
    contrasts: Sequence[ContrastOptions],
    evidence: EvidenceOptions,
    options: ExperimentOptions,
    max_new_tokens: int,
    rows: int,
    bootstrap: int,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
) -> pd.DataFrame:
    """Run an experiment on a subject and write what came of it.

    Parameters
    ----------
    subject, experiment : str
        Which.
    model : Path
        Prepared folder of the subject.
    stimuli : Path
        Folder with ``<task>.parquet``.
    recordings, findings : Path
        Folders of the subject's recordings and findings.
    out : Path
        Folder to write: ``statements.parquet``, ``<table>.parquet`` and ``outcome.json``.
    tasks : sequence of str
        Tasks of the study.
    contrasts : sequence of ContrastOptions
        Its contrasts.
    evidence : EvidenceOptions
        Levels and margins.
    options : ExperimentOptions
        Those of the experiment.
    max_new_tokens : int
        Limit of a response.
    rows : int
        Rows of a forward pass, at most.
    bootstrap : int
        Resamples of the carriers.
    seed : int
        Seed of the study.
    provenance : dict
        Kept in the files.
    load : LoadOptions, optional
        How the subject is loaded; by default in float32 on the CPU.

    Returns
    -------
    DataFrame
        The statements, decided, as in ``statements.parquet``.

    Raises
    ------
    LmriError
        If the experiment is unknown, or its ground is not as it needs it.
    """
    check_choice(experiment, EXPERIMENTS, "experiment", "a job")
    ground = Ground(
        subject=load_subject(model, subject, load=load),
        stimuli={task: read_table(stimuli / f"{task}.parquet", ("trial",)) for task in tasks},
        recordings=recordings,
        findings=findings,
        contrasts=contrasts,
        evidence=evidence,
        max_new_tokens=max_new_tokens,
        rows=rows,
        seed=seed,
        bootstrap=bootstrap,
    )
    outcome = EXPERIMENTS[experiment].run(ground, options)
    statements = statement_rows(subject, experiment, outcome.statements, evidence.alpha)
    tables = {STATEMENTS: statements, **outcome.tables}
    with atomic_directory(out) as folder:
        for name, table in tables.items():
            # A copy, since tables may be parts of each other.
            table = table.copy()
            table.attrs["provenance"] = json.dumps(provenance)
            write_table(folder / f"{name}.parquet", table)
        about = _about(subject, experiment, outcome, provenance)
        write_text_atomic(folder / "outcome.json", f"{json.dumps(about, indent=1)}\n")
    return statements


def _about(subject: str, experiment: str, outcome: Outcome, provenance: dict) -> dict:
    own = EXPERIMENTS[experiment]
    return {
        "schema": SCHEMA,
        "experiment": experiment,
        "subject": subject,
        "title": own.title,
        "question": own.question,
        "source": own.source,
        "tables": {name: outcome.captions.get(name, "") for name in outcome.tables},
        "figures": [asdict(figure) for figure in outcome.figures],
        "notes": outcome.notes,
        "provenance": provenance,
    }
