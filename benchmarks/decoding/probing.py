"""Probe an embedded subject: run in a process of its own.

``FOLDER`` records every task of the default study there and times the probes of every layer at
every position. The last line that it prints is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.memory import peak_memory
from lmri.config import RecordOptions, StudyConfig, load_study
from lmri.decode import Question, ask, label_trials, open_activity, profile
from lmri.decode.positions import read_position
from lmri.errors import EvidenceError
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.subjects.packaged import install_embedded

STUDY = Path("config/config.yaml")
SUBJECT = "localised"


def record(folder: Path, study: StudyConfig) -> None:
    """Record every task of a study, with the residual stream of every token.

    Parameters
    ----------
    folder : Path
        Where stimuli and recordings go.
    study : StudyConfig
        The study.
    """
    install_embedded(SUBJECT, folder / "model")
    for task, options in study.tasks.items():
        table = folder / f"stimuli/{task}.parquet"
        write_stimuli(
            out=table,
            task=task,
            options=options,
            splits=study.splits,
            world=study.world,
            seed=study.seed,
            provenance={},
        )
        store = folder / f"recordings/{task}/0.zarr"
        record_task(
            out=store,
            manifest=store.with_name("0.zarr.manifest.json"),
            subject=SUBJECT,
            model=folder / "model",
            task=task,
            stimuli=table,
            shard=0,
            options=RecordOptions(
                quantities=("router", "residual"),
                full=("router", "residual"),
                splits=study.record.splits,
                max_new_tokens=study.record.max_new_tokens,
            ),
            seed=study.seed,
            provenance={},
        )


def probe(folder: Path, study: StudyConfig) -> dict[str, float]:
    """Decode the condition of every task in every layer at every position.

    Parameters
    ----------
    folder : Path
        With recordings.
    study : StudyConfig
        The study.

    Returns
    -------
    dict
        Wall and CPU seconds, cells (layers × positions × tasks), tasks, exchanges of labels, peak
        memory in MB.
    """
    wall, processor = time.perf_counter(), time.process_time()
    cells, tasks = 0, 0
    for task, options in study.tasks.items():
        activity = open_activity(folder / f"recordings/{task}", "residual")
        names = activity.default_positions(study.localise.phases)
        positions = [read_position(name, activity.phases) for name in names]
        carriers = options.carriers or tuple(
            name.removeprefix("carrier_")
            for name in sorted(activity.trials)
            if name.startswith("carrier_")
        )
        try:
            labelled = label_trials(Question("condition", task), activity.trials, carriers)
        except EvidenceError:  # a task of one condition
            continue
        own = study.decode
        asked = ask(labelled, folds=own.folds, draws=own.draws, seed=study.seed)
        found = profile(activity, asked, positions, {}, study.seed)
        cells += found["value"].sel(statistic="balanced_accuracy").size
        tasks += 1
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - processor,
        "cells": cells,
        "tasks": tasks,
        "draws": study.decode.draws,
        "peak": peak_memory(),
    }


def main() -> None:
    """Read the argument, see the module."""
    folder, study = Path(sys.argv[1]), load_study(STUDY)
    if not (folder / "recordings").is_dir():
        record(folder, study)
    print(json.dumps(probe(folder, study)))


if __name__ == "__main__":
    main()
