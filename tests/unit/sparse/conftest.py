"""Tiny subjects that read random texts."""

from types import SimpleNamespace

import numpy as np
import pytest
from families import tiny_model

from lmri.anatomy import Subject, describe
from lmri.sparse.calibration import Activity, Texts


@pytest.fixture(scope="session")
def reading():
    """Make the activity of a tiny model of an architecture, or of another model."""

    def make(kind, texts=12, subject="", model=None, lengths=(8, 14), **options):
        rng = np.random.default_rng(0)
        sizes = rng.integers(*lengths, size=texts)
        tokens = tuple(rng.integers(3, 100, size=size) for size in sizes)
        model = tiny_model(kind) if model is None else model
        own = Subject(kind, model, SimpleNamespace(pad_token_id=0), describe(model))
        names = tuple(map(str, range(texts)))
        options = {"least_tokens": 16, "batch_tokens": 60, **options}
        return Activity(own, Texts(names, tokens, subject), **options)

    return make


@pytest.fixture(scope="session")
def collected():
    """Gather all values of a score, one row each."""

    def collect(activity, score):
        import torch

        found = []
        activity.look({score.site: [lambda look: found.append(score.of(look))]})
        return torch.cat(found)

    return collect
