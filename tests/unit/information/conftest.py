"""Recordings in memory, and subjects of any architecture."""

import numpy as np
import pandas as pd
import pytest
from families import tiny_model
from streams import FakeRecording

from lmri.anatomy import Subject, describe


class InMemory(FakeRecording):
    """With the attributes and the name of a store."""

    def __init__(self, *args):
        super().__init__(*args)
        self.attributes, self.path = {}, "0.zarr"


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
        names = [str(i) for i in range(len(texts))]
        table = pd.DataFrame({"trial": names, "split": splits or "selection"})
        return InMemory(table, tokens | arrays, block)

    return make
