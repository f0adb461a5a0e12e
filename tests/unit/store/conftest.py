"""Recordings of a few rows, cut so small that a few rows cross chunks and blocks."""

import numpy as np
import pandas as pd
import pytest

from lmri.store import RecordingWriter, layout, manifest_path, write_manifest

BATCHES = (1, 5, 3, 8, 2)  # rows of each append
ROWS = sum(BATCHES)
SLOTS = ("token", "layer", "slot")


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of at most 32 bytes; rows from 24 bytes are cut by layer, blocks have 64 bytes."""
    monkeypatch.setattr(layout, "CHUNK_BYTES", 32)
    monkeypatch.setattr(layout, "LARGEST_CHUNK_BYTES", 64)
    monkeypatch.setattr(layout, "BLOCK_BYTES", 64)
    monkeypatch.setattr(layout, "LARGE_ROW_BYTES", 16)


@pytest.fixture
def values():
    """Expert ids (token, 2 layers, 3 slots), weights of the same shape, norms (trial, layer)."""
    rng = np.random.default_rng(0)
    return {
        "tokens/router/expert_id": rng.integers(0, 8, (ROWS, 2, 3)).astype(np.uint8),
        "tokens/router/weight": rng.normal(size=(ROWS, 2, 3)).astype(np.float32),
        "pooled/layer/norm": rng.normal(size=(ROWS, 2)).astype(np.float32),
    }


@pytest.fixture
def write(small_chunks, values):
    """Write the values in five appends and the manifest; returns what closing told."""

    def write(path, dtype=None, attributes=None, **options):
        path.mkdir(parents=True)
        told = {"subject": "tiny", "task": "events", **(attributes or {})}
        with RecordingWriter(path, told, **options) as writer:
            start = 0
            for count in BATCHES:
                rows = slice(start, start + count)
                _append(writer, values, rows, dtype)
                trials = {"trial": [f"é{i}" for i in range(rows.start, rows.stop)]}
                table = pd.DataFrame({**trials, "ended": start % 2 == 0})
                writer.append_trials(table.assign(score=np.arange(count) / 7))
                start += count
            arrays = writer.close()
        write_manifest(path, manifest_path(path), arrays=arrays, provenance={"stage": "record"})
        return arrays

    return write


@pytest.fixture
def path(tmp_path, write):
    """One recording with its manifest."""
    write(tmp_path / "0.zarr")
    return tmp_path / "0.zarr"


def _append(writer, values, rows, dtype):
    layers = {"layer": [1, 4]}
    trial = np.arange(rows.start, rows.stop, dtype=np.int32)
    writer.append("tokens/index", "trial", trial, ("token",))
    experts = values["tokens/router/expert_id"][rows]
    writer.append("tokens/router", "expert_id", experts, SLOTS, layers)
    weights = values["tokens/router/weight"][rows]
    writer.append("tokens/router", "weight", weights, SLOTS, dtype=dtype)
    norms = values["pooled/layer/norm"][rows]
    units = {"units": "1"}
    writer.append("pooled/layer", "norm", norms, ("trial", "layer"), layers, units)
