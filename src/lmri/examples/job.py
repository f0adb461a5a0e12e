"""The stage ``examples``: what single units of one subject respond to, token by token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lmri.anatomy import load_tokenizer
from lmri.config import ExampleOptions
from lmri.errors import EvidenceError
from lmri.examples.asked import Activity, Asked, asked_units
from lmri.examples.found import Found
from lmri.examples.reading import read_trials
from lmri.examples.sources import needed
from lmri.examples.strongest import Strongest
from lmri.examples.tables import example_tables, trace_table, unit_table
from lmri.examples.texts import TokenTexts
from lmri.examples.traces import Comparison, Trace, draw_trials, trace_of
from lmri.store import (
    Recording,
    atomic_directory,
    manifest_path,
    open_recording,
    write_table,
    write_text_atomic,
)

ABOUT = "about.json"


def find_examples(
    *,
    subject: str,
    model: Path,
    recordings: Path,
    findings: Path,
    maps: Path,
    out: Path,
    tasks: Sequence[str],
    contrasts: Sequence[Mapping],
    names: Sequence[str],
    phase: str,
    options: ExampleOptions,
    seed: int,
    provenance: dict,
) -> None:
    """Find the trials in which the units of a subject are most active, and trace a few trials.

    Every recorded trial is read once, in blocks: of each unit only its strongest examples are
    kept. Units whose activity was not recorded at every token are left out, and why stands in
    ``about.json``.

    Parameters
    ----------
    subject : str
        Name of the subject.
    model : Path
        Its prepared folder, for the words of its tokens.
    recordings : Path
        Folder with ``<task>/<shard>.zarr`` of the subject.
    findings, maps : Path
        Folders of its findings and maps.
    out : Path
        Folder to write, as a whole: ``units.parquet``, ``examples.parquet``, ``tokens.parquet``,
        ``traces.parquet`` and ``about.json``.
    tasks : sequence of str
        Tasks of the study.
    contrasts : sequence of mapping
        ``name``, ``task`` and ``conditions`` of each.
    names : sequence of str
        Maps as the study names them, the primary one first.
    phase : str
        The primary phase.
    options : ExampleOptions
        How many.
    seed : int
        Of all draws.
    provenance : dict
        Kept in ``about.json``.

    Raises
    ------
    EvidenceError
        If a task has no recording.
    StoreError
        If a recording, map or finding is damaged.
    """
    stores = {task: _open(recordings / task) for task in tasks}
    compared = [Comparison(own["name"], own["task"], tuple(own["conditions"])) for own in contrasts]
    wanted = [own.name for own in compared]
    asked = asked_units(findings, maps, wanted, names, phase, options.units)
    readable, left_out = _readable(asked, stores)
    found = _found(readable, stores, compared, options, seed)
    faceted = found.faceted(options.facets, seed)
    texts = TokenTexts(load_tokenizer(model))
    spans = _spans(stores)
    examples, tokens = example_tables(found, faceted, stores, texts, spans)
    kept = set(found.activities)
    with atomic_directory(out) as partial:
        write_table(partial / "units.parquet", unit_table(subject, asked, found, faceted))
        write_table(partial / "examples.parquet", examples)
        write_table(partial / "tokens.parquet", tokens)
        own = [entry for entry in asked if entry.activity in kept]
        write_table(
            partial / "traces.parquet", trace_table(found, own, compared, stores, texts, spans)
        )
        about = {"left_out": left_out, "provenance": provenance}
        write_text_atomic(partial / ABOUT, json.dumps(about, indent=1, sort_keys=True) + "\n")


def _open(folder: Path) -> list[Recording]:
    stores = sorted(folder.glob("*.zarr"), key=lambda path: int(path.stem))
    if not stores:
        raise EvidenceError(f"{folder}: no recording. Record the task before looking for examples.")
    return [open_recording(store, manifest_path(store)) for store in stores]


def _spans(stores: Mapping[str, Sequence[Recording]]) -> tuple[str, ...]:
    recording = next(iter(stores.values()))[0]
    return tuple(map(str, recording.array("tokens/index/phase").attrs["phases"]))


def _readable(
    asked: Sequence[Asked], stores: Mapping[str, Sequence[Recording]]
) -> tuple[list[Activity], dict[str, str]]:
    """Units that every recording holds at every token, each once; why the others are left out."""
    readable: dict[Activity, None] = {}
    left_out: dict[str, str] = {}
    for own in dict.fromkeys(entry.activity for entry in asked):
        missing = _missing(own, stores)
        if missing:
            left_out[f"{own.kind}.{own.quantity}"] = missing
        else:
            readable[own] = None
    return list(readable), left_out


def _missing(own: Activity, stores: Mapping[str, Sequence[Recording]]) -> str:
    arrays = needed(own.kind, own.quantity)
    if arrays == ("",):
        return "the activity of such units is in no recording"
    for recordings in stores.values():
        for recording in recordings:
            for array in arrays:
                if not recording.holds(array):
                    return (
                        f"not recorded at every token ('{array}'): its quantity is missing in "
                        "'record.full'"
                    )
    return ""


def _found(
    activities: list[Activity],
    stores: Mapping[str, Sequence[Recording]],
    compared: Sequence[Comparison],
    options: ExampleOptions,
    seed: int,
) -> Found:
    causal = not any(own[0].attributes["encoder"] for own in stores.values())
    strongest = Strongest(len(activities), options.trials, options.window, causal=causal)
    traces: list[Trace] = []
    for task, recordings in stores.items():
        conditions = dict.fromkeys(
            name for own in compared if own.task == task for name in own.conditions
        )
        tables = [recording.trials for recording in recordings]
        drawn = draw_trials(tables, list(conditions), options.traces, seed)
        for shard, recording in enumerate(recordings):
            prompts = recording.trials["n_prompt"].to_numpy()
            for trial in read_trials(recording, activities):
                strongest.add(trial, task, shard)
                if (shard, trial.row) in drawn:
                    traces.append(trace_of(trial, task, shard, int(prompts[trial.row])))
    return Found(activities, strongest, traces)
