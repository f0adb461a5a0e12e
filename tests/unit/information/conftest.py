"""Recordings in memory, and subjects of any architecture."""

import numpy as np
import pandas as pd
import pytest
from families import tiny_model
from streams import FakeRecording

from lmri.anatomy import Subject, describe
from lmri.config import RecordOptions, SplitOptions, TaskOptions, WorldOptions
from lmri.record import record_task
from lmri.stimuli import write_stimuli
from lmri.store import open_recording


class InMemory(FakeRecording):
    """With the attributes and the name of a store."""

    def __init__(self, *args):
        super().__init__(*args)
        self.attributes, self.path = {"architecture": "llama"}, "0.zarr"

    def array(self, name):
        """The array, in chunks as it is streamed."""
        found = super().array(name)
        found.chunks = (self._block,)
        return found

    def holds(self, name):
        """Whether there is such an array."""
        return name in self._arrays


@pytest.fixture
def generator():
    """Random numbers that are the same in every test."""
    return np.random.default_rng(0)


@pytest.fixture
def subject_of():
    """The tiny subject of an architecture."""

    def make(kind):
        model = tiny_model(kind)
        return Subject("tiny", model, None, describe(model))

    return make


@pytest.fixture
def record_texts():
    """A recording of texts, (ids, spans) each, streamed in blocks of so many tokens."""

    def make(texts, splits=None, block=5, **arrays):
        trial = np.repeat(np.arange(len(texts)), [len(ids) for ids, _ in texts])
        index = {
            "trial": trial,
            "token_id": np.concatenate([ids for ids, _ in texts]),
            "phase": np.concatenate([spans for _, spans in texts]),
            "position": np.concatenate([np.arange(len(ids)) for ids, _ in texts]),
        }
        tokens = {f"tokens/index/{name}": values.astype(np.int32) for name, values in index.items()}
        table = pd.DataFrame(
            {
                "trial": [str(i) for i in range(len(texts))],
                "split": splits or "selection",
                "n_prompt": [int((spans == 0).sum()) for _, spans in texts],
                "n_response": [int((spans == 1).sum()) for _, spans in texts],
            }
        )
        return InMemory(table, tokens | arrays, block)

    return make


@pytest.fixture(scope="session")
def stimuli(tmp_path_factory):
    """Sequences to repeat, of the small world."""
    table = tmp_path_factory.mktemp("stimuli") / "copying.parquet"
    write_stimuli(
        out=table,
        task="copying",
        options=TaskOptions("copying", "world", trials=20),
        splits=SplitOptions(0.4, 0.3, 0.3),
        world=WorldOptions(size="small"),
        seed=0,
        provenance={},
    )
    return table


@pytest.fixture(scope="session")
def recorded(tiny_model_folder, stimuli, tmp_path_factory):
    """Two shards of a recording with the residual in full, and attention."""
    out = tmp_path_factory.mktemp("recordings")
    options = RecordOptions(
        max_new_tokens=4,
        shards=2,
        quantities=("router", "layer", "residual", "attention"),
        full=("router", "residual", "attention"),
        stored="float32",
    )
    shards = []
    for shard in range(2):
        store, manifest = out / f"{shard}.zarr", out / f"{shard}.zarr.manifest.json"
        record_task(
            out=store,
            manifest=manifest,
            subject="tiny",
            model=tiny_model_folder,
            task="copying",
            stimuli=stimuli,
            shard=shard,
            options=options,
            seed=0,
            provenance={"stage": "record"},
        )
        shards.append(open_recording(store, manifest))
    return shards


PLANTED, PLANTED_UNITS = 120, 12
PLANTED_PHASES = ["content", "response", "think"]


@pytest.fixture
def planted(record_texts, generator):
    """Trials of two classes that differ in layer 1 in the response, and in nothing else."""
    condition = np.arange(PLANTED) // 2 % 2
    states = generator.standard_normal((PLANTED, len(PLANTED_PHASES), 2, 2, PLANTED_UNITS))
    states[:, 1, :, 1, :4] += 4.0 * np.where(condition, 1, -1)[:, None, None]
    states[:, 1, :, 1, 4] *= np.where(condition, 1, 0.01)[:, None]
    states[:, 2] = np.nan
    arrays = {}
    for node, values in (
        ("residual/residual", np.stack([states, states + 0.5], axis=4)),
        ("neuron/activation", states),
        ("preactivation/preactivation", states),
    ):
        name, array = node.split("/")
        labels = {"statistic": ["mean", "last"], "layer": [0, 1], "place": ["before", "after"]}
        kept = {key: own for key, own in labels.items() if key != "place" or name == "residual"}
        arrays |= {f"pooled/{name}/{key}": np.array(own) for key, own in kept.items()}
        arrays[f"pooled/{name}/{array}"] = values
    splits = ["selection", "calibration"] * (PLANTED // 2)
    recording = record_texts([(np.arange(1), np.zeros(1, int))] * PLANTED, splits, 32, **arrays)
    recording.attributes["phases"] = PLANTED_PHASES
    recording.trials["condition"] = np.where(condition, "sensitive", "benign")
    recording.trials["carrier_place"] = [f"p{i // 12}" for i in range(PLANTED)]
    return recording
