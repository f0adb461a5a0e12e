"""The stage ``record_sparse``: a subject recorded while it runs under a plan."""

from __future__ import annotations

from pathlib import Path

from lmri.config import LoadOptions, RecordOptions
from lmri.record import record_task
from lmri.sparse.plan_file import read_plan
from lmri.sparse.runtime import sparse


def record_sparse(
    *,
    out: Path,
    manifest: Path,
    subject: str,
    model: Path,
    task: str,
    stimuli: Path,
    plan: Path,
    options: RecordOptions,
    seed: int,
    provenance: dict,
    load: LoadOptions | None = None,
) -> dict:
    """Record one subject on a task under a plan, on masked products.

    Responses are those of the sparse subject, and so is what is recorded of them.

    Parameters
    ----------
    out : Path
        Store to write, ``<shard>.zarr``.
    manifest : Path
        Its manifest, written after it.
    subject : str
        Name of the subject.
    model : Path
        Its prepared folder.
    task : str
        Name of the task.
    stimuli : Path
        Table of its trials.
    plan : Path
        The plan file; one of another subject is refused.
    options : RecordOptions
        Which splits and quantities, and the limits.
    seed : int
        Seed of the study.
    provenance : dict
        Kept in the store and its manifest.
    load : LoadOptions, optional
        How the subject is loaded; by default float32 on the CPU.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    SparseError
        If the plan was changed or is for another subject.
    """
    chosen = read_plan(plan, provenance["subject"])
    return record_task(
        out=out,
        manifest=manifest,
        subject=subject,
        model=model,
        task=task,
        stimuli=stimuli,
        shard=0,
        options=options,
        load=load,
        seed=seed,
        provenance={**provenance, "plan": chosen.policy},
        running=lambda loaded: sparse(
            loaded, chosen, "reference", subject_hash=chosen.subject, count=False
        ),
    )
