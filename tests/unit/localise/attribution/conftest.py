"""Subjects for attribution: the tiny model of any architecture, traced."""

from functools import cache

import pytest
import torch
from families import configuration, random_model, tokens

from lmri.anatomy import Subject, describe

PAIR = torch.tensor([[5, 9], [7, 6]])


def as_subject(model, name="tiny", tokenizer=None):
    """A subject of a model, without a tokenizer unless one is given."""
    return Subject(name, model, tokenizer, describe(model))


@cache
def own_model(kind):
    """The tiny model of an architecture, of these tests alone: others take its gradients."""
    return random_model(configuration(kind))


@pytest.fixture
def subject_of():
    """The subject of an architecture."""
    return lambda kind: as_subject(own_model(kind))


@pytest.fixture
def make_subject():
    """A subject of a model."""
    return as_subject


@pytest.fixture
def pair_of():
    """Clean and corrupted prompts that differ in one token, and the tokens compared."""

    def make(kind, length=10):
        clean = tokens(kind, 2, length)
        corrupted = clean.clone()
        corrupted[:, 3] = torch.tensor([25, 30])
        return clean, corrupted, PAIR

    return make
