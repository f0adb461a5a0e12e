"""Stimuli of the small world, and one recording of them with every quantity."""

import pandas as pd
import pytest

from lmri.config import RecordOptions, SplitOptions, TaskOptions, WorldOptions
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import open_recording, write_table

QUANTITIES = (
    "router",
    "layer",
    "residual",
    "head",
    "head_output",
    "attention",
    "neuron",
    "preactivation",
)


@pytest.fixture(scope="session")
def stimuli(tmp_path_factory):
    """Parquet of questions about events (10 tokens) and sequences to repeat (7 or 8 tokens)."""
    folder = tmp_path_factory.mktemp("stimuli")
    tables = [
        write_stimuli(
            out=folder / f"{task}.parquet",
            task=task,
            options=TaskOptions(task, "world", trials=trials),
            splits=SplitOptions(0.4, 0.3, 0.3),
            world=WorldOptions(size="small"),
            seed=0,
            provenance={},
        )
        for task, trials in (("copying", 20), ("events", None))
    ]
    write_table(folder / "mixed.parquet", pd.concat(tables, ignore_index=True))
    return folder / "mixed.parquet"


@pytest.fixture(scope="session")
def record(tiny_model_folder, stimuli):
    """Record into a folder; returns the manifest."""

    def run(out, shard=0, table=stimuli, model=tiny_model_folder, load=None, **options):
        values = {
            "max_new_tokens": 4,
            "rows": 8,
            "quantities": QUANTITIES,
            "full": ("router", "neuron"),
            **options,
        }
        return record_task(
            out=out / f"{shard}.zarr",
            manifest=out / f"{shard}.zarr.manifest.json",
            subject="tiny",
            model=model,
            task="mixed",
            stimuli=table,
            shard=shard,
            options=RecordOptions(**values),
            load=load,
            seed=0,
            provenance={"stage": "record"},
        )

    return run


@pytest.fixture(scope="session")
def recorded(record, tmp_path_factory):
    """The recording, opened."""
    out = tmp_path_factory.mktemp("recordings")
    record(out)
    return open_recording(out / "0.zarr", out / "0.zarr.manifest.json")
