"""The stage ``record``: real responses, then one labelled pass over prompt and response."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pandas as pd
import torch

from lmri.anatomy import (
    Prompt,
    Subject,
    check_prompts,
    load_subject,
    prompt_room,
    read_template,
    render_trials,
    template_attributes,
)
from lmri.config import LoadOptions, RecordOptions
from lmri.errors import StimuliError
from lmri.intervene import most_new_tokens
from lmri.record.capture import ExpertStorage
from lmri.record.during import scan_during_generation
from lmri.record.expert_storage import choose_expert_storage, typical_trials
from lmri.record.generation import respond_to_trials
from lmri.record.hooks import check_observable
from lmri.record.phases import phase_names, span_names
from lmri.record.reductions import what_reduces
from lmri.record.scan import ScanReport, scan
from lmri.store import (
    RecordingWriter,
    atomic_directory,
    finished_store,
    read_manifest,
    read_table,
    write_manifest,
    writing_lock,
)


def record_task(
    *,
    out: Path,
    manifest: Path,
    subject: str,
    model: Path,
    task: str,
    stimuli: Path,
    shard: int,
    options: RecordOptions,
    load: LoadOptions | None = None,
    seed: int,
    provenance: dict,
    running: Callable[[Subject], AbstractContextManager] = nullcontext,
) -> dict:
    """Record one subject on one shard of a task.

    A store that is complete, undamaged and of the same provenance is kept as it is.

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
    shard : int
        Number of the shard: every ``options.shards``-th trial, starting at this one.
    options : RecordOptions
        Which splits and quantities, and the limits.
    load : LoadOptions, optional
        How the subject is loaded; by default float32 on the CPU.
    seed : int
        Seed of the study; greedy responses do not depend on it.
    provenance : dict
        Kept in the store and its manifest.
    running : callable, optional
        Gives the context in which the loaded subject answers and is recorded, such as a sparse one;
        by default none.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    StimuliError
        If the shard holds no trial, a trial cannot be read by the subject's tokenizer, or an
        activation is not finite.
    SubjectError
        If the subject cannot be loaded, or its attention not be observed where that is needed.
    StoreError
        If another process is writing the store.
    """
    with writing_lock(out):
        if finished_store(out, manifest, provenance):
            return read_manifest(manifest)
        table = read_table(stimuli, ("trial", "split", "prompt", "template"))
        trials = _shard_trials(table, shard, options, stimuli)
        thought = None if load is None else load.max_think_tokens
        # Before the weights are read.
        if load is not None:
            check_observable(load.attention, options.quantities, subject)
        typical = typical_trials(_recorded(table, options))
        read = pd.concat([trials, typical]).drop_duplicates("trial")
        check_prompts(model, subject, {task: read}, options.max_new_tokens, thought)
        loaded = load_subject(model, subject, load=load)
        template = read_template(table["template"].iloc[0])
        phases = phase_names(loaded.tokenizer, template, table["prompt"].iloc[0])
        room = prompt_room(loaded.model.config, most_new_tokens(loaded, options.max_new_tokens))
        prompts = render_trials(loaded.tokenizer, trials, room)
        attributes = {
            "subject": subject,
            "task": task,
            "shard": shard,
            "architecture": loaded.anatomy.architecture,
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "phases": list(phases),
            "spans": list(span_names(phases)),
            "template": template_attributes(loaded.tokenizer, template),
            "max_new_tokens": options.max_new_tokens,
            "when": options.when,
            "encoder": loaded.anatomy.encoder,
            "without": None if options.without is None else options.without.to_dict(),
            "provenance": provenance,
        }
        # As many as the job was given: beside a GPU they have little else to do.
        writing = {"compression": options.compression, "threads": torch.get_num_threads()}
        with (
            running(loaded),
            atomic_directory(out) as partial,
            RecordingWriter(partial, attributes, **writing) as writer,
        ):
            asked = render_trials(loaded.tokenizer, typical, room)
            storage = choose_expert_storage(loaded, typical, asked, phases, options, seed)
            record = loaded, trials, prompts, phases, options, seed, writer, storage
            generating = options.when == "during" and not loaded.anatomy.encoder
            run = scan_during_generation if generating else _respond_and_scan
            scored, report = run(*record)
            shapes = writer.close()
        return write_manifest(
            out,
            manifest,
            hashes=writer.hashes,
            provenance=provenance,
            arrays=shapes,
            reductions=what_reduces(loaded.device),
            trials=len(scored),
            truncated_responses=_per_condition(scored, ~scored["ended"]),
            truncated_prompts=_per_condition(scored, scored["n_dropped"] > 0),
            **report.to_dict(),
        )


def _respond_and_scan(
    subject: Subject,
    trials: pd.DataFrame,
    prompts: list[Prompt],
    phases: tuple[str, ...],
    options: RecordOptions,
    seed: int,
    writer: RecordingWriter,
    storage: ExpertStorage | None,
) -> tuple[pd.DataFrame, ScanReport]:
    scored, texts = respond_to_trials(subject, trials, prompts, options, seed)
    return scored, scan(subject, scored, texts, phases, options, writer, storage)


def _shard_trials(
    trials: pd.DataFrame, shard: int, options: RecordOptions, stimuli: Path
) -> pd.DataFrame:
    if not 0 <= shard < options.shards:
        raise StimuliError(
            f"'shard' must be at least 0 and below 'record.shards' ({options.shards}). Got {shard}."
        )
    chosen = _recorded(trials, options).iloc[shard :: options.shards]
    if chosen.empty:
        raise StimuliError(
            f"{stimuli}: shard {shard} of {options.shards} has no trial in the splits "
            f"{', '.join(options.splits)}. Ask for fewer 'shards'."
        )
    return chosen.reset_index(drop=True)


def _recorded(trials: pd.DataFrame, options: RecordOptions) -> pd.DataFrame:
    return trials[trials["split"].isin(options.splits)]


def _per_condition(trials: pd.DataFrame, chosen: pd.Series) -> dict[str, int]:
    counts = trials[chosen].groupby("condition").size()
    return {str(name): int(count) for name, count in counts.items()}
